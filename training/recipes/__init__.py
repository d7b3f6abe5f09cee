"""Recipes: a run is a function that returns a frozen configuration, one file a recipe. ``key=value`` changes it."""

from __future__ import annotations

from collections.abc import Callable

from ...core.registry import Registry
from ..config import TrainConfig

RECIPES: Registry[Callable[[], TrainConfig]] = Registry("recipe", __name__)


def recipe(name: str, overrides: list[str] | tuple[str, ...] = ()) -> TrainConfig:
    """A recipe's configuration with overrides applied.

    Raises:
        InputError: unknown recipe or key, or a value of the wrong type.
    """
    return RECIPES.get(name)().override(overrides)
