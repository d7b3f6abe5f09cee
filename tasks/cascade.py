"""One side after the other (SAVA): the second tower is told what the first one made; one at a time is in memory.

``video-first`` makes the picture from its text and then the sound; ``audio-first`` the other way; ``both-ways`` makes
picture, sound, and then the picture again, told of the sound: the sound is that of ``video-first``, to the bit.
"""

from __future__ import annotations

from torch import Tensor

from ..core.clock import Timeline
from ..core.errors import InputError, require_choice
from ..core.pair import OTHER
from ..core.types import AVClip, JointLatents
from ..pipeline import decode_latents
from ..sampling.windows import OFF
from .base import Run, made_alone
from .orders import ORDERS


def cascade(run: Run, timeline: Timeline, order: str) -> AVClip:
    """Make a clip, one side after the other.

    Args:
        run: Model, captions, options and how a side is told of the other (``run.reading``).
        timeline: The clip's extent.
        order: A key of :data:`ORDERS`.

    Raises:
        InputError: an unknown order, no alignment, or a model without two towers.
        IncompatibleWeightsError: an alignment that a tower of this order does not read.
    """
    latents = cascade_latents(run, timeline, order)
    return decode_latents(latents, fps=timeline.fps, **run.codecs())


def cascade_latents(run: Run, timeline: Timeline, order: str) -> JointLatents:
    """The latents of both sides; arguments and errors as :func:`cascade`."""
    require_choice("order", order, ORDERS)
    if run.reading is None:
        raise InputError("a side is told of the other by an alignment", expected="an alignment file (SAVA)")
    if run.options.windows != OFF:
        raise InputError(
            "a cascade is made at once: what the other side shows is told of a whole clip",
            got=f"windows {run.options.windows}",
            expected=f"windows {OFF}",
        )
    first, *after = ORDERS[order]
    for side in after:
        run.reading.require(run.model, side)
    conditioning = run.conditioning(timeline)
    made: dict[str, Tensor] = {first: made_alone(run, first, timeline, conditioning)}
    for side in after:
        made[side] = made_alone(run, side, timeline, conditioning, told_of=made[OTHER[side]])
    return JointLatents(**made)
