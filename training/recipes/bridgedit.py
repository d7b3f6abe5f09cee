"""Recipe ``bridgedit``."""

from __future__ import annotations

from ..config import TrainConfig
from ..sections import DataConfig, ModelsConfig
from . import RECIPES


@RECIPES.register("bridgedit")
def bridgedit() -> TrainConfig:
    """The paper, done right: bridges and the last five blocks of each tower (BridgeDiT section 4.1).

    AdamW 5e-5, decay 1e-3, betas (0.9, 0.95); 1 000 steps of warm-up, cosine to 1e-6, 15 000 steps; bfloat16 autocast
    over float32 weights; one uniform t for both towers with t_V = 1000·t_A; text dropout 0.1 a modality.
    """
    return TrainConfig(
        recipe="bridgedit",
        task="joint",
        trainable=("bridges", "video_last:5", "audio_last:5"),
        batch_size=2,
        models=ModelsConfig(root="models", gradient_checkpointing=True),
        data=DataConfig(source="data/manifest.jsonl", crops_per_clip=4),
    )
