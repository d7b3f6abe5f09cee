"""Task ``conditioned_audio``."""

from __future__ import annotations

from . import TRAINING_TASKS
from ._conditioned import ConditionedTask


@TRAINING_TASKS.register("conditioned_audio")
class ConditionedAudio(ConditionedTask):
    """The audio tower learns to read the picture (SAVA stage II)."""

    made = "audio"
