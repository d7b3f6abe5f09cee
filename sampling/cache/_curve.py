"""How long a model's predictions are along its time: measured in one run, read by others of any number of steps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_POINTS = 1000


@dataclass(frozen=True)
class Curve:
    """Lengths by time.

    Args:
        times: In the tower's own time, rising, each once.
        lengths: Of the predictions there, more than 0.
    """

    times: tuple[float, ...]
    lengths: tuple[float, ...]

    def __call__(self, time: float) -> float:
        """The length at a time: along a line in its logarithm, and at both ends what is nearest."""
        return math.exp(float(np.interp(time, self.times, np.log(self.lengths))))


def made_curve(points: list[tuple[float, float]]) -> Curve | None:
    """A curve of (time, length); None where they are no curve: fewer than two, or values that cannot be.

    Of two points at one time the later one counts.
    """
    numbers = all(math.isfinite(time) and math.isfinite(length) and length > 0 for time, length in points)
    by_time = dict(points)
    if not numbers or not 2 <= len(by_time) <= MOST_POINTS:
        return None
    times = tuple(sorted(by_time))
    return Curve(times, tuple(by_time[time] for time in times))


def curves_as_json(curves: Mapping[str, Curve]) -> dict[str, Any]:
    """For a file."""
    return {name: list(map(list, zip(curve.times, curve.lengths, strict=True))) for name, curve in curves.items()}


def read_curves(value: Any) -> dict[str, Curve]:
    """Curves from a file; those that are none are left out, and measured anew."""
    found = {}
    for name in ("video", "audio"):
        points = value.get(name) if isinstance(value, dict) else None
        if not isinstance(points, list) or not all(_is_point(point) for point in points):
            continue
        curve = made_curve([(float(time), float(length)) for time, length in points])
        if curve is not None:
            found[name] = curve
    return found


def _is_point(point: Any) -> bool:
    return (
        isinstance(point, list)
        and len(point) == 2
        and all(isinstance(number, int | float) and not isinstance(number, bool) for number in point)
        and all(abs(number) < 1e30 for number in point)
    )
