"""The maps by which latents are shown while they are sampled, fitted to a model's codecs."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from torch import nn

from .core.progress import SILENT, Progress, stoppable
from .media.preview import AffineMap, PreviewMaps, fit_colours, fit_levels
from .models.joined import JoinedModel
from .models.placement import on_device

_PREVIEW_MAPS: WeakKeyDictionary[nn.Module, AffineMap] = WeakKeyDictionary()


def preview_maps(model: JoinedModel, progress: Progress = SILENT) -> PreviewMaps:
    """The maps that show latents while they are sampled, fitted once a codec and kept as long as it lives.

    To be called before the sampler fills the device.

    Args:
        model: Whose codecs make and read the latents.
        progress: Told as stage ``preview``; one unit a block of each codec that is not known yet.
    """
    maps = []
    for parts, fit in ((model.video, fit_colours), (model.audio, fit_levels)):
        if parts is not None and parts.codec not in _PREVIEW_MAPS:
            with stoppable(progress), on_device(parts.codec, model.placement):
                _PREVIEW_MAPS[parts.codec] = fit(parts.codec, progress.told_as("preview"))
        maps.append(parts and _PREVIEW_MAPS[parts.codec])
    audio = model.audio and model.audio.codec
    return PreviewMaps(*maps, audio and audio.hop / audio.sample_rate)
