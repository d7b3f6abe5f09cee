"""Every k-th step is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...core.errors import InputError
from . import CACHES
from .base import StepCache


@CACHES.register("interval")
@dataclass(frozen=True)
class Interval(StepCache):
    """Knows before the run how long it takes.

    Args:
        every: 1 computes all.
    """

    every: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.every < 1:
            raise InputError("the interval of the step cache cannot be used", got=self.every, expected="1 or more")

    def due(self, since: int, change: Callable[[], float]) -> bool:
        """By counting."""
        return since >= self.every

    def num_computed(self, num_steps: int) -> int:
        """The ends, and every k-th step between them."""
        between = self.between(num_steps)
        return num_steps - len(between) + len(between) // self.every
