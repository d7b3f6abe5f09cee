"""Task ``either_given``."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...core.pair import MODALITIES
from ..randomness import derived_generator
from . import TRAINING_TASKS
from ._given import GivenTask


@TRAINING_TASKS.register("either_given")
class EitherGiven(GivenTask):
    """One set of bridges for both: of each clip the picture or the sound is given, by chance."""

    made_for = "both"

    def given_at(self, position: int) -> str:
        """Drawn from the place's own numbers, so that a run that goes on draws the same."""
        return MODALITIES[int(torch.randint(2, (1,), generator=derived_generator(self.config.seed, "role", position)))]

    def given_in(self, moment: Mapping[str, Tensor]) -> str:
        """The side that weighs nothing."""
        return "audio" if float(moment["audio_weight"]) == 0 else "video"

    def moment(self, position: int) -> dict[str, Tensor]:
        """The times, and how much each side's error counts: 1 where it is made, 0 where it is given."""
        given = self.given_at(position)
        weights = {f"{side}_weight": torch.tensor(float(side != given)) for side in MODALITIES}
        return super().moment(position) | weights
