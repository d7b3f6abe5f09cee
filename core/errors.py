"""The exception tree. Every message says what is wrong, what was got, what is expected and how to mend it.

::

    SoundingVideoError            exit code 1
    ├── InputError                exit code 2   a value the user gave
    │   ├── GeometryError                       frames, size, duration, rate
    │   ├── NonFiniteError                      NaN or infinity where numbers are needed
    │   ├── WorkflowError                       a workflow file that cannot run
    │   ├── TextError                           a text or JSON that cannot be read
    │   └── OutputError                         the place where the result should go
    ├── WeightsError              exit code 2   a weight file
    │   ├── CorruptWeightsError                 truncated, unreadable, not what its name says
    │   ├── UnsafeWeightsError                  a pickle that wants to run code
    │   └── IncompatibleWeightsError            right file, wrong model: keys, shapes, fusion kind, bridge points
    ├── MissingModelError         exit code 3   nothing found on disk
    ├── MissingPackageError       exit code 3   an optional package is not installed
    ├── PlacementError            exit code 2   device, dtype, offload or kernel that cannot run here
    ├── ServerError               exit code 1   a ComfyUI server refused or failed
    ├── CaptionError              exit code 1   a language model failed or never answered in the form asked for
    └── Cancelled                 exit code 130 the user stopped it
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

_LONGEST_GOT = 4000


class SoundingVideoError(Exception):
    """Root of all errors this project raises on purpose.

    Args:
        what: One clause that names the problem, without a full stop.
        got: The offending value, shown as given.
        expected: What would have been right.
        remedy: What the user can do now, as a full sentence.
    """

    exit_code = 1

    def __init__(self, what: str, *, got: Any = None, expected: str = "", remedy: str = "") -> None:
        self.what, self.got, self.expected, self.remedy = what, got, expected, remedy
        text = what
        if got is not None:
            text += f": got {_shown(got)}"
        if expected:
            text += f"; expected {expected}"
        text += "."
        if remedy:
            text += f" {remedy}"
        super().__init__(text)


def _shown(got: Any) -> str:
    """The value as text; what has none, and a text of a million characters, must not hide the sentence."""
    try:
        text = str(got)
    except (ValueError, RecursionError) as error:  # a whole number of thousands of digits, a list nested as deeply
        return f"{type(got).__name__} that cannot be shown ({type(error).__name__})"
    return text if len(text) <= _LONGEST_GOT else f"{text[:_LONGEST_GOT]} … ({len(text)} characters)"


class InputError(SoundingVideoError, ValueError):
    """A value the user gave cannot be used."""

    exit_code = 2


def require_choice(what: str, value: str, choices: Iterable[str]) -> None:
    """Refuse a word that is not one of the choices; the message lists them.

    Args:
        what: What the word chooses, as a noun: "schedule".
        value: The word.
        choices: What is allowed.

    Raises:
        InputError: it is none of them.
    """
    if value not in choices:
        raise InputError(f"unknown {what}", got=repr(value), expected="one of " + ", ".join(choices))


class GeometryError(InputError):
    """Frames, size, duration or rate do not fit the towers."""


class NonFiniteError(InputError):
    """NaN or infinity where finite numbers are needed."""


class WorkflowError(InputError):
    """A workflow file that cannot run: unknown node, wrong link, value out of range."""


class TextError(InputError):
    """A text or JSON that is not what it seems: binary, cut off, nested too deep, or with numbers without end."""


class OutputError(InputError):
    """The result cannot be written where it should go."""


class WeightsError(SoundingVideoError):
    """A weight file cannot be used."""

    exit_code = 2


class CorruptWeightsError(WeightsError):
    """Truncated or unreadable, or not the format it claims to be."""


class UnsafeWeightsError(WeightsError):
    """A pickle that names code to run; it is refused unread."""


class IncompatibleWeightsError(WeightsError):
    """The file is fine but belongs to another model."""


class MissingModelError(SoundingVideoError):
    """A model was not found on disk.

    Args:
        what: As of every error.
        got: The same.
        expected: The same.
        remedy: The same.
        refused: What was found in its place and cannot be used, a sentence each with its reason.
    """

    exit_code = 3

    def __init__(
        self, what: str, *, got: Any = None, expected: str = "", remedy: str = "", refused: Sequence[str] = ()
    ) -> None:
        self.refused = tuple(refused)
        told = f"Found, but not usable: {' '.join(refused)}" if refused else ""
        super().__init__(what, got=got, expected=expected, remedy=" ".join(filter(None, (told, remedy))))


class MissingPackageError(SoundingVideoError, ImportError):
    """An optional package is needed for what was asked."""

    exit_code = 3


class PlacementError(SoundingVideoError):
    """An explicit device, dtype, offload mode or attention kernel cannot run here."""

    exit_code = 2


class ServerError(SoundingVideoError):
    """A ComfyUI server refused a workflow or failed while running it."""


class CaptionError(SoundingVideoError):
    """A language model, or the server it runs on, gave no usable answer."""


class Cancelled(SoundingVideoError):
    """The user stopped the run; nothing half-written is left behind."""

    exit_code = 130

    def __init__(self, what: str = "stopped by the user") -> None:
        super().__init__(what)
