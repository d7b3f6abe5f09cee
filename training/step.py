"""What is trained, as one module a task: a batch of plain tensors in, its losses out.

The module is the root that accelerate wraps, so that data-parallel, sharded and DeepSpeed training see one forward.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, AutoencoderOobleck
from torch import Tensor, nn

from ..core.types import Modality
from ..models.joint import JointModel
from .codec_losses import edge_loss, stft_loss
from .config import ObjectiveConfig
from .objectives import TrainingBatch, add_noise, joint_loss

LATENT_KEYS = ("video_latents", "audio_latents", "video_text", "audio_text", "duration")


class JointStep(nn.Module):
    """Denoising of both modalities, or of one when the joint model has one tower.

    Args:
        joint: Towers and bridges.
        objective: How the video timestep is read.
        precision: ``float32``, ``bf16`` (autocast) or ``pure-bf16``.
    """

    def __init__(self, joint: JointModel, objective: ObjectiveConfig, precision: str) -> None:
        super().__init__()
        self.joint, self.objective, self.precision = joint, objective, precision

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses ``total``, and ``video`` and ``audio`` where present.

        Args:
            batch: ``t (B,)``, and by modality latents, noise, text; ``duration`` for audio.
        """
        noisy = add_noise(
            TrainingBatch(**{key: batch.get(key) for key in LATENT_KEYS}),
            t=batch["t"],
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
        return self.joint(video, audio)


def _rounded(modality: Modality | None) -> Modality | None:
    """Everything a tower reads in bfloat16, as in the released code; whole timesteps stay whole."""
    if modality is None:
        return None
    tensors = (modality.latents, modality.timestep, modality.text, modality.duration)
    return Modality(*(x.bfloat16() if x is not None and x.is_floating_point() else x for x in tensors))


class VideoCodecStep(nn.Module):
    """Reconstruction of pictures through the Wan autoencoder.

    ``loss = L1 + edge_weight · L1 of spatial differences + kl_weight · KL(posterior ‖ N(0, 1))``.

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
        pictures = batch["video"]
        with torch.autocast(pictures.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            posterior = self.vae.encode(pictures).latent_dist
            decoded = self._decode(posterior.mean + posterior.std * batch["noise"])
        pixels, edges = F.l1_loss(decoded.float(), pictures), edge_loss(decoded.float(), pictures)
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
    STFT is taken of left and right and of their sum and difference, so that the place of a sound counts too.

    Args:
        vae: To be trained.
        objective: Weights.
        precision: ``float32`` or ``bf16``.
    """

    modality = "audio"

    def __init__(self, vae: AutoencoderOobleck, objective: ObjectiveConfig, precision: str) -> None:
        super().__init__()
        self.vae, self.objective, self.precision = vae, objective, precision

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses ``total``, ``stft``, ``waveform`` and ``kl`` of waveforms ``audio (B, 2, samples)``."""
        sound = batch["audio"]
        with torch.autocast(sound.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            posterior = self.vae.encode(sound).latent_dist
            decoded = self.vae.decode(posterior.mean + posterior.std * batch["noise"]).sample.float()
        stft, waveform = stft_loss(decoded, sound), F.l1_loss(decoded, sound)
        mean, var = posterior.mean.float(), posterior.std.float().square()
        kl = 0.5 * (mean.square() + var - 1 - var.log()).sum(1).mean()
        weights = self.objective
        total = weights.stft_weight * stft + weights.waveform_weight * waveform + weights.kl_weight * kl
        return {"total": total, "stft": stft, "waveform": waveform, "kl": kl}
