"""Task ``picture_for_sound``."""

from __future__ import annotations

from . import TRAINING_TASKS
from ._given import GivenTask


@TRAINING_TASKS.register("picture_for_sound")
class PictureForSound(GivenTask):
    """Bridges by which the picture of a given sound is made (A2V)."""

    counted = ("video",)
    made_for = "a2v"

    def given_at(self, position: int) -> str:
        """The sound."""
        return "audio"
