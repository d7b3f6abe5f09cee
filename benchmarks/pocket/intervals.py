"""What clips say about variants, and what they cannot decide: pooled event F1 with intervals over prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import bootstrap
from sounding_video.evaluation.metrics.event_f1 import TOLERANCES_FRAMES
from sounding_video.evaluation.result import Evaluation

RESAMPLES = 9_999
LEVEL = 0.95
# Of event F1, as tables have them.
TOLERANCES = {"2_frames": "±2", "1_frame": "±1"}
# A clip: pairs, and events on both sides, for each tolerance.
Counts = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Args:
        value: Of all clips.
        low: 2.5 % of the resampled values lie below.
        high: 2.5 % lie above.
    """

    value: float
    low: float
    high: float

    @property
    def decided(self) -> bool:
        """Of a difference: whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def difference(self) -> str:
        """With its sign, and what it decides."""
        interval = f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
        return interval if self.decided else f"{interval} undecided"


def counts_of(result: Evaluation, side: str = "") -> dict[str, Counts]:
    """Pairs and events of every clip that has any, by its name.

    Args:
        result: A measured folder.
        side: Empty for the sound against the picture, ``sound_`` or ``picture_`` for a side against the true times.
    """
    details = {clip.file: clip.measurements["event_f1"].details for clip in result.clips}
    found = {file: events_of(each, side) for file, each in details.items()}
    return {file: counts for file, counts in found.items() if counts}


def events_of(details: Mapping[str, Any], side: str = "") -> Counts:
    """Pairs and events of one clip; nothing where there are none to count, as of rain and an engine.

    Args:
        details: Of its event F1, as measured or as written into ``clips.jsonl``.
        side: As of :func:`counts_of`.
    """
    counts = details.get("counts", {})
    rows = {within: counts.get(f"{side}{within}") for within in TOLERANCES_FRAMES}
    return {within: (row[0], row[1] + row[2]) for within, row in rows.items()} if all(rows.values()) else {}


def f1(clips: Mapping[object, Counts], within: str) -> Estimate:
    """Pooled F1 of clips, resampled over them."""
    pairs, both = _columns(clips, sorted(clips, key=repr), within)
    return _resampled((pairs, both), lambda p, b, axis=-1: _pooled(p, b, axis))


def f1_difference(clips: Mapping[object, Counts], base: Mapping[object, Counts], within: str) -> Estimate | None:
    """Pooled F1 less that of a base, over the clips that both have, drawn together; None without any."""
    shared = sorted(set(clips) & set(base), key=repr)
    if not shared:
        return None
    columns = (*_columns(clips, shared, within), *_columns(base, shared, within))
    return _resampled(columns, lambda p, b, q, c, axis=-1: _pooled(p, b, axis) - _pooled(q, c, axis))


def mean_of(values: Mapping[object, float]) -> Estimate:
    """Mean of a value a clip."""
    return _resampled((np.array([values[key] for key in sorted(values, key=repr)], float),), _mean)


def mean_difference(values: Mapping[object, float], base: Mapping[object, float]) -> Estimate | None:
    """Mean of the differences over the clips that both have; None without any."""
    shared = sorted(set(values) & set(base), key=repr)
    if not shared:
        return None
    return _resampled((np.array([values[key] - base[key] for key in shared], float),), _mean)


def rate_difference(
    rates: Mapping[object, tuple[float, float]], base: Mapping[object, tuple[float, float]]
) -> Estimate | None:
    """One sum over another, less the same of a base, over the clips that both have; None without any."""
    shared = sorted(set(rates) & set(base), key=repr)
    if not shared:
        return None
    columns = np.array([(*rates[key], *base[key]) for key in shared], float).T
    return _resampled(tuple(columns), lambda a, b, c, d, axis=-1: _rate(a, b, axis) - _rate(c, d, axis))


def ratio_of(values: Mapping[object, float], base: Mapping[object, float]) -> Estimate:
    """Mean of a value over that of a base, of the same clips, drawn together."""
    keys = sorted(set(values) & set(base), key=repr)
    columns = tuple(np.array([each[key] for key in keys], float) for each in (values, base))
    return _resampled(columns, lambda top, bottom, axis=-1: top.mean(axis) / np.maximum(bottom.mean(axis), 1e-12))


def _rate(top: np.ndarray, bottom: np.ndarray, axis: int) -> np.ndarray:
    return top.sum(axis) / np.maximum(bottom.sum(axis), 1e-12)


def _mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    return values.mean(axis)


def _columns(clips: Mapping[object, Counts], keys: Sequence[object], within: str) -> tuple[np.ndarray, np.ndarray]:
    rows = np.array([clips[key][within] for key in keys], float).reshape(-1, 2)
    return rows[:, 0], rows[:, 1]


def _pooled(pairs: np.ndarray, both: np.ndarray, axis: int) -> np.ndarray:
    return 2 * pairs.sum(axis) / np.maximum(both.sum(axis), 1)


def _resampled(columns: tuple[np.ndarray, ...], statistic: object) -> Estimate:
    """Percentiles, since BCa has none where all clips agree."""
    value = float(statistic(*columns, axis=-1))
    if len(columns[0]) < 2:
        return Estimate(value, float("-inf"), float("inf"))
    found = bootstrap(
        columns,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(value, float(found.low), float(found.high))
