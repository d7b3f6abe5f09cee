"""Recipe ``pocket_sava_align``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from ..sections import AlignmentSection, SavingConfig
from . import RECIPES
from ._pocket import POCKET_DATA, POCKET_MODELS, POCKET_OPTIMIZER
from .sava_align import sava_align


@RECIPES.register("pocket_sava_align")
def pocket_sava_align() -> TrainConfig:
    """As ``sava_align``, for the pocket model's codecs: 64 dimensions, a minute or two once clips are encoded.

    A mask that sees both sides tells of the other side by what it closes (``leak``): here it sees its own. Every clip
    looks different: of eight looks a scene, as the towers learned, the adapters learn the looks, and tell nothing of
    clips that look otherwise.
    """
    return replace(
        sava_align(),
        recipe="pocket_sava_align",
        num_steps=3_000,
        batch_size=32,
        models=POCKET_MODELS,
        alignment=AlignmentSection(width=64, hidden=128, grid=4, mask_input="own", sparsity=0.1),
        data=replace(POCKET_DATA, num_clips=2_400, looks=0),
        optimizer=replace(POCKET_OPTIMIZER, lr=1e-3, warmup_steps=100),
        saving=SavingConfig(every=1_000),
    )
