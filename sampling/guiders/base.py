"""What guiders share: one scale a modality and the part of the run in which they act."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ...core.errors import InputError
from ...core.pair import MODALITIES, Pair
from ...core.types import Pass


@dataclass(frozen=True)
class Scaled:
    """A guider with a scale a modality; at 1 or below it does not act on that modality.

    Args:
        scales: For picture and sound.
        start: Share of the steps before it acts, 0..1.
        end: Share of the steps after which it acts no more, 0..1.
        every: Its passes run at every such step that is computed; at the others its last push is repeated.

    Raises:
        InputError: a scale that is negative or not finite, an interval that is empty or out of range, no step at all.
    """

    scales: Pair[float]
    start: float = 0.0
    end: float = 1.0
    every: int = 1

    title: ClassVar[str] = ""
    needs: ClassVar[tuple[Pass, ...]] = ()

    def __post_init__(self) -> None:
        for modality in MODALITIES:
            scale = self.scales[modality]
            if scale is None or not math.isfinite(scale) or scale < 0:
                raise InputError(
                    f"the {modality} {self.title} scale cannot be used",
                    got=scale,
                    expected="a finite number from 0; 1 or less turns guidance off",
                )
        if not 0 <= self.start < self.end <= 1:
            raise InputError(
                f"the interval of the {self.title} cannot be used",
                got=f"{self.start:g} to {self.end:g}",
                expected="a start and a later end, both from 0 to 1 of the run",
            )
        if self.every < 1:
            raise InputError(
                f"the steps of the {self.title} cannot be used", got=f"every {self.every}", expected="1 or more"
            )

    def passes(self, modality: str) -> tuple[Pass, ...]:
        """What it needs beside the positive pass."""
        return self.needs if self.scales[modality] > 1 else ()
