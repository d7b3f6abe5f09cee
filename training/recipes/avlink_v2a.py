"""Recipe ``avlink_v2a``."""

from __future__ import annotations

from ...models.points import placement
from ..config import TrainConfig
from ..sections import BridgesConfig, DataConfig, ModelsConfig, ObjectiveConfig, OptimizerConfig
from . import RECIPES

_PLACES = placement("interleaved_8")


@RECIPES.register("avlink_v2a")
def avlink_v2a() -> TrainConfig:
    """AV-Link's Fusion Blocks between two frozen towers, for the sound of a given picture (AV-Link 3.3, appendix C).

    Eight blocks of width 1024. 50 000 steps of 256 clips, as 16 processes of 16; AdamW 3e-4, decay 0.01, betas
    (0.9, 0.99), 10 000 steps of warm-up, then constant; no clipping, no average. The sound's time is logit-normal
    (1, 1), the picture keeps 0.04; the sound's text goes in half of the clips, the picture's in a fifth.
    """
    return TrainConfig(
        recipe="avlink_v2a",
        task="sound_for_picture",
        trainable=("bridges",),
        num_steps=50_000,
        batch_size=16,
        models=ModelsConfig(root="models", gradient_checkpointing=True),
        bridges=BridgesConfig(
            kind="fusion_block",
            rope="token_clock",
            video_points=_PLACES.video,
            audio_points=_PLACES.audio,
            qk_width=1024,
            num_heads=16,
        ),
        data=DataConfig(source="data/manifest.jsonl", crops_per_clip=4),
        objective=ObjectiveConfig(draw="logit-normal"),
        optimizer=OptimizerConfig(lr=3e-4, weight_decay=0.01, betas=(0.9, 0.99), warmup_steps=10_000, decay="constant"),
    )
