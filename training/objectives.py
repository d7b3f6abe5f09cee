"""The training objectives of both towers, at one shared time t in 0..1 (BridgeDiT section 3.4) or each at its own.

The video's process is ``flow`` with time = timestep / 1000, the audio's ``cosine_v`` (:mod:`.sampling.processes`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..core.errors import require_choice
from ..core.pair import Pair
from ..core.protocols import Denoiser
from ..core.types import Modality
from ..sampling.processes import PROCESSES

# paper: the video timestep is 1000·t. official: the released code truncates 999·t to a whole number.
TIMESTEP_READINGS = ("paper", "official")


@dataclass(frozen=True)
class TrainingBatch:
    """Clean latents and encoded captions of one batch; a modality without latents is left out.

    Args:
        video_latents: ``(B, C, T, H, W)`` normalised.
        audio_latents: ``(B, C, L)``.
        video_text: ``(B, L, D)``.
        audio_text: ``(B, L, D)``.
        duration: ``(B, 1, D)``.
        video_frames: What is added to the video tower's stream at each latent step ``(B, T, D)``.
        audio_frames: Likewise ``(B, L, D)``.
    """

    video_latents: Tensor | None = None
    audio_latents: Tensor | None = None
    video_text: Tensor | None = None
    audio_text: Tensor | None = None
    duration: Tensor | None = None
    video_frames: Tensor | None = None
    audio_frames: Tensor | None = None


@dataclass(frozen=True)
class NoisyBatch:
    """A batch at time t: what the towers see and what they should say.

    Args:
        video: Input of the video tower, or None.
        audio: Input of the audio tower, or None.
        video_target: ``ε − x``.
        audio_target: v.
    """

    video: Modality | None
    audio: Modality | None
    video_target: Tensor | None
    audio_target: Tensor | None


@dataclass(frozen=True)
class JointLoss:
    """Mean squared errors; ``total = video + audio``, unweighted; an absent or given modality has none."""

    total: Tensor
    video: Tensor | None
    audio: Tensor | None


def video_timestep(t: Tensor, reading: str = "paper") -> Tensor:
    """The video tower's timestep 0..1000 that belongs to t.

    Args:
        t: ``(B,)`` in 0..1.
        reading: ``paper``: 1000·t; ``official``: trunc(999·t), whole numbers.
    """
    require_choice("timestep reading", reading, TIMESTEP_READINGS)
    return 1000.0 * t if reading == "paper" else (t * 999).long()


def add_noise(
    batch: TrainingBatch,
    *,
    t: Tensor,
    audio_t: Tensor | None = None,
    video_noise: Tensor | None = None,
    audio_noise: Tensor | None = None,
    reading: str = "paper",
) -> NoisyBatch:
    """Bring a batch to time t.

    Args:
        batch: Clean latents.
        t: ``(B,)``, one time a sample, shared by both modalities.
        audio_t: ``(B,)``, the audio's own times; None to share t.
        video_noise: N(0,1) like the video latents; None when they are absent.
        audio_noise: N(0,1) like the audio latents; None when they are absent.
        reading: Of the video timestep.
    """
    video = audio = video_target = audio_target = None
    flow, cosine = PROCESSES.get("flow"), PROCESSES.get("cosine_v")
    if batch.video_latents is not None:
        clean, timestep = batch.video_latents, video_timestep(t, reading)
        time = (timestep / 1000.0)[:, None, None, None, None]
        noisy = flow.add_noise(clean, video_noise, time)
        video = Modality(noisy, timestep, batch.video_text, frames=batch.video_frames)
        video_target = flow.target(clean, video_noise, time)
    if batch.audio_latents is not None:
        clean, audio_t = batch.audio_latents, t if audio_t is None else audio_t
        time = audio_t[:, None, None]
        noisy = cosine.add_noise(clean, audio_noise, time)
        audio = Modality(noisy, audio_t, batch.audio_text, batch.duration, frames=batch.audio_frames)
        audio_target = cosine.target(clean, audio_noise, time)
    return NoisyBatch(video, audio, video_target, audio_target)


def joint_loss(denoiser: Denoiser, noisy: NoisyBatch, weights: Pair[Tensor] | None = None) -> JointLoss:
    """Mean squared error of every prediction, in float32, summed.

    Args:
        denoiser: The joint model; what it predicts nothing for has no loss.
        noisy: From :func:`add_noise`.
        weights: By modality ``(B,)``, how much each sample's error counts, as where a side is given in some samples
            and made in others; None counts all.
    """
    predictions, targets = Pair(*denoiser(noisy.video, noisy.audio)), Pair(noisy.video_target, noisy.audio_target)
    losses = {
        name: _squared_error(*both, None if weights is None else weights[name])
        for name, both in predictions.zip(targets).present.items()
        if None not in both
    }
    present = list(losses.values())
    return JointLoss(sum(present[1:], present[0]), losses.get("video"), losses.get("audio"))


def _squared_error(prediction: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return F.mse_loss(prediction.float(), target.float())
    each = F.mse_loss(prediction.float(), target.float(), reduction="none").flatten(1).mean(1)
    return (weight * each).mean()
