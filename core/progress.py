"""Progress and cancel, handed in by whoever runs us: a command-line bar, ComfyUI, a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Protocol

STAGE_TITLES = {
    "load": "loading",
    "captions": "writing captions",
    "encode": "reading captions",
    "encode picture": "encoding picture",
    "encode sound": "encoding sound",
    "preview": "fitting preview",
    "sample": "sampling",
    "decode": "decoding",
    "decode sound": "decoding sound",
    "mux": "writing",
    "measure": "measuring motion",
}


class Report(Protocol):
    """Told after each unit of work.

    Args:
        stage: What is being done: "encode", "sample", "decode", "mux".
        done: Units finished, 0..total.
        total: Units in this stage.
        preview: Gives a value to look at (the current estimate) when called; costs nothing when not called.
    """

    def __call__(self, stage: str, done: int, total: int, preview: Callable[[], Any] | None = None) -> None:
        """Take note of one finished unit."""
        ...


def _silent(stage: str, done: int, total: int, preview: Callable[[], Any] | None = None) -> None:
    """Report nothing."""


def _never() -> None:
    """Never cancel."""


def _mute(sentence: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Progress:
    """The pair every long loop takes: a reporter, and a check that raises when the user wants out.

    Args:
        report: Called after each step.
        check_cancelled: Called before each step; raises :class:`~..core.errors.Cancelled` or the host's own
            interrupt. It must not be swallowed.
        tell: Given a sentence that the user should see before a long stage begins.
    """

    report: Report = _silent
    check_cancelled: Callable[[], None] = _never
    tell: Callable[[str], None] = _mute

    def step(self, stage: str, done: int, total: int, preview: Callable[[], Any] | None = None) -> None:
        """Report ``done`` of ``total`` and then give the user the chance to stop."""
        self.report(stage, done, total, preview)
        self.check_cancelled()

    def told_as(self, stage: str) -> Progress:
        """The same progress for a part of the work that has stages of its own: all of them go under one name."""

        def report(inner: str, done: int, total: int, preview: Callable[[], Any] | None = None) -> None:
            self.report(stage, done, total, preview)

        return replace(self, report=report)


SILENT = Progress()

_STOP: ContextVar[Callable[[], None]] = ContextVar("stop", default=_never)


@contextmanager
def stoppable(progress: Progress) -> Iterator[None]:
    """Whatever asks by :func:`ask_to_stop` inside the block asks ``progress``.

    A stage opens this around all its work. What works deep inside it then needs no reporter to be handed down: every
    layer that computes (:func:`~..models.placement.on_device`), every tensor that is read, every counted forward.
    """
    token = _STOP.set(progress.check_cancelled)
    try:
        yield
    finally:
        _STOP.reset(token)


def ask_to_stop() -> None:
    """Give the user the chance to stop the running stage; raises what its check raises."""
    _STOP.get()()


def can_be_stopped() -> bool:
    """Whether anybody could stop the running stage, so that asking is worth its while."""
    return _STOP.get() is not _never
