"""Progress on stderr: one bar a stage on a terminal, one line a stage elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from ..core.progress import STAGE_TITLES as TITLES


class StageBars:
    """A tqdm bar for the running stage, with steps and the time left."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage: str | None = None

    def report(self, stage: str, done: int, total: int, preview: Callable[[], Any] | None = None) -> None:
        """Move the bar; a new stage or a new count starts a new one."""
        if self._bar is None or stage != self._stage or total != self._bar.total or done < self._bar.n:
            from tqdm import tqdm

            self.close()
            self._stage = stage
            self._bar = tqdm(total=total, desc=f"{TITLES.get(stage, stage):>16}", file=sys.stderr, dynamic_ncols=True)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Leave the last state on the screen and go to a new line."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class StageLines:
    """One line when a stage is done: its count and how long it took since the one before."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def report(self, stage: str, done: int, total: int, preview: Callable[[], Any] | None = None) -> None:
        """Print when the last unit is done."""
        if done == total:
            now = time.monotonic()
            print(f"{TITLES.get(stage, stage)}: {done}/{total}, {now - self._since:.1f} s", file=sys.stderr, flush=True)
            self._since = now

    def close(self) -> None:
        """Nothing is open."""
