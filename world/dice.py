"""Random choices that are the same on every machine, and values that only the test split may draw."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.errors import require_choice

SPLITS = ("train", "validation", "test")
HELD_OUT_SHARE = 0.4  # of the draws in the test split, for choices that have held-out values


def stream(*names: str | int) -> np.random.Generator:
    """A generator of its own for every sequence of names.

    The names' SHA-256 is the entropy, so streams of different splits never coincide, whatever the seeds are.
    """
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    words = np.frombuffer(digest, dtype="<u4").tolist()
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def check_split(split: str) -> None:
    """Refuse a split that does not exist.

    Raises:
        InputError: not train, validation or test.
    """
    require_choice("split", split, SPLITS)


@dataclass(frozen=True)
class Options:
    """Values to choose from.

    Args:
        common: For every split.
        test_only: For the test split only, so that a test can ask for what was never trained.
    """

    common: tuple[str, ...]
    test_only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Span:
    """The stretch of time that a scene is planned for.

    Args:
        seconds: Length of the clip.
        frame_seconds: Time between pictures; nothing that matters happens faster.
    """

    seconds: float
    frame_seconds: float

    @property
    def margin_seconds(self) -> float:
        """How far events stay from both ends, so that there is a picture before and after each."""
        return min(max(0.12, 2.5 * self.frame_seconds), self.seconds / 4)

    def gap_seconds(self, wanted: float) -> float:
        """A smallest distance between events that the pictures can show."""
        return max(wanted, 3.5 * self.frame_seconds)


class Dice:
    """All random choices of one clip's plan. Numbers are rounded so that a manifest holds exactly what was used.

    Args:
        generator: Where the randomness comes from.
        split: "train", "validation" or "test".
        clock: Decides when things happen and how they are told; None to decide that here too.
    """

    def __init__(self, generator: np.random.Generator, split: str, clock: Dice | None = None) -> None:
        self._generator, self._split = generator, split
        self.clock = clock or self
        self.held_out: list[str] = []

    def uniform(self, low: float, high: float) -> float:
        """A number between two others, six decimals."""
        return round(low + (high - low) * float(self._generator.random()), 6)

    def integer(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return low + min(int(self._generator.random() * (high - low + 1)), high - low)

    def choice(self, values: Sequence[str]) -> str:
        """One of the values."""
        return values[self.integer(0, len(values) - 1)]

    def pick(self, options: Options) -> str:
        """One of the options this split may use; held-out ones are noted in ``held_out``."""
        held_out = self._generator.random() < HELD_OUT_SHARE
        if self._split == "test" and options.test_only and held_out:
            value = self.choice(options.test_only)
            self.held_out.append(value)
            return value
        return self.choice(options.common)

    def times(self, span: Span, *, most: int, gap_seconds: float) -> tuple[list[float], str]:
        """Event times with a smallest gap, and the rhythm: "steady" (one interval) or "uneven".

        Args:
            span: The clip's length.
            most: Largest number of events; fewer where the clip is too short for them.
            gap_seconds: Smallest distance between two events.
        """
        clock = self.clock
        gap, margin = span.gap_seconds(gap_seconds), span.margin_seconds
        room = span.seconds - 2 * margin
        count = clock.integer(1, max(1, min(most, 1 + int(room / gap))))
        slack = room - (count - 1) * gap
        if count > 1 and clock.integer(0, 1):
            interval = gap + clock.uniform(0, min(slack / (count - 1), gap))
            start = margin + clock.uniform(0, room - (count - 1) * interval)
            return [round(start + index * interval, 6) for index in range(count)], "steady"
        parts = sorted(clock.uniform(0, slack) for _ in range(count))
        return [round(margin + part + index * gap, 6) for index, part in enumerate(parts)], "uneven"
