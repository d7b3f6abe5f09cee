"""What both hosts share: where a result goes, which file names may be asked for, how progress is worded and paced."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from ...core.errors import OutputError
from ...core.progress import STAGE_TITLES
from ...media.files import FreeName

_TOLD_EVERY_SECONDS = 0.5
_MOVED_EVERY_SECONDS = 0.1
_BAR_END = 1000


@dataclass(frozen=True)
class SavePlace:
    """Where one result file goes.

    Args:
        name: The file to write, under a name that is free.
        subfolder: Its folder, relative to the output folder; empty at the top.
    """

    name: FreeName
    subfolder: str

    @property
    def path(self) -> Path:
        """The name that is free now; the file's own once it is written."""
        return self.name.path


def check_prefix(prefix: str) -> None:
    """Refuse a file name prefix that is empty or leaves the output folder.

    Raises:
        OutputError: with the prefix as given.
    """
    parts = PurePosixPath(prefix.replace("\\", "/")).parts
    # A letter and a colon alone are no drive here: the colon will be replaced.
    absolute = PureWindowsPath(prefix).is_absolute() or prefix.startswith(("/", "\\"))
    if absolute or ".." in parts or not parts or prefix.endswith(("/", "\\")):
        raise OutputError(
            "the file name prefix does not name a file inside the output folder",
            got=repr(prefix),
            expected="a relative name, for example sounding_video/clip",
        )
    if "\0" in prefix:
        raise OutputError("the file name prefix holds a zero byte", got=repr(prefix), expected="a plain name")


class StageClock:
    """Words for the running stage: its step, and how long the rest will take.

    Args:
        now: Seconds of a clock.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._stage: tuple[str, int] | None = None
        self._start = self._first = self._told = 0.0
        self._first_done = self._last_done = 0
        self._has_counted = False  # whether a stage's text stands on the page
        self.has_spoken = False  # whether any text does

    def text(self, stage: str, done: int, total: int) -> str | None:
        """What to show after a unit; None when it is too early to say something new, twice a second at most."""
        now = self._now()
        if self._stage != (stage, total) or done < self._last_done:
            self._stage, self._start, self._told = (stage, total), now, now
            self._first, self._first_done = now, done
        elif self._first_done == 0 and done:
            self._first, self._first_done = now, done  # the first unit also warms up, so it does not count
        self._last_done = done
        if done == total:
            finished = f"{_title(stage)}: {total} in {_duration(max(1, now - self._start))}"
            return finished if self._has_counted else None  # of this stage, or an earlier one's would stay
        if now - self._told < _TOLD_EVERY_SECONDS:
            return None
        self._told, self._has_counted, self.has_spoken = now, True, True
        text = f"{_title(stage)} {done} of {total}"
        if done > self._first_done:
            text += f", {_duration((now - self._first) / (done - self._first_done) * (total - done))} left"
        return text


class StageBar:
    """One bar for a node of several stages: it never goes back, and is full when the last stage ends, not before.

    Where a single stage counts, its own units are shown (the steps of a sampler), else a thousandth of the whole. A
    repeated stage (once more in less memory) leaves the bar where it was until it gets further.

    Args:
        stages: Name and share of each, in order; 0 for what does not move the bar. None for one stage of any name.
        now: Seconds of a clock.
    """

    def __init__(self, stages: Sequence[tuple[str, float]] = (), now: Callable[[], float] = time.monotonic) -> None:
        self._stages, self._now = tuple(stages), now
        self._counting = sum(share > 0 for _, share in self._stages)
        self._index, self._running, self._last_done = -1, ("", 0), 0
        self._shown, self._sent = (0, 0), -float("inf")

    def move(self, stage: str, done: int, total: int) -> tuple[int, int] | None:
        """Value and end of the bar after a unit; None when nothing new is to be shown, or too soon."""
        if (stage, total) != self._running or done < self._last_done:
            self._enter(stage)
        self._running, self._last_done = (stage, total), done
        value, end = self._reached(stage, done, total)
        before, before_end = self._shown
        if end == before_end and value <= before and self._sent > 0:
            return None
        now = self._now()
        if value < end and now - self._sent < _MOVED_EVERY_SECONDS:
            return None
        self._shown, self._sent = (value, end), now
        return value, end

    def _enter(self, stage: str) -> None:
        """The next stage of that name; one that was not foreseen is part of the running one."""
        later = range(self._index + 1, len(self._stages))
        self._index = next((index for index in later if self._stages[index][0] == stage), self._index)

    def _reached(self, stage: str, done: int, total: int) -> tuple[int, int]:
        if not self._stages:
            return done, total
        name, share = self._stages[max(self._index, 0)]
        if name != stage or not share:
            return self._shown if self._shown[1] else (0, 1)
        if self._counting == 1:
            return done, total
        behind = sum(share for _, share in self._stages[: self._index])
        whole = behind + sum(share for _, share in self._stages[self._index :])
        return int(_BAR_END * (behind + share * (done / total if total else 1)) / whole), _BAR_END


def _title(stage: str) -> str:
    return STAGE_TITLES.get(stage, stage)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Pace:
    """Lets an extra happen only so often that it takes a small share of the time.

    Args:
        share: Of the time, at most.
        every_seconds: No more often than this.
        now: Seconds of a clock.
    """

    def __init__(
        self, share: float = 0.05, every_seconds: float = 0.5, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._share, self._every_seconds, self._now = share, every_seconds, now
        self._next = -float("inf")

    def due(self) -> bool:
        """Whether it is time again."""
        return self._now() >= self._next

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Around the extra; its duration sets when the next one is due."""
        start = self._now()
        yield
        end = self._now()
        self._next = end + max(self._every_seconds, (end - start) / self._share)
