"""What is trained, as one module a task: a batch of plain tensors in, its losses out.

The module is the root that accelerate wraps, so that data-parallel, sharded and DeepSpeed training see one forward.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, AutoencoderOobleck
from torch import Tensor, nn

from ..core.clock import ClipTimes
from ..core.types import Modality
from ..models.joint import JointModel
from .codec_losses import edge_loss, stft_loss
from .config import ObjectiveConfig
from .objectives import TrainingBatch, add_noise, joint_loss
from .sound_codes import require_fit, sound_codes

LATENT_KEYS = ("video_latents", "audio_latents", "video_text", "audio_text", "duration")


class JointStep(nn.Module):
    """Denoising of both modalities, or of one when the joint model has one tower.

    Args:
        joint: Towers and bridges.
        objective: How the video timestep is read.
        precision: ``float32``, ``bf16`` (autocast) or ``pure-bf16``.
        times: When the latent steps of a training clip lie; None takes it from their numbers.
    """

    def __init__(
        self, joint: JointModel, objective: ObjectiveConfig, precision: str, times: ClipTimes | None = None
    ) -> None:
        super().__init__()
        self.joint, self.objective, self.precision, self.times = joint, objective, precision, times

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses ``total``, and ``video`` and ``audio`` where present.

        Args:
            batch: ``t (B,)``, and by modality latents, noise, text; ``duration`` for audio, and ``audio_t (B,)`` where
                it has a time of its own.
        """
        noisy = add_noise(
            TrainingBatch(**{key: batch.get(key) for key in LATENT_KEYS}),
            t=batch["t"],
            audio_t=batch.get("audio_t"),
            video_noise=batch.get("video_noise"),
            audio_noise=batch.get("audio_noise"),
            reading=self.objective.timestep,
        )
        with torch.autocast(batch["t"].device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            loss = joint_loss(self._denoise, noisy)
        losses = {"total": loss.total, "video": loss.video, "audio": loss.audio}
        return {name: value for name, value in losses.items() if value is not None}

    def _denoise(self, video: Modality | None, audio: Modality | None) -> tuple[Tensor | None, Tensor | None]:
        if self.precision == "pure-bf16":
            video, audio = _rounded(video), _rounded(audio)
        return self.joint(video, audio, times=self.times)


def _rounded(modality: Modality | None) -> Modality | None:
    """Everything a tower reads in bfloat16, as in the released code; whole timesteps stay whole."""
    if modality is None:
        return None
    tensors = (modality.latents, modality.timestep, modality.text, modality.duration)
    return Modality(*(x.bfloat16() if x is not None and x.is_floating_point() else x for x in tensors))


class VideoCodecStep(nn.Module):
    """Reconstruction of pictures through the Wan autoencoder.

    ``loss = L1 + edge_weight · L1 of spatial differences + kl_weight · KL(posterior ‖ N(0, 1))``; no KL where the
    encoder does not learn. ``objective.code_noise`` is in units of the normalised latents.

    Args:
        vae: To be trained.
        objective: Weights.
        precision: ``float32`` or ``bf16``.
    """

    modality = "video"

    def __init__(self, vae: AutoencoderKLWan, objective: ObjectiveConfig, precision: str) -> None:
        super().__init__()
        self.vae, self.objective, self.precision = vae, objective, precision

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses ``total``, ``pixels``, ``edges`` and ``kl`` of pictures ``video (B, 3, F, H, W)`` in -1..1."""
        pictures, noise = batch["video"], batch["noise"]
        blur = self.objective.code_noise * noise.new_tensor(self.vae.config.latents_std).view(1, -1, 1, 1, 1)
        with torch.autocast(pictures.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            with torch.set_grad_enabled(_learns(self.vae.encoder)):
                posterior = self.vae.encode(pictures).latent_dist
            decoded = self._decode(posterior.mean + (posterior.std + blur) * noise)
        pixels, edges = F.l1_loss(decoded.float(), pictures), edge_loss(decoded.float(), pictures)
        if not _is_trained(self.vae.encoder):
            return {"total": pixels + self.objective.edge_weight * edges, "pixels": pixels, "edges": edges}
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1).mean()
        total = pixels + self.objective.edge_weight * edges + self.objective.kl_weight * kl
        return {"total": total, "pixels": pixels, "edges": edges, "kl": kl}

    def _decode(self, latents: Tensor) -> Tensor:
        """The stock decode before its clamp to -1..1, beyond which no gradient would call the decoder back."""
        chunks: list[Tensor] = []
        hook = self.vae.decoder.register_forward_hook(lambda module, inputs, output: chunks.append(output))
        try:
            self.vae.decode(latents)
        finally:
            hook.remove()
        return torch.cat(chunks, dim=2)


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

    modality = "audio"

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
            if given is None or _learns(self.vae.encoder):
                with torch.set_grad_enabled(_learns(self.vae.encoder)):
                    posterior = self.vae.encode(sound).latent_dist
            if given is None or _learns(self.vae.decoder):
                latents = posterior.mean + posterior.std * batch["noise"] if given is None else given
                decoded = self.vae.decode(latents + weights.code_noise * batch["noise"]).sample.float()
                losses |= {"stft": stft_loss(decoded, sound), "waveform": F.l1_loss(decoded, sound)}
        if given is None:
            mean, var = posterior.mean.float(), posterior.std.float().square()
            losses["kl"] = 0.5 * (mean.square() + var - 1 - var.log()).sum(1).mean()
        elif _learns(self.vae.encoder):
            losses["codes"] = F.mse_loss(posterior.mean.float(), given)
        factors = {
            "stft": weights.stft_weight,
            "waveform": weights.waveform_weight,
            "kl": weights.kl_weight,
            "codes": 1.0,
        }
        return {"total": sum(factors[name] * value for name, value in losses.items()), **losses}


def _learns(module: nn.Module) -> bool:
    return torch.is_grad_enabled() and _is_trained(module)


def _is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())
