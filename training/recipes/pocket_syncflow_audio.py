"""Recipe ``pocket_syncflow_audio``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from . import RECIPES
from .pocket_syncflow import pocket_syncflow


@RECIPES.register("pocket_syncflow_audio")
def pocket_syncflow_audio() -> TrainConfig:
    """Goes on with ``pocket_syncflow``: the audio tower learns too, down to no noise at all.

    ``models.overlays=…`` as before, and ``bridges.start=RUN/checkpoints/STEP/export/bridge.safetensors``.
    """
    adaptors = pocket_syncflow()
    return replace(
        adaptors,
        recipe="pocket_syncflow_audio",
        trainable=("bridges", "audio_tower"),
        num_steps=1_500,
        objective=replace(adaptors.objective, least_audio_time=0.0),
        optimizer=replace(adaptors.optimizer, lr=1e-4),
    )
