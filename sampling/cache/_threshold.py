"""What caches share that compute a step where enough has changed, and after so many extrapolated ones in any case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...core.errors import InputError
from .base import StepCache


@dataclass(frozen=True)
class ThresholdCache(StepCache):
    """Goes by how much has changed.

    Args:
        threshold: Change from which a step is computed.
        most: Steps that are extrapolated in a row, at most.

    Raises:
        InputError: a value that cannot be used.
    """

    threshold: float = 1.0
    most: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.threshold > 0 or self.most < 1:
            raise InputError(
                "the threshold of the step cache cannot be used",
                got=f"threshold {self.threshold:g}, {self.most} steps in a row",
                expected="more than 0, and 1 step or more",
            )

    def due(self, since: int, change: Callable[[], float]) -> bool:
        """By the change; one that is no number is one."""
        return since > self.most or not change() < self.threshold

    def num_computed(self, num_steps: int) -> int:
        """All, where much changes."""
        return num_steps
