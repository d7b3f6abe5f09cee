"""Recipe ``pocket_avlink_v2a``."""

from __future__ import annotations

from dataclasses import replace

from ...sampling.schedules.lockstep import least_audio_time
from ..config import TrainConfig
from ..sections import ObjectiveConfig
from . import RECIPES
from ._pocket import POCKET_BRIDGES, POCKET_DATA, POCKET_OPTIMIZER
from .pocket_bridges import pocket_bridges

# The pocket model's audio tower was taught no less noise than this.
_LEAST = least_audio_time()


@RECIPES.register("pocket_avlink_v2a")
def pocket_avlink_v2a() -> TrainConfig:
    """AV-Link's Fusion Blocks between the pocket model's frozen towers, for the sound of a given picture.

    Needs the towers of ``pocket_video`` and ``pocket_audio``: ``models.overlays=…``, or the bundled ones.
    """
    return replace(
        pocket_bridges(),
        recipe="pocket_avlink_v2a",
        task="sound_for_picture",
        num_steps=2_000,
        data=replace(POCKET_DATA, num_clips=1_200),
        bridges=replace(
            POCKET_BRIDGES,
            kind="fusion_block",
            rope="token_clock",
            settings=("time_rank=64",),
        ),
        objective=ObjectiveConfig(draw="logit-normal", least_audio_time=_LEAST, given_audio_time=_LEAST),
        optimizer=replace(POCKET_OPTIMIZER, lr=1e-3, warmup_steps=100),
    )
