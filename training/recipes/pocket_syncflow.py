"""Recipe ``pocket_syncflow``."""

from __future__ import annotations

from dataclasses import replace

from ...sampling.schedules.lockstep import least_audio_time
from ..config import TrainConfig
from . import RECIPES
from ._pocket import POCKET_BRIDGES
from .pocket_bridges import pocket_bridges
from .syncflow_audio import SYNCFLOW_OBJECTIVE

ALL_BLOCKS = tuple(range(8))


@RECIPES.register("pocket_syncflow")
def pocket_syncflow() -> TrainConfig:
    """SyncFlow's adaptors between the pocket model's frozen towers, beside all eight blocks of each.

    Needs the towers of ``pocket_video`` and ``pocket_audio``: ``models.overlays=…``. That audio tower was taught no
    less noise than ``lockstep`` ends with, so no less is drawn.
    """
    return replace(
        pocket_bridges(),
        recipe="pocket_syncflow",
        num_steps=3_000,
        bridges=replace(
            POCKET_BRIDGES,
            kind="modality_adaptor",
            video_points=ALL_BLOCKS,
            audio_points=ALL_BLOCKS,
            gate_bias=0.0,
        ),
        objective=replace(SYNCFLOW_OBJECTIVE, least_audio_time=least_audio_time()),
    )
