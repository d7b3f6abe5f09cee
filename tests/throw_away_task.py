"""A training task that nobody needs: tests lay this file among the others and see that nothing else has to change.

Sound for a picture that is given: the picture keeps one time and its loss does not count, its text is dropped by
another chance than the sound's, a part of its own can be named, and a note is written beside what a joint run exports.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ...core.pair import Pair
from ..step import JointStep
from ..trainable import Part, whole
from . import TRAINING_TASKS
from .base import Trained
from .joint import Joint


class Weighted(JointStep):
    """The loss counts as much as the clips say."""

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses ``total`` and ``audio``."""
        losses = super().forward(batch)
        return {**losses, "total": losses["total"] * batch["weight"].mean()}


@TRAINING_TASKS.register("throw_away")
class ThrowAway(Joint):
    """Sound for a given picture."""

    Step = Weighted
    counted = ("audio",)

    def moment(self, position: int) -> dict[str, Tensor]:
        """The sound's time as ever, the picture's always the same, and a weight."""
        drawn = super().moment(position)["t"]
        return {"t": torch.tensor(0.04), "audio_t": drawn, "weight": torch.tensor(0.5)}

    def dropouts(self, moment: Mapping[str, Tensor]) -> Pair[float]:
        """The picture's text always, as the weight says; the sound's never."""
        return Pair(2 * float(moment["weight"]), 0.0)

    def parts(self, step: nn.Module) -> dict[str, Part]:
        """A joint run's, and the sound's last layer."""
        return super().parts(step) | whole("audio_head", step.joint.audio.model.proj_out)

    def export(self, folder: Path, trained: Trained) -> None:
        """A joint run's, and a note."""
        super().export(folder, trained)
        (folder / "given.txt").write_text("video")
