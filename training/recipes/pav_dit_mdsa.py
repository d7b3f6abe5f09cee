"""Recipe ``pav_dit_mdsa``."""

from __future__ import annotations

from ..config import TrainConfig
from ..sections import DataConfig, ModelsConfig, ObjectiveConfig, OptimizerConfig
from . import RECIPES

# 1.6 s at 256×256, as the group of the paper has it.
PAV_DIT_DATA = DataConfig(
    source="data/manifest.jsonl", crops_per_clip=4, num_frames=16, fps="10", width=256, height=256, keep_media=True
)


@RECIPES.register("pav_dit_mdsa")
def pav_dit_mdsa() -> TrainConfig:
    """PAV-DiT's autoencoder, stage 1: reconstruction of picture and mel images, without KL and without critics.

    Batches of 32, AdamW 1e-4 with PVDM's betas; edges stand in the place of a perceptual loss. The paper trains until
    nothing moves; 100 000 steps are ours. New weights of 141 M parameters unless ``models.root`` is a PAV-DiT folder.
    """
    return TrainConfig(
        recipe="pav_dit_mdsa",
        task="av_codec",
        trainable=("av_codec",),
        num_steps=100_000,
        batch_size=4,
        accumulation=8,
        models=ModelsConfig(root="models", form="published", text_length=300, gradient_checkpointing=True),
        data=PAV_DIT_DATA,
        objective=ObjectiveConfig(kl_weight=0.0),
        optimizer=OptimizerConfig(
            lr=1e-4, weight_decay=0.0, betas=(0.5, 0.9), max_grad_norm=1.0, decay="constant", ema_decay=0.999
        ),
    )
