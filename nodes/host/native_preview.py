"""How ComfyUI's own latents are shown while they are sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from comfy.ldm.audio.autoencoder import AudioOobleckVAE
from torch import Tensor, nn

from ...core.errors import InputError
from ...core.progress import SILENT, Progress, stoppable
from ...media.preview import AffineMap, PreviewMaps, fit_levels
from ...models.counting import counted, stopping

if TYPE_CHECKING:
    import comfy.latent_formats
    import comfy.sd

    from .native import NativeSide

_LEVELS: WeakKeyDictionary[nn.Module, AffineMap] = WeakKeyDictionary()


class _NativeOobleck:
    """ComfyUI's VAE of Stable Audio as the fit wants a codec; each of its layers is a unit.

    Args:
        vae: ComfyUI's VAE.

    Raises:
        InputError: another VAE.
    """

    channels, sample_rate = 2, 44_100  # ComfyUI's nodes for its sound know no others

    def __init__(self, vae: comfy.sd.VAE) -> None:
        self._vae, self.net = vae, vae.first_stage_model
        if not isinstance(self.net, AudioOobleckVAE):
            raise InputError(
                "this is not the VAE of Stable Audio",
                got=type(self.net).__name__,
                expected="the VAE of the Stable Audio Open checkpoint as audio_vae",
                remedy="Connect the one that Load Checkpoint gives, or leave it open to see no sound.",
            )
        self.hop = vae.downscale_ratio

    def encode(self, waveform: Tensor, *, progress: Progress) -> Tensor:
        """Waveform ``(channels, samples)`` to latents ``(1, C, L)``."""
        layers = self.net.encoder.layers
        with stoppable(progress), stopping(self.net), counted(layers, "encode", len(layers), progress):
            return self._vae.encode(waveform.T[None])

    def decode(self, latents: Tensor, *, progress: Progress) -> Tensor:
        """And back."""
        layers = self.net.decoder.layers
        with stoppable(progress), stopping(self.net), counted(layers, "decode", len(layers), progress):
            return self._vae.decode(latents)[0].T


def preview_maps(
    sides: list[NativeSide], audio_vae: comfy.sd.VAE | None = None, progress: Progress = SILENT
) -> PreviewMaps:
    """The colours that ComfyUI knows of Wan's latents, and the levels of the sound as its VAE decodes it.

    To be called before the sampler fills the device.

    Args:
        sides: What is sampled.
        audio_vae: ComfyUI's VAE of Stable Audio; its levels are fitted once and kept as long as it lives. ComfyUI
            knows none, so without it the sound is not shown.
        progress: Told as stage ``preview``, once a layer of a VAE that is not known yet.

    Raises:
        InputError: another kind of VAE.
    """
    models = {side.name: side.model.model for side in sides}
    colours = _colours(models["video"].latent_format) if "video" in models else None
    if "audio" not in models or audio_vae is None:
        return PreviewMaps(colours)
    codec = _NativeOobleck(audio_vae)
    if codec.net not in _LEVELS:
        _LEVELS[codec.net] = fit_levels(codec, progress.told_as("preview"))
    return PreviewMaps(colours, _LEVELS[codec.net], codec.hop / codec.sample_rate)


def _colours(known: comfy.latent_formats.LatentFormat) -> AffineMap | None:
    if known.latent_rgb_factors is None:
        return None
    bias = known.latent_rgb_factors_bias or [0.0, 0.0, 0.0]
    # They give -1..1.
    return AffineMap(torch.tensor(known.latent_rgb_factors) / 2, torch.tensor(bias) / 2 + 0.5)
