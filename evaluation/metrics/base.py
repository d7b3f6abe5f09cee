"""What every metric is: it measures one clip at a time, and sums up what it measured."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ...core.errors import InputError, NonFiniteError
from ...core.optional import require
from ..sample import Sample

Value = float | int | None


@dataclass(frozen=True)
class Measurement:
    """What one metric says about one clip.

    Args:
        values: Numbers by name; None where the clip cannot be measured, and then ``reasons`` says why.
        reasons: For each name whose value is None, a clause.
        details: Plain values for reports: times, matches, counts that a summary pools.
    """

    values: Mapping[str, Value]
    reasons: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unmeasured = {name for name, value in self.values.items() if value is None}
        if unmeasured != set(self.reasons):
            raise InputError(
                "each value that is None needs a reason, and only those",
                got=sorted(unmeasured ^ set(self.reasons)),
                expected=f"reasons for {sorted(unmeasured)}",
            )
        for name, value in self.values.items():
            if value is not None and not math.isfinite(value):
                raise NonFiniteError(f"the measured value {name!r} is not a number", got=value)

    @classmethod
    def impossible(cls, names: Sequence[str], reason: str, **details: Any) -> Measurement:
        """No value at all, for one reason."""
        return cls(dict.fromkeys(names), dict.fromkeys(names, reason), details)


class Metric(ABC):
    """Measures one property of clips. Subclasses are registered by their file's name.

    Attributes:
        title: One clause for people.
        values: Names of a measurement's values; the first is the one that counts.
        needs_truth: Whether it can say nothing without a manifest.
        packages: Optional packages it imports, by import name.
    """

    title: ClassVar[str]
    values: ClassVar[tuple[str, ...]]
    needs_truth: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def measure(self, sample: Sample) -> Measurement:
        """Measure one clip."""

    def check(self) -> None:
        """Fail now rather than after the first clip.

        Raises:
            MissingPackageError: a package that is needed is not installed; the message carries the pip line.
        """
        for name in self.packages:
            require(name, f"the metric {self.title!r}")

    def summarise(self, measurements: Sequence[Measurement]) -> dict[str, Value]:
        """Mean of each value over the clips that have it, and ``num_measured``, the clips with the first value."""
        means = {name: mean([item.values[name] for item in measurements]) for name in self.values}
        return means | {"num_measured": sum(item.values[self.values[0]] is not None for item in measurements)}

    def __call__(self, paths: Sequence[str]) -> dict[str, Value]:
        """Measure files and sum up; this is :class:`...core.protocols.Metric`.

        Raises:
            InputError: a file that cannot be read.
        """
        self.check()
        return self.summarise([self.measure(Sample.read(path)) for path in paths])


def mean(values: Sequence[Value]) -> float | None:
    """Mean of the numbers among the values; None when there is none."""
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None
