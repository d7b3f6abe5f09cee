"""Recipe ``pocket_sava_audio_frames``."""

from __future__ import annotations

from ..config import TrainConfig
from . import RECIPES
from ._frames import by_frames
from .pocket_sava_audio import pocket_sava_audio


@RECIPES.register("pocket_sava_audio_frames")
def pocket_sava_audio_frames() -> TrainConfig:
    """As ``sava_audio_frames``, for the pocket model. Needs ``alignment.start=FILE`` of ``pocket_sava_align``."""
    return by_frames(pocket_sava_audio(), "pocket_sava_audio_frames", "audio", rank=8)
