"""The maps by which latents are shown while they are sampled, fitted to a model's codecs."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from torch import nn

from .core.progress import SILENT, Progress, stoppable
from .media.preview import AffineMap, PreviewMaps, fit_colours, fit_levels
from .models.families.base import FamilyModel
from .models.placement import on_device

_PREVIEW_MAPS: WeakKeyDictionary[nn.Module, AffineMap] = WeakKeyDictionary()


def preview_maps(model: FamilyModel, progress: Progress = SILENT) -> PreviewMaps:
    """The maps that show latents while they are sampled, fitted once a codec and kept as long as it lives.

    To be called before the sampler fills the device. Of latents that are no picture, as their codec says in
    ``linear_previews``, nothing is shown.

    Args:
        model: Whose codecs make and read the latents.
        progress: Told as stage ``preview``; one unit a block of each codec that is not known yet.
    """
    maps = []
    for codec, fit in zip(model.codecs, (fit_colours, fit_levels), strict=True):
        shown = codec is not None and getattr(codec, "linear_previews", True)
        if shown and codec not in _PREVIEW_MAPS:
            with stoppable(progress), on_device(codec, model.placement):
                _PREVIEW_MAPS[codec] = fit(codec, progress.told_as("preview"))
        maps.append(_PREVIEW_MAPS[codec] if shown else None)
    audio = model.codecs.audio
    return PreviewMaps(*maps, audio.hop / audio.sample_rate if maps[1] is not None else None)
