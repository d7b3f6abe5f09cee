"""Recipe ``pocket_bridges_clock``."""

from __future__ import annotations

from dataclasses import replace

from ..config import TrainConfig
from . import RECIPES
from ._pocket import POCKET_BRIDGES
from .pocket_bridges import pocket_bridges


@RECIPES.register("pocket_bridges_clock")
def pocket_bridges_clock() -> TrainConfig:
    """As ``pocket_bridges``, with positions on the clock: pictures stand where they sound."""
    plain = pocket_bridges()
    return replace(plain, recipe="pocket_bridges_clock", bridges=replace(POCKET_BRIDGES, rope="clock"))
