"""What the user sees: results on stdout, everything else on stderr. And what Ctrl-C does."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

from ..core.errors import Cancelled, SoundingVideoError
from ..core.progress import SILENT, Progress
from .bar import StageBars, StageLines

# The parent of "….cli": whatever name this package was imported under.
PACKAGE = __package__.rpartition(".")[0]


@dataclass(frozen=True)
class Console:
    """How one command talks.

    Args:
        as_json: One JSON object on stdout.
        quiet: Warnings and errors only.
        verbose: More than usual.
        progress: Bar or lines on stderr, and the check for Ctrl-C.
    """

    as_json: bool
    quiet: bool
    verbose: bool
    progress: Progress = SILENT
    close_progress: Callable[[], None] = lambda: None

    @classmethod
    @contextmanager
    def open(cls, args: argparse.Namespace, check_cancelled: Callable[[], None]) -> Iterator[Console]:
        """Set up log, library warnings and progress for one command, and take all of it down again."""
        silent = args.json or args.quiet
        bars = None if silent else StageBars() if sys.stderr.isatty() else StageLines()
        reporter = (bars.report, check_cancelled, _teller()) if bars else (SILENT.report, check_cancelled)
        progress = Progress(*reporter)
        with _log_on_stderr(args.verbose), warnings.catch_warnings():
            if not args.verbose:
                warnings.simplefilter("ignore")
            try:
                yield cls(args.json, args.quiet, args.verbose, progress, bars.close if bars else lambda: None)
            finally:
                if bars:
                    bars.close()

    def report(self, text: str, values: Mapping[str, Any]) -> None:
        """The command's result: ``values`` for machines, ``text`` for people."""
        if self.as_json:
            _say(json.dumps(values, ensure_ascii=False, indent=2))
        elif not self.quiet:
            _say(text)

    def note(self, text: str) -> None:
        """A line on stderr for people who watch."""
        if not (self.as_json or self.quiet):
            _say(text, on_stderr=True)

    def warn(self, text: str) -> None:
        """A line on stderr that the user should not miss."""
        _say(text, on_stderr=True)


def _say(text: str, *, on_stderr: bool = False) -> None:
    """Print; what the terminal has no letter for, such as a file name that is no text, is written as its number."""
    stream = sys.stderr if on_stderr else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding, getattr(stream, "errors", None) or "strict")
    except UnicodeEncodeError:
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    print(text, file=stream, flush=on_stderr)


def _teller() -> Callable[[str], None]:
    """Prints each sentence once: several stages may know the same."""
    told: set[str] = set()

    def tell(sentence: str) -> None:
        if sentence not in told:
            told.add(sentence)
            print(f"note: {sentence}", file=sys.stderr, flush=True)

    return tell


def print_error(error: SoundingVideoError, *, as_json: bool) -> None:
    """One sentence on stderr, or with ``--json`` an object on stdout."""
    if as_json:
        got = None if error.got is None else str(error.got)
        fields = {"what": error.what, "got": got, "expected": error.expected, "remedy": error.remedy}
        values = {"type": type(error).__name__, "message": str(error), **fields, "exit_code": error.exit_code}
        _say(json.dumps({"error": values}, ensure_ascii=False, indent=2))
    elif isinstance(error, Cancelled):
        _say(str(error), on_stderr=True)
    else:
        _say(f"error: {error}", on_stderr=True)


class StopOnInterrupt:
    """Makes Ctrl-C stop the run at once, and for certain, for the time of a ``with`` block.

    The signal raises ``KeyboardInterrupt`` wherever the program is. A library may swallow it or die of it in its own
    way (an interrupted import does): then the next progress check, or the end of the block, raises :class:`Cancelled`.
    """

    def __init__(self) -> None:
        self._pressed = False
        self._before: Any = None

    def __enter__(self) -> Callable[[], None]:
        """Start listening; gives the check for :class:`~..core.progress.Progress`."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self._check

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening; whatever an interrupted run died of was the interrupt."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
        if self._pressed and error is not None:
            raise Cancelled from error

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._pressed = True
        raise KeyboardInterrupt

    def _check(self) -> None:
        if self._pressed:
            raise Cancelled


@contextmanager
def _log_on_stderr(verbose: bool) -> Iterator[None]:
    """Send this package's log to stderr: warnings, and with ``--verbose`` also what was picked."""
    logger = logging.getLogger(PACKAGE)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    level = logger.level
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
