"""Recipe ``bridgedit_official``."""

from __future__ import annotations

from ..config import TrainConfig
from ..sections import DataConfig, ModelsConfig, ObjectiveConfig, OptimizerConfig
from . import RECIPES


@RECIPES.register("bridgedit_official")
def bridgedit_official() -> TrainConfig:
    """What the released code really runs, for comparison only (BridgeDiT reference, sections 6 and 8).

    Rate 1e-4 without decay, constant after the warm-up; bfloat16 weights and moments; no text dropout; t from one Sobol
    sequence in bfloat16 and trunc(999·t); the head of each clip, repeated when short; mono; 512 text tokens. Its five
    trainable blocks are the first ones, but its re-entrant checkpoints give no gradient to blocks before the first
    bridge: only video block 4 and audio blocks 3 and 4 learn. Here the others are frozen, which is the same.
    """
    return TrainConfig(
        recipe="bridgedit_official",
        task="joint",
        trainable=("bridges", "video_blocks:4", "audio_blocks:3-4"),
        batch_size=2,
        precision="pure-bf16",
        models=ModelsConfig(root="models", text_length=512, gradient_checkpointing=True),
        data=DataConfig(source="data/manifest.jsonl", crop="head", short="loop", mono=True),
        objective=ObjectiveConfig(
            timestep="official", draw="sobol-bf16", video_text_dropout=0.0, audio_text_dropout=0.0
        ),
        optimizer=OptimizerConfig(lr=1e-4, weight_decay=0.0, decay="constant"),
    )
