"""The step of every task that takes noise from latents: a batch of plain tensors in, its losses out.

A step is the root that accelerate wraps, so that data-parallel, sharded and DeepSpeed training see one forward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from ..core.clock import ClipTimes
from ..core.pair import MODALITIES, Pair
from ..core.types import Modality
from ..models.joint import JointModel
from .objectives import TrainingBatch, add_noise, joint_loss
from .sections import ObjectiveConfig

LATENT_KEYS = tuple(field.name for field in fields(TrainingBatch))


class JointStep(nn.Module):
    """Denoising of both modalities, or of one when the joint model has one tower.

    Args:
        joint: Towers and bridges.
        objective: How the video timestep is read.
        precision: ``float32``, ``bf16`` (autocast) or ``pure-bf16``.
        times: When the latent steps of a training clip lie; None takes it from their numbers.
        counted: Modalities whose losses count; that of a side that is given does not.
    """

    def __init__(
        self,
        joint: JointModel,
        objective: ObjectiveConfig,
        precision: str,
        times: ClipTimes | None = None,
        *,
        counted: Sequence[str] = MODALITIES,
    ) -> None:
        super().__init__()
        self.joint, self.objective, self.precision, self.times = joint, objective, precision, times
        self.counted = tuple(counted)
        self.texts = nn.ModuleDict()  # by side, caption encoders that learn (:class:`~.texts.TaughtText`)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses ``total``, and ``video`` and ``audio`` where present and counted.

        Args:
            batch: ``t (B,)``, and by modality latents, noise, text; ``duration`` for audio, and ``audio_t (B,)`` where
                it has a time of its own; where a caption encoder learns ``…_ids`` and ``…_mask (B, L)`` instead of the
                text; ``video_weight`` and ``audio_weight (B,)`` where samples count differently;
                ``video_frames`` and ``audio_frames (B, S, D)`` where something is added to a tower's stream.
        """
        batch = {**batch, **self._encoded(batch)}
        noisy = add_noise(
            TrainingBatch(**{key: batch.get(key) for key in LATENT_KEYS}),
            t=batch["t"],
            audio_t=batch.get("audio_t"),
            video_noise=batch.get("video_noise"),
            audio_noise=batch.get("audio_noise"),
            reading=self.objective.timestep,
        )
        with torch.autocast(batch["t"].device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            loss = joint_loss(self._denoise, noisy, weights_of(batch))
        losses = {name: getattr(loss, name) for name in MODALITIES if name in self.counted}
        return summed(losses)

    def _encoded(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {f"{side}_text": text(batch[f"{side}_ids"], batch[f"{side}_mask"]) for side, text in self.texts.items()}

    def _denoise(self, video: Modality | None, audio: Modality | None) -> tuple[Tensor | None, Tensor | None]:
        if self.precision == "pure-bf16":
            video, audio = rounded(video), rounded(audio)
        return self.joint(*self._told_what_is_given(video, audio), times=self.times)

    def _told_what_is_given(self, *sides: Modality | None) -> list[Modality | None]:
        """A side whose loss does not count is given, beside one whose does."""
        if any(side is None for side in sides):
            return list(sides)
        return [replace(side, given=name not in self.counted) for name, side in zip(MODALITIES, sides, strict=True)]


def summed(losses: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    """Those that are there, and their sum as ``total``."""
    present = {name: value for name, value in losses.items() if value is not None}
    first, *others = present.values()
    return {"total": sum(others, first), **present}


def weights_of(batch: Mapping[str, Tensor]) -> Pair[Tensor] | None:
    """How much each sample of each side counts; None where all do."""
    weights = Pair(batch.get("video_weight"), batch.get("audio_weight"))
    return weights if weights.present else None


def rounded(modality: Modality | None) -> Modality | None:
    """Everything a tower reads in bfloat16, as in the released code; whole timesteps stay whole."""
    if modality is None:
        return None
    tensors = {name: value for name, value in vars(modality).items() if isinstance(value, Tensor)}
    return replace(modality, **{name: x.bfloat16() for name, x in tensors.items() if x.is_floating_point()})
