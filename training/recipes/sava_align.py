"""Recipe ``sava_align``."""

from __future__ import annotations

from ..config import TrainConfig
from ..sections import DataConfig, ModelsConfig, OptimizerConfig
from . import RECIPES


@RECIPES.register("sava_align")
def sava_align() -> TrainConfig:
    """What picture and sound share, by selective masks over latents: SAVA's first stage. No tower is loaded.

    λ 5, α 0.1 and 512 dimensions as printed; one vector a latent frame; masks by chance; the rest is not printed.
    """
    return TrainConfig(
        recipe="sava_align",
        task="alignment",
        trainable=("alignment",),
        num_steps=20_000,
        batch_size=64,
        precision="float32",
        models=ModelsConfig(root="models"),
        data=DataConfig(source="data/manifest.jsonl", crops_per_clip=4),
        optimizer=OptimizerConfig(lr=3e-4, weight_decay=1e-2, betas=(0.9, 0.99), max_grad_norm=1.0),
    )
