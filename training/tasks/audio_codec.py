"""Task ``audio_codec``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from diffusers import AutoencoderOobleck
from torch import Tensor, nn

from ...core.clock import Timeline
from ...models.codecs.oobleck import idle_units
from ..codec_losses import stft_loss
from ..samples import Place, Samples
from ..sections import ObjectiveConfig
from ..sound_codes import require_fit, sound_codes
from ..sound_variation import vary_sound
from ..statistics import latent_statistics, rescale_latents
from . import TRAINING_TASKS
from ._codec import CodecTask, learns
from .base import Sides, Trained


@TRAINING_TASKS.register("audio_codec")
class AudioCodec(CodecTask):
    """The Oobleck autoencoder, on windows of sound."""

    sides = ("audio",)
    halves: ClassVar[dict[str, tuple[str, ...]]] = {"encoder": ("encoder",), "decoder": ("decoder",)}

    def make_step(self, sides: Sides, timeline: Timeline) -> AudioCodecStep:
        """Reconstruction of sound."""
        return AudioCodecStep(sides.audio.codec.vae, self.config.objective, self.config.precision)

    def idle(self, step: nn.Module) -> Iterable[nn.Parameter]:
        """Units that nothing passes through."""
        return (parameter for unit in idle_units(step.vae) for parameter in unit.parameters())

    def make_samples(self, sides: Sides, timeline: Timeline, cache: Path) -> Sounds:
        """Windows of clips."""
        return Sounds(self.config, timeline, cache)

    def settle(self, vae: AutoencoderOobleck, trained: Trained) -> None:
        """Give learned latents a deviation of one; given codes have theirs."""
        if self.config.objective.codes == "learned":
            rescale_latents(vae, latent_statistics(vae, self.clips(trained))[1])


class AudioCodecStep(nn.Module):
    """Reconstruction of sound through the Oobleck autoencoder.

    ``loss = stft_weight · multi-resolution STFT + waveform_weight · L1 + kl_weight · KL(posterior ‖ N(0, 1))``; the
    STFT is taken of left and right and of their mean, so that the place of a sound counts too. With
    ``objective.codes = cepstral`` the encoder learns given codes (squared error, in place of the KL), and the decoder
    decodes those; then each half can learn without the other.

    Args:
        vae: To be trained.
        objective: Weights.
        precision: ``float32`` or ``bf16``.
    """

    def __init__(self, vae: AutoencoderOobleck, objective: ObjectiveConfig, precision: str) -> None:
        super().__init__()
        self.vae, self.objective, self.precision = vae, objective, precision
        if objective.codes == "cepstral":
            require_fit(vae.config.decoder_input_channels, vae.config.audio_channels)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses of ``audio (B, 2, samples)``: ``total``; by what learns ``stft``, ``waveform``, ``kl``, ``codes``."""
        sound, weights = batch["audio"], self.objective
        given = None
        if weights.codes == "cepstral":
            given = sound_codes(sound, hop=self.vae.hop_length, sample_rate=self.vae.config.sampling_rate)
        losses: dict[str, Tensor] = {}
        with torch.autocast(sound.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            if given is None or learns(self.vae.encoder):
                with torch.set_grad_enabled(learns(self.vae.encoder)):
                    posterior = self.vae.encode(sound).latent_dist
            if given is None or learns(self.vae.decoder):
                latents = posterior.mean + posterior.std * batch["noise"] if given is None else given
                decoded = self.vae.decode(latents + weights.code_noise * batch["noise"]).sample.float()
                losses |= {"stft": stft_loss(decoded, sound), "waveform": F.l1_loss(decoded, sound)}
        if given is None:
            mean, var = posterior.mean.float(), posterior.std.float().square()
            losses["kl"] = 0.5 * (mean.square() + var - 1 - var.log()).sum(1).mean()
        elif learns(self.vae.encoder):
            losses["codes"] = F.mse_loss(posterior.mean.float(), given)
        factors = {
            "stft": weights.stft_weight,
            "waveform": weights.waveform_weight,
            "kl": weights.kl_weight,
            "codes": 1.0,
        }
        return {"total": sum(factors[name] * value for name, value in losses.items()), **losses}


class Sounds(Samples):
    """``audio (2, samples)`` of a window that is drawn anew every time, and the posterior's ``noise``."""

    needs_media = True

    def row(self, place: Place) -> dict[str, Tensor]:
        """A window as long as whole latents, at times played at another speed."""
        sound = self.window(place.source, place.position).audio
        geometry, num_samples = self.timeline.geometry, self.timeline.num_samples
        num_latents = -(-num_samples // geometry.audio_hop)
        padded = F.pad(sound.waveform, (0, num_latents * geometry.audio_hop - num_samples))
        noise = torch.randn(geometry.audio_channels, num_latents, generator=place.generator)
        if float(torch.rand(1, generator=place.generator)) < self.config.data.varied_share:
            padded = vary_sound(padded, sound.sample_rate, place.generator)
        return {"audio": padded, "noise": noise}
