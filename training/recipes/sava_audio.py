"""Recipe ``sava_audio``."""

from __future__ import annotations

from ..config import TrainConfig
from ..sections import DataConfig, ModelsConfig, OptimizerConfig
from . import RECIPES


@RECIPES.register("sava_audio")
def sava_audio() -> TrainConfig:
    """The audio tower learns to read the picture (SAVA's second stage). Needs ``alignment.start=FILE``.

    That is the file of ``sava_align``. A LoRA of rank 16 beside the cross-attention of every block, and the tokens; the
    video tower is not loaded.
    """
    return TrainConfig(
        recipe="sava_audio",
        task="conditioned_audio",
        trainable=("audio_tokens", "audio_lora:16::attn2"),
        batch_size=2,
        models=ModelsConfig(root="models", gradient_checkpointing=True),
        data=DataConfig(source="data/manifest.jsonl", crops_per_clip=4),
        optimizer=OptimizerConfig(lr=1e-4, weight_decay=1e-2, max_grad_norm=1.0),
    )
