"""Recipe ``pocket_video``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from ..sections import ObjectiveConfig
from . import RECIPES
from ._pocket import POCKET_DATA, POCKET_MODELS, POCKET_OPTIMIZER


@RECIPES.register("pocket_video")
def pocket_video() -> TrainConfig:
    """The pocket model's video tower, on pictures alone. Needs the trained codec: ``models.overlays=RUN``."""
    return TrainConfig(
        recipe="pocket_video",
        task="video",
        models=POCKET_MODELS,
        trainable=("video_tower",),
        num_steps=6_900,
        batch_size=16,
        precision="float32",
        data=replace(POCKET_DATA, num_clips=1600),
        objective=ObjectiveConfig(times="lockstep"),
        optimizer=replace(POCKET_OPTIMIZER, lr=1e-3),
    )
