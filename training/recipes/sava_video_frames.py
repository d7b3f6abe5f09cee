"""Recipe ``sava_video_frames``."""

from __future__ import annotations

from ..config import TrainConfig
from . import RECIPES
from ._frames import by_frames
from .sava_video import sava_video


@RECIPES.register("sava_video_frames")
def sava_video_frames() -> TrainConfig:
    """As ``sava_video``, but what the sound says is added to the stream of each latent frame, not told by tokens.

    Wan's cross-attention knows the time neither of its text nor, but for the first frame, of its picture.
    """
    return by_frames(sava_video(), "sava_video_frames", "video", rank=16)
