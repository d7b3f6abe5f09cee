"""What a tower is told of the other side, a picture or a sound that is there, in the way that it has learned.

Tokens behind its text, or vectors that are added to its stream moment by moment.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...core.errors import IncompatibleWeightsError, InputError
from ...core.pair import OTHER, THINGS
from ...core.types import Conditioning, FrameShifts, ModalityConditioning

if TYPE_CHECKING:
    from ..families.base import FamilyModel
    from ..weights.alignment import LoadedAlignment


@torch.no_grad()
def conditioned(
    conditioning: Conditioning,
    loaded: LoadedAlignment,
    given: str,
    latents: Tensor,
    *,
    strength: float = 1.0,
    support: str = "learned",
    num_frames: int | None = None,
) -> Conditioning:
    """Captions, and with that of the side to be made what the other side shows.

    Args:
        conditioning: Encoded captions; the text rows stay as they are, to the bit.
        loaded: The alignment.
        given: The side that is there, ``video`` or ``audio``.
        latents: Its latents in the towers' space ``(B, C, T, H, W)`` or ``(B, C, L)``.
        strength: From what says nothing (0) to what the clip says (1); more exaggerates.
        support: ``learned``, or ``all`` dimensions as printed.
        num_frames: Of a sound, the latent frames of the picture to be made; None as in training.

    Raises:
        InputError: no caption for the side to be made, a strength that is no number from 0 to 10, latents of another
            codec or batch.
        IncompatibleWeightsError: no tower of that side has learned to read this alignment, or one of another width.
    """
    made, alignment = OTHER[given], loaded.alignment
    text = getattr(conditioning, made)
    if text is None:
        what = f"there is no encoded {made} caption behind which the {THINGS[given]} can be told"
        raise InputError(what, expected=f"a caption for the {THINGS[made]}")
    if not (math.isfinite(strength) and 0 <= strength <= 10):
        raise InputError("the strength of a condition is out of range", got=strength, expected="0 to 10, usually 1")
    weights = require_reader(loaded, made, text.positive.shape[2])
    frames = latents.shape[2] if given == "video" else num_frames or alignment.config.frames_of(latents.shape[2])
    vectors = alignment.fold(given, latents.to(weights.null.device), frames)
    told = alignment.told(given, vectors, alignment.times(frames), support=support)
    nulls = weights.null.expand_as(told)
    told = torch.lerp(nulls, told, float(strength))
    if alignment.way(made) == "tokens":
        return replace(conditioning, **{made: _longer(text, told, nulls)})
    _batch_of(text, told)
    shifts = FrameShifts(told, nulls, alignment.edges(made, frames), frames if made == "video" else None)
    return replace(conditioning, **{made: replace(text, frames=shifts, is_told=True)})


def require_reader(loaded: LoadedAlignment, side: str, text_width: int) -> torch.nn.Module:
    """What makes for a side's tower what it reads.

    Raises:
        IncompatibleWeightsError: there is none, or its tokens are for a tower of another width.
    """
    alignment = loaded.alignment
    if not alignment.reads(side):
        raise IncompatibleWeightsError(
            f"no {side} tower has learned to read this alignment",
            got=f"{loaded.source}, {loaded.summary()}",
            expected=f"the file that recipe sava_{side} writes",
        )
    width = alignment.config.text_widths[side]
    if alignment.way(side) == "tokens" and width != text_width:
        raise IncompatibleWeightsError(
            f"the alignment was made for another {side} tower",
            got=f"tokens of width {width} in {loaded.source}",
            expected=f"width {text_width}, that of this model's {side} text",
        )
    return alignment.reader_for(side)


def _batch_of(text: ModalityConditioning, told: Tensor) -> int:
    """The batch of both; one of one serves any."""
    batches = {len(text.positive), len(told)} - {1}
    if len(batches) > 1:
        raise InputError(
            "the captions are not as many as the clips that they are told of",
            got=f"{len(text.positive)} captions and {len(told)} clips",
            expected="as many, or one for all",
        )
    return max(batches, default=1)


def _longer(text: ModalityConditioning, tokens: Tensor, nulls: Tensor) -> ModalityConditioning:
    """Both texts with tokens behind them."""
    batch = _batch_of(text, tokens)

    def behind(rows: Tensor | None, more: Tensor) -> Tensor | None:
        if rows is None:
            return None
        wide = [each.expand(batch, -1, -1) for each in (rows, more.to(rows))]
        return torch.cat(wide, 1)

    return replace(text, positive=behind(text.positive, tokens), negative=behind(text.negative, nulls), is_told=True)


def reading(model: FamilyModel, loaded: LoadedAlignment, side: str) -> FamilyModel:
    """The model whose tower of a side is told of the other side: with the LoRA that it learned with.

    Without being told it is another model, so the LoRA is on in these stages only.

    Args:
        model: Stays as it is.
        loaded: The alignment.
        side: ``video`` or ``audio``, which is made.

    Raises:
        IncompatibleWeightsError: a LoRA, or something to be added to the stream, for another tower.
        InputError: a family that takes none.
    """
    lora, width = loaded.loras.get(side), loaded.alignment.config.stream_widths[side]
    tower = getattr(model.sides[side], "tower", None)
    if width and tower is not None and tower.width != width:
        raise IncompatibleWeightsError(
            f"the alignment was made for another {side} tower",
            got=f"a stream of width {width} in {loaded.source}",
            expected=f"width {tower.width}, that of this model's {side} tower",
        )
    return model if lora is None else model.with_lora(lora, part=side)
