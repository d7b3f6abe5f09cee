"""What a run is set up with besides the way itself, and what the user is told of it.

How given sides are shown, which devices take part, whether blocks are compiled; weights in captions, bridges that were
trained for something else, settings that a LoRA was not made for.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from .core.dialect import caption_notes
from .core.pair import MODALITIES, Pair
from .core.progress import Progress
from .core.types import Captions
from .models.bridge_use import SIDE_GIVEN, apart, given_level, misused
from .models.compiled import compiled, why_not_compiled
from .models.families.base import FamilyModel
from .models.lora.distilled import asked_otherwise, strongest
from .models.plan.fit import note
from .models.replicas import require_shared
from .sampling.given import Given
from .sampling.options import SamplingOptions

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from .core.device import Placement
    from .models.bridge_use import BridgeUse
    from .sampling.guidance import Guidance


def told_of_captions(captions: Captions, negatives: Captions) -> list[str]:
    """What a user should know of captions and negatives: which weights are applied, and what is not read."""
    named = {
        "video caption": captions.video,
        "audio caption": captions.audio,
        "video negative": negatives.video,
        "audio negative": negatives.audio,
    }
    return [note for name, text in named.items() for note in caption_notes(name, text)]


def as_trained(given: Pair[Given], use: BridgeUse | None) -> Pair[Given]:
    """What is given, at the bridges' own level where it is shown at one level and nobody asked for another.

    Args:
        given: By modality.
        use: What the bridges were trained for; None where their file does not say it.
    """
    if use is None:
        return given
    sides = given.present.items()
    return Pair(**{side: replace(one, time=given_level(use, side, one.time)) for side, one in sides})


def tell_of_use(given: Pair[Given], use: BridgeUse | None, progress: Progress, schedule: str) -> None:
    """Say it where bridges are used for something else, or otherwise, than they were trained for.

    Args:
        given: What is known in a run of both modalities.
        use: As in :func:`as_trained`.
        progress: Told.
        schedule: Of the run.
    """
    tell(apart(use, schedule), progress)
    whole = next(((side, one) for side, one in given.present.items() if one.is_whole), None)
    if whole is None:
        tell(misused(use, "joint"), progress)
        return
    side, one = whole
    made = next(made for made, given_side in SIDE_GIVEN.items() if given_side == side)
    tell(misused(use, made, how=one.how, level=one.time), progress)


def tell_of_sides(
    model: FamilyModel, options: SamplingOptions, given: Pair[Given], sides: dict[str, bool], progress: Progress
) -> None:
    """What the user should know of how these sides are made by this model."""
    if all(sides.values()):
        tell(options.deaf(model.hears), progress)
        tell_of_use(given, model.use, progress, options.schedule)
    if sides["video"] and (given.video is None or not given.video.is_whole):
        found = strongest(lora.distilled for lora in model.loras)
        tell(asked_otherwise(found, options.num_steps, options.video_guidance_scale), progress)


def tell(sentence: str, progress: Progress) -> None:
    """Say it on the screen, on the node and in the notes of the run; nothing where there is nothing to say."""
    if sentence:
        note(sentence)
        progress.tell(sentence)


def on_devices(model: FamilyModel, options: SamplingOptions, guidance: Guidance, progress: Progress) -> FamilyModel:
    """The model with those of its devices that this run has a use for."""
    require_shared(model.root, model.placement, options.guidance_batching)
    shared = any(not needed.alone for side in MODALITIES for needed in guidance.passes(side))
    if shared or not model.placement.partners:
        return model
    tell("the second device does nothing in this run: no guidance pass runs beside the first one", progress)
    return replace(model, placement=replace(model.placement, partners=()))


def as_compiled(
    model: FamilyModel, placement: Placement, options: SamplingOptions, progress: Progress
) -> AbstractContextManager[None]:
    """The model's blocks compiled, where that was asked for and can be; where it cannot, that is told."""
    why = why_not_compiled(model.root, placement) if options.compile else ""
    tell(why, progress)
    if why or not options.compile:
        return nullcontext()
    return compiled(model.root, partial(tell, progress=progress))
