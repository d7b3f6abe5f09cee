"""Stage II of SAVA: a tower learns to read the other side, behind its text or in its stream (eq. 8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..core.pair import OTHER
from ..core.types import FrameShifts
from ..models.alignment.selective import Alignment
from ..models.joint import JointModel
from .step import JointStep


class ConditionedStep(JointStep):
    """Denoising of one side, told by its text and by what the other side shows.

    Args:
        joint: One tower.
        alignment: Frozen but for what makes of it what the tower reads.
        condition_noise: Deviation of noise on the other side, in deviations of each clip's latents.
        objective: As :class:`~.step.JointStep`, like the rest.
    """

    def __init__(self, joint: JointModel, alignment: Alignment, condition_noise: float, *args: Any) -> None:
        super().__init__(joint, *args)
        self.alignment, self.condition_noise = alignment, condition_noise
        self.made = "video" if joint.video is not None else "audio"

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses ``total`` and the made side's.

        Args:
            batch: As of :class:`~.step.JointStep`, with latents and noise of both sides; ``condition_dropped (B,)`` is
                1 where what says nothing stands for the clip.
        """
        given = OTHER[self.made]
        own = {name: tensor for name, tensor in batch.items() if not name.startswith(f"{given}_") or name == "audio_t"}
        told = self._told(batch, given)
        if self.alignment.way(self.made) == "tokens":
            text = own[f"{self.made}_text"]
            own[f"{self.made}_text"] = torch.cat([text, told.to(text.dtype)], 1)
        else:
            frames = batch["video_latents"].shape[2]
            shifts = FrameShifts(told, told, self.alignment.edges(self.made, frames))
            own[f"{self.made}_frames"] = shifts.over(own[f"{self.made}_latents"].shape[2]).positive
        return super().forward(own)

    def _told(self, batch: Mapping[str, Tensor], given: str) -> Tensor:
        """Of the clips, or what says nothing ``(B, N, W)``."""
        latents, frames = batch[f"{given}_latents"], batch["video_latents"].shape[2]
        deviation = latents.flatten(1).std(1).view(-1, *(1,) * (latents.ndim - 1))
        noisy = latents + self.condition_noise * deviation * batch[f"{given}_noise"]
        weights = self.alignment.reader_for(self.made)
        vectors = self.alignment.fold(given, noisy, frames).to(weights.null.dtype)
        told = self.alignment.told(given, vectors, self.alignment.times(frames))
        dropped = batch["condition_dropped"].view(-1, 1, 1) > 0
        return torch.where(dropped, weights.null, told)
