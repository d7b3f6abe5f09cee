"""The maps by which latents are shown while they are sampled, fitted to a model's codecs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from .core.progress import SILENT, Progress, stoppable
from .core.types import JointLatents
from .media.preview import AffineMap, Preview, PreviewMaps, fit_colours, fit_levels
from .models.execution import execution_device
from .models.families.base import FamilyModel
from .models.placement import on_device
from .models.plan.duration import quick_or_seconds

# Latents that no linear map shows are decoded, at every so many steps.
EVERY = 5
_PREVIEW_MAPS: WeakKeyDictionary[nn.Module, AffineMap] = WeakKeyDictionary()


@dataclass(frozen=True)
class DecodedPreviews:
    """Shows estimates by decoding them with an autoencoder of both sides.

    Args:
        model: Whose autoencoder, which offers ``shown(latents)``.
    """

    model: FamilyModel

    def render(self, latents: JointLatents) -> Preview | None:
        """The estimate of the first clip of a batch; None where decoding it would hold the sampler up."""
        whole, placement = self.model.codecs.video.whole, self.model.placement
        is_there = placement.device.type != "cpu" and execution_device(whole.model).type == placement.device.type
        if not is_there and quick_or_seconds(whole.operations(), placement):
            return None
        first = (None if one is None else one[:1] for one in (latents.video, latents.audio))
        return Preview(*whole.shown(*first), self.model.own.seconds)

    def watch(self, progress: Progress) -> Progress:
        """The same progress, but its previews are pictures, and only some steps have one."""

        def report(stage: str, done: int, total: int, preview: Callable[[], Any] | None = None) -> None:
            is_due = preview is not None and (done % EVERY == 0 or done == total)
            progress.report(stage, done, total, (lambda: self.render(preview())) if is_due else None)

        return replace(progress, report=report)


def preview_maps(model: FamilyModel, progress: Progress = SILENT) -> PreviewMaps | DecodedPreviews:
    """The maps that show latents while they are sampled, fitted once a codec and kept as long as it lives.

    To be called before the sampler fills the device. Latents that are no picture, as their codec says in
    ``linear_previews``, are decoded where the autoencoder of both sides can show them, and else not shown.

    Args:
        model: Whose codecs make and read the latents.
        progress: Told as stage ``preview``; one unit a block of each codec that is not known yet.
    """
    if hasattr(getattr(model.codecs.video, "whole", None), "shown"):
        return DecodedPreviews(model)
    maps = []
    for codec, fit in zip(model.codecs, (fit_colours, fit_levels), strict=True):
        shown = codec is not None and getattr(codec, "linear_previews", True)
        if shown and codec not in _PREVIEW_MAPS:
            with stoppable(progress), on_device(codec, model.placement):
                _PREVIEW_MAPS[codec] = fit(codec, progress.told_as("preview"))
        maps.append(_PREVIEW_MAPS[codec] if shown else None)
    audio = model.codecs.audio
    return PreviewMaps(*maps, audio.hop / audio.sample_rate if maps[1] is not None else None)
