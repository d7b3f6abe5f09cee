"""Computed where the first block of the video tower says something else than at the last computed step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...core.errors import InputError
from . import CACHES
from .base import StepCache


@CACHES.register("first_block")
@dataclass(frozen=True)
class FirstBlock(StepCache):
    """The first block runs at every step between the ends, in the positive pass.

    Only the picture's is looked at: the audio solver draws noise, so its first block changes by half at every step.
    With sound ``itself`` that is looked at as well where the picture is extrapolated.

    Args:
        threshold: Relative change from which a step is computed.
        most: Steps that are extrapolated in a row, at most.
    """

    threshold: float = 0.2
    most: int = 4

    looks = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.threshold > 0 or self.most < 1:
            raise InputError(
                "the threshold of the step cache cannot be used",
                got=f"threshold {self.threshold:g}, {self.most} steps in a row",
                expected="more than 0, and 1 step or more",
            )

    def due(self, since: int, change: Callable[[], float]) -> bool:
        """By looking; a change that is no number is one."""
        return since > self.most or not change() < self.threshold

    def num_computed(self, num_steps: int) -> int:
        """All, where much changes."""
        return num_steps
