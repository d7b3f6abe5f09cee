"""Computed where predictions of this model are known to have grown or shrunk by much since the last computed step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from . import CACHES
from ._curve import Curve
from ._threshold import ThresholdCache


@CACHES.register("magnitude")
@dataclass(frozen=True)
class Magnitude(ThresholdCache):
    """Goes by a curve that was measured once: how long a model's predictions are, from noise to data.

    The ratio of two neighbouring lengths hardly depends on the prompt (MagCache), so a whole run of any prompt is
    enough. A run without curves is computed whole and measures them. At a step the ratios to the last computed step of
    all steps since then are held against 1, and their distances summed.

    Lengths are those of the predictions, which every model has, and not of what the blocks add to a stream. Those of a
    flow hardly change in the middle of a run (by 0.3 % a step in the bundled model), so there ``most`` decides: with 4
    a clip of that model was off by half.

    Args:
        threshold: Sum from which a step is computed.
        most: Steps that are extrapolated in a row, at most.
        curves: By modality, of an earlier run of the model.
        keep: Given the curves of a run that measured them.
    """

    threshold: float = 0.02
    most: int = 2
    curves: Mapping[str, Curve] = field(default_factory=dict)
    keep: Callable[[Mapping[str, Curve]], None] | None = None

    measured: ClassVar[bool] = True
