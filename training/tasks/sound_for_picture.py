"""Task ``sound_for_picture``."""

from __future__ import annotations

from . import TRAINING_TASKS
from ._given import GivenTask


@TRAINING_TASKS.register("sound_for_picture")
class SoundForPicture(GivenTask):
    """Bridges by which the sound of a given picture is made (V2A)."""

    counted = ("audio",)
    made_for = "v2a"

    def given_at(self, position: int) -> str:
        """The picture."""
        return "video"
