"""Standard output and error: whatever the terminal cannot show, whoever stops reading, and where there is no room."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from ..core.disk import reason
from ..core.errors import OutputError, SoundingVideoError


class NoOutput(OutputError):
    """Standard output takes nothing more: its disk is full, or it is closed."""


class ReaderGone(SoundingVideoError):
    """Whoever read standard output has heard enough, as ``head`` does; nothing is said of it."""

    exit_code = 141


class _Stream:
    """A text stream that replaces what its encoding has no letter for, and says for itself why it cannot go on."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's own."""
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        """Whether somebody looks on."""
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    def write(self, text: str) -> int:
        """Write it, letters that cannot be shown as their numbers."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            text.encode(encoding, getattr(self._stream, "errors", None) or "strict")
        except UnicodeEncodeError:
            text = text.encode(encoding, "backslashreplace").decode(encoding)
        with self._refusals():
            if self._stream is None:
                raise ValueError("it is closed")
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand over what was written."""
        if self._stream is not None:
            with self._refusals():
                self._stream.flush()

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        yield


class Output(_Stream):
    """Standard output: what cannot be written there ends the command."""

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # the second: it is closed
            let_go(self._stream)
            if isinstance(error, BrokenPipeError):
                raise ReaderGone("whoever read the output has gone") from error
            raise NoOutput(
                "the result cannot be printed",
                got=f"standard output ({reason(error)})",
                expected="a terminal, a pipe that is read, or a file with room",
                remedy="What was made stays; --quiet prints nothing.",
            ) from error


class Talk(_Stream):
    """Standard error: where nobody hears, work goes on."""

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        with contextlib.suppress(OSError, ValueError):
            yield


def let_go(stream: TextIO | None) -> None:
    """Send what a refused stream still holds nowhere, or the interpreter would complain of it at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError, io.UnsupportedOperation):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextmanager
def our_streams() -> Iterator[None]:
    """For a ``with`` block, :class:`Output` and :class:`Talk` in front of the process's own streams."""
    before = sys.stdout, sys.stderr
    _occupy_closed()
    sys.stdout, sys.stderr = Output(before[0]), Talk(before[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _occupy_closed() -> None:
    """Take the numbers of streams that were closed before the start.

    The next file that is opened would have one of them, and get whatever a library prints.
    """
    for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is None:
            with contextlib.suppress(OSError):
                os.fstat(number)
                continue
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
