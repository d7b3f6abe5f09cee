"""Recipe ``syncflow_joint``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from . import RECIPES
from .syncflow_audio import syncflow_audio


@RECIPES.register("syncflow_joint")
def syncflow_joint() -> TrainConfig:
    """SyncFlow's stage 3: both towers and the adaptors, end to end, so that the sound's loss reaches the picture's.

    20 000 steps of 2 clips a process. Goes on with ``syncflow_audio``: ``models.overlays=RUN``, and
    ``bridges.start=RUN/checkpoints/STEP/export/bridge.safetensors``.
    """
    return replace(
        syncflow_audio(),
        recipe="syncflow_joint",
        trainable=("bridges", "video_tower", "audio_tower"),
        num_steps=20_000,
        batch_size=2,
    )
