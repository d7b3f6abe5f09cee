"""The training objectives of both towers, at one shared time t in 0..1 (BridgeDiT section 3.4).

Audio, v-prediction: ``α = cos(πt/2), σ = sin(πt/2), x_t = αx + σε``, target ``v = αε − σx``.
Video, flow matching: ``x_t = (1 − s)x + sε``, target ``ε − x``, with s the video timestep / 1000.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.errors import InputError
from ..core.protocols import Denoiser
from ..core.types import Modality

# paper: the video timestep is 1000·t. official: the released code truncates 999·t to a whole number.
TIMESTEP_READINGS = ("paper", "official")


@dataclass(frozen=True)
class TrainingBatch:
    """Clean latents and encoded captions of one batch.

    Args:
        video_latents: ``(B, C, T, H, W)`` normalised.
        audio_latents: ``(B, C, L)``.
        video_text: ``(B, L, D)``.
        audio_text: ``(B, L, D)``.
        duration: ``(B, 1, D)``.
    """

    video_latents: Tensor
    audio_latents: Tensor
    video_text: Tensor
    audio_text: Tensor
    duration: Tensor


@dataclass(frozen=True)
class NoisyBatch:
    """A batch at time t: what the towers see and what they should say.

    Args:
        video: Input of the video tower.
        audio: Input of the audio tower.
        video_target: ``ε − x``.
        audio_target: v.
    """

    video: Modality
    audio: Modality
    video_target: Tensor
    audio_target: Tensor


@dataclass(frozen=True)
class JointLoss:
    """Mean squared errors; ``total = video + audio``, unweighted."""

    total: Tensor
    video: Tensor
    audio: Tensor


def video_timestep(t: Tensor, reading: str = "paper") -> Tensor:
    """The video tower's timestep 0..1000 that belongs to t.

    Args:
        t: ``(B,)`` in 0..1.
        reading: ``paper``: 1000·t; ``official``: trunc(999·t), whole numbers.
    """
    if reading not in TIMESTEP_READINGS:
        raise InputError(
            "unknown timestep reading", got=repr(reading), expected="one of " + ", ".join(TIMESTEP_READINGS)
        )
    return 1000.0 * t if reading == "paper" else (t * 999).long()


def add_noise(
    batch: TrainingBatch, *, t: Tensor, video_noise: Tensor, audio_noise: Tensor, reading: str = "paper"
) -> NoisyBatch:
    """Bring a batch to time t.

    Args:
        batch: Clean latents.
        t: ``(B,)``, one time a sample, shared by both modalities.
        video_noise: N(0,1) like the video latents.
        audio_noise: N(0,1) like the audio latents.
        reading: Of the video timestep.
    """
    alpha, sigma = (f(t * (math.pi / 2))[:, None, None] for f in (torch.cos, torch.sin))
    timestep = video_timestep(t, reading)
    flow = (timestep / 1000.0)[:, None, None, None, None].to(batch.video_latents.dtype)
    return NoisyBatch(
        video=Modality((1 - flow) * batch.video_latents + flow * video_noise, timestep, batch.video_text),
        audio=Modality(alpha * batch.audio_latents + sigma * audio_noise, t, batch.audio_text, batch.duration),
        video_target=video_noise - batch.video_latents,
        audio_target=alpha * audio_noise - sigma * batch.audio_latents,
    )


def joint_loss(denoiser: Denoiser, noisy: NoisyBatch) -> JointLoss:
    """Mean squared error of both predictions, in float32, summed."""
    video, audio = denoiser(noisy.video, noisy.audio)
    video_loss = F.mse_loss(video.float(), noisy.video_target.float())
    audio_loss = F.mse_loss(audio.float(), noisy.audio_target.float())
    return JointLoss(video_loss + audio_loss, video_loss, audio_loss)
