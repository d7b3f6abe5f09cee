"""Recipe ``pocket_wan_vae_long``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from . import RECIPES
from .pocket_wan_vae import pocket_wan_vae


@RECIPES.register("pocket_wan_vae_long")
def pocket_wan_vae_long() -> TrainConfig:
    """Goes on with ``pocket_wan_vae`` on longer windows, so that the decoder stays true to the end of a clip."""
    short = pocket_wan_vae()
    return replace(
        short,
        recipe="pocket_wan_vae_long",
        num_steps=1_500,
        batch_size=2,
        data=replace(short.data, num_frames=17),
        optimizer=replace(short.optimizer, lr=2e-4, warmup_steps=100),
    )
