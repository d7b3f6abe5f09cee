"""Stage II of SAVA: a tower learns to read the other side's adapted latent behind its text (eq. 8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..core.pair import OTHER
from ..models.alignment.selective import Alignment
from ..models.joint import JointModel
from .step import JointStep


class ConditionedStep(JointStep):
    """Denoising of one side, told by its text and by tokens of the other side.

    Args:
        joint: One tower.
        alignment: Frozen but for the tokens that the tower reads.
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
                1 where the null tokens stand for the clip.
        """
        given = OTHER[self.made]
        own = {name: tensor for name, tensor in batch.items() if not name.startswith(f"{given}_") or name == "audio_t"}
        text = own[f"{self.made}_text"]
        own[f"{self.made}_text"] = torch.cat([text, self._tokens(batch, given).to(text.dtype)], 1)
        return super().forward(own)

    def _tokens(self, batch: Mapping[str, Tensor], given: str) -> Tensor:
        """Tokens of the clips, or null ones ``(B, N, W)``."""
        latents, frames = batch[f"{given}_latents"], batch["video_latents"].shape[2]
        deviation = latents.flatten(1).std(1).view(-1, *(1,) * (latents.ndim - 1))
        noisy = latents + self.condition_noise * deviation * batch[f"{given}_noise"]
        weights = self.alignment.tokens_for(self.made)
        vectors = self.alignment.fold(given, noisy, frames).to(weights.null.dtype)
        tokens = self.alignment.tokens(given, vectors, self.alignment.times(frames))
        dropped = batch["condition_dropped"].view(-1, 1, 1) > 0
        return torch.where(dropped, weights.null, tokens)
