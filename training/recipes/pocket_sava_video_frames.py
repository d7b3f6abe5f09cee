"""Recipe ``pocket_sava_video_frames``."""

from __future__ import annotations

from ..config import TrainConfig
from . import RECIPES
from ._frames import by_frames
from .pocket_sava_video import pocket_sava_video


@RECIPES.register("pocket_sava_video_frames")
def pocket_sava_video_frames() -> TrainConfig:
    """As ``sava_video_frames``, for the pocket model. Needs ``alignment.start=FILE`` of one of its runs before."""
    return by_frames(pocket_sava_video(), "pocket_sava_video_frames", "video", rank=8)
