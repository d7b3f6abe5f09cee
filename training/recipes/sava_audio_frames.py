"""Recipe ``sava_audio_frames``."""

from __future__ import annotations

from ..config import TrainConfig
from . import RECIPES
from ._frames import by_frames
from .sava_audio import sava_audio


@RECIPES.register("sava_audio_frames")
def sava_audio_frames() -> TrainConfig:
    """As ``sava_audio``, but what the picture says is added to the stream at each moment, not told by tokens."""
    return by_frames(sava_audio(), "sava_audio_frames", "audio", rank=16)
