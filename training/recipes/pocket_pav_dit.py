"""Recipe ``pocket_pav_dit``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from ..sections import ObjectiveConfig
from . import RECIPES
from ._pocket import POCKET_OPTIMIZER
from .pocket_pav_dit_mdsa import POCKET_PAV_DIT_DATA, POCKET_PAV_DIT_MODELS


@RECIPES.register("pocket_pav_dit")
def pocket_pav_dit() -> TrainConfig:
    """A small PAV-DiT's transformer on latents of its autoencoder: ``models.overlays=RUN``."""
    return TrainConfig(
        recipe="pocket_pav_dit",
        task="pav_dit",
        models=POCKET_PAV_DIT_MODELS,
        trainable=("transformer",),
        num_steps=3_600,
        batch_size=16,
        precision="float32",
        data=POCKET_PAV_DIT_DATA,
        objective=ObjectiveConfig(modality_dropout=0.1),
        optimizer=replace(POCKET_OPTIMIZER, lr=1e-3),
    )
