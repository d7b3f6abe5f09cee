"""Task ``video``."""

from __future__ import annotations

from . import TRAINING_TASKS
from ._denoising import DenoisingTask


@TRAINING_TASKS.register("video")
class Video(DenoisingTask):
    """The video tower alone, on pictures alone."""

    sides = ("video",)
