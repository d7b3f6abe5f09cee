"""Recipe ``pocket_bridges``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from ..sections import ObjectiveConfig, SavingConfig
from . import RECIPES
from ._pocket import POCKET_BRIDGES, POCKET_DATA, POCKET_MODELS, POCKET_OPTIMIZER


@RECIPES.register("pocket_bridges")
def pocket_bridges() -> TrainConfig:
    """The pocket model's bridges between frozen towers. Needs the four runs before: ``models.overlays=…``."""
    return TrainConfig(
        recipe="pocket_bridges",
        task="joint",
        models=POCKET_MODELS,
        trainable=("bridges",),
        num_steps=9_550,
        batch_size=8,
        precision="float32",
        bridges=POCKET_BRIDGES,
        data=POCKET_DATA,
        objective=ObjectiveConfig(times="lockstep", flow_shift=1.0),
        optimizer=replace(POCKET_OPTIMIZER, lr=1e-3, weight_decay=1e-3, betas=(0.9, 0.95), warmup_steps=100),
        saving=SavingConfig(every=200),
    )
