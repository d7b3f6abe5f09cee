"""What the user sees: results on stdout, everything else on stderr. And what Ctrl-C does."""

from __future__ import annotations

import argparse
import json
import logging
import re
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any

from ..core.errors import Cancelled, SoundingVideoError
from ..core.progress import SILENT, Progress
from .bar import StageBars, StageLines
from .streams import NoOutput, ReaderGone, our_streams

_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Ctrl-C, the system's wish to end, a terminal that was closed; the last is not on Windows.
STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
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
        close_progress: Ends the bar.
        told: Sentences that stages have told so far.
    """

    as_json: bool
    quiet: bool
    verbose: bool
    progress: Progress = SILENT
    close_progress: Callable[[], None] = lambda: None
    told: set[str] = field(default_factory=set)

    @classmethod
    @contextmanager
    def open(cls, args: argparse.Namespace, check_cancelled: Callable[[], None]) -> Iterator[Console]:
        """Set up log, library warnings and progress for one command, and take all of it down again."""
        silent = args.json or args.quiet
        bars = None if silent else StageBars() if sys.stderr.isatty() else StageLines()
        told: set[str] = set()
        reporter = (bars.report, check_cancelled, _teller(told)) if bars else (SILENT.report, check_cancelled)
        progress = Progress(*reporter)
        with _log_on_stderr(args.verbose), warnings.catch_warnings():
            if not args.verbose:
                warnings.simplefilter("ignore")
            try:
                yield cls(args.json, args.quiet, args.verbose, progress, bars.close if bars else lambda: None, told)
            finally:
                if bars:
                    bars.close()

    def report(self, text: str, values: Mapping[str, Any]) -> None:
        """The command's result: ``values`` for machines, ``text`` for people."""
        if self.as_json:
            _say(json.dumps(values, indent=2))
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
    """Print, and be sure that it is printed; what in a file's name would steer the terminal is written as its number.

    Raises:
        NoOutput: standard output takes nothing more.
    """
    text = _STEERING.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
    print(text, file=sys.stderr if on_stderr else sys.stdout, flush=True)


def _teller(told: set[str]) -> Callable[[str], None]:
    """Prints each sentence once, as several stages may know the same; ``told`` holds them."""

    def tell(sentence: str) -> None:
        if sentence not in told:
            told.add(sentence)
            _say(f"note: {sentence}", on_stderr=True)

    return tell


def print_error(error: SoundingVideoError, *, as_json: bool) -> None:
    """One sentence on stderr, or with ``--json`` an object on stdout."""
    if isinstance(error, ReaderGone):
        return
    if as_json and not isinstance(error, NoOutput):
        got = None if error.got is None else str(error.got)
        fields = {"what": error.what, "got": got, "expected": error.expected, "remedy": error.remedy}
        values = {"type": type(error).__name__, "message": str(error), **fields, "exit_code": error.exit_code}
        _say(json.dumps({"error": values}, indent=2))
    elif isinstance(error, Cancelled):
        _say(str(error), on_stderr=True)
    else:
        _say(f"error: {error}", on_stderr=True)


def with_streams(run: Callable[[], int], *, as_json: bool, last: bool) -> int:
    """Run a command and say how it ended.

    Args:
        run: The command; gives its exit code or raises one of our errors.
        as_json: Errors are objects on stdout.
        last: The process ends after it: signals have nothing left to stop.

    Returns:
        The exit code.
    """
    with our_streams():
        try:
            code = run()
            sys.stdout.flush()
        except SystemExit:  # --help and --version
            try:
                sys.stdout.flush()
            except SoundingVideoError as error:
                print_error(error, as_json=as_json)
                return error.exit_code
            raise
        except SoundingVideoError as error:
            code = error.exit_code
            try:
                print_error(error, as_json=as_json)
            except SoundingVideoError as unheard:
                code = unheard.exit_code
                print_error(unheard, as_json=as_json)
        if last:
            for number in STOPPING:
                signal.signal(number, signal.SIG_IGN)
        return code


class StopOnInterrupt:
    """Makes Ctrl-C and the system's wish to end stop the run at once and for certain, for a ``with`` block's time.

    The signal raises ``KeyboardInterrupt`` wherever the program is, so that everything half-made is taken away on the
    way out. A library may swallow it or die of it in its own way (an interrupted import does): then the next progress
    check, or the end of the block, raises :class:`Cancelled`.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Callable[[], None]:
        """Start listening; gives the check for :class:`~..core.progress.Progress`."""
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                # nohup has the hang-up ignored, and means it
                if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self._check

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening; whatever an interrupted run died of was the interrupt."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._number is not None and error is not None:
            raise stopped_by(self._number) from error

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._number = number
        raise KeyboardInterrupt

    def _check(self) -> None:
        if self._number is not None:
            raise stopped_by(self._number)


def stopped_by(number: int) -> Cancelled:
    """What a signal ends a command with; the exit code is the one that shells give."""
    if number == signal.SIGINT:
        return Cancelled()
    stopped = Cancelled(f"stopped by {signal.Signals(number).name}")
    stopped.exit_code = 128 + number
    return stopped


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
