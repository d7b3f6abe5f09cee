"""What step caches share: the order, the way of the sound, and the steps at both ends that are always computed."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from ...core.errors import InputError
from ._curve import Curve

MAX_ORDER = 2
# Shares of the run. At its beginning predictions turn quickly, and its end decides on fine detail.
_WARM_UP, _END = 0.1, 0.04


@dataclass(frozen=True)
class StepCache(ABC):
    """Says at which steps a run is computed. A value without state: what is remembered lives as long as a run.

    Args:
        order: Of the polynomial through the last computed values: 0 repeats the last one. Higher ones diverge.
        sound: ``fresh``: computed at every step; ``cached``: extrapolated together with the picture; ``itself``: where
            the picture is extrapolated, the kind decides on the sound too, by what it knows of it.

    Raises:
        InputError: a value that cannot be used.
    """

    order: int = 1
    sound: str = "fresh"

    looks: ClassVar[bool] = False  # whether it asks for the change of a tower's first block
    measured: ClassVar[bool] = False  # whether it goes by curves of an earlier run
    curves: ClassVar[Mapping[str, Curve]] = {}

    def __post_init__(self) -> None:
        if not 0 <= self.order <= MAX_ORDER:
            raise InputError("the order of the step cache cannot be used", got=self.order, expected=f"0 to {MAX_ORDER}")

    @property
    def kept(self) -> int:
        """Computed values that are kept of each thing that is extrapolated."""
        return self.order + 1

    def between(self, num_steps: int) -> range:
        """The steps that need not be computed: all but the first and the last ones."""
        first = max(self.kept, math.ceil(_WARM_UP * num_steps))
        return range(first, num_steps - max(1, round(_END * num_steps)))

    def computes(self, step: int, num_steps: int, since: int, change: Callable[[], float]) -> bool:
        """Whether a step is computed, for both towers and all passes.

        Args:
            step: From 0.
            num_steps: Of the run.
            since: How many steps ago the last computed one was, from 1.
            change: How much has changed since the last computed step: by looking at the first block's part in the
                stream, relative to it, which costs that block; or by a curve.
        """
        return step not in self.between(num_steps) or self.due(since, change)

    @abstractmethod
    def due(self, since: int, change: Callable[[], float]) -> bool:
        """The same for a step between the ends."""

    @abstractmethod
    def num_computed(self, num_steps: int) -> int:
        """How many steps of a run are computed, at most."""
