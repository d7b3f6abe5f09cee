"""Task ``conditioned_video``."""

from __future__ import annotations

from . import TRAINING_TASKS
from ._conditioned import ConditionedTask


@TRAINING_TASKS.register("conditioned_video")
class ConditionedVideo(ConditionedTask):
    """The video tower learns to read the sound (SAVA stage II)."""

    made = "video"
