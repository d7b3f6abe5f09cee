"""Task ``audio``."""

from __future__ import annotations

from . import TRAINING_TASKS
from ._denoising import DenoisingTask


@TRAINING_TASKS.register("audio")
class Audio(DenoisingTask):
    """The audio tower alone, on sound alone."""

    sides = ("audio",)
