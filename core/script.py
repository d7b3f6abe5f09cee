"""Captions that change with time: ``[0] rain falls [10] a drum is struck [0:25] silence``.

A text is such a script where it begins with a time in brackets: seconds, or minutes and seconds. Each part holds until
the next one begins.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from .errors import InputError

_TIME = re.compile(r"\[\s*(?:([0-9]{1,4}):)?([0-9]{1,6}(?:\.[0-9]{1,3})?)\s*s?\s*\]")
MOST_PARTS = 1000
Part = tuple[Fraction, str]


def parts_of(text: str) -> tuple[Part, ...]:
    """The parts of a text with the second from which each holds; a text that is no script is one part.

    Raises:
        InputError: a script that does not begin at 0, whose times do not rise, or that has a part without words.
    """
    if not _TIME.match(text.lstrip()):
        return ((Fraction(0), text),)
    times = [Fraction(found[1] or 0) * 60 + Fraction(found[2]) for found in _TIME.finditer(text)]
    words = [part.strip() for part in _TIME.split(text)[3::3]]
    if times[0] != 0:
        raise InputError(
            "the first caption does not begin with the clip", got=f"[{float(times[0]):g}]", expected="[0] before it"
        )
    if len(times) > MOST_PARTS or any(later <= before for before, later in pairwise(times)):
        got = ", ".join(f"{float(time):g}" for time in times[:8]) + (", …" if len(times) > 8 else "")
        raise InputError(
            "the times of the captions do not rise", got=got, expected=f"at most {MOST_PARTS} times, each a later one"
        )
    for time, part in zip(times, words, strict=True):
        if not part:
            raise InputError("a caption has no words", got=f"nothing after [{float(time):g}]", expected="a description")
    return tuple(zip(times, words, strict=True))


def at(parts: Sequence[Part], seconds: Fraction) -> str:
    """The part that holds at a time."""
    return next(text for start, text in reversed(parts) if start <= seconds)


def together(*texts: str) -> list[tuple[Fraction, tuple[str, ...]]]:
    """Several texts side by side: each time at which one of them changes, with what all of them are then.

    Raises:
        InputError: see :func:`parts_of`.
    """
    scripts = [parts_of(text) for text in texts]
    starts = sorted({start for parts in scripts for start, _ in parts})
    return [(start, tuple(at(parts, start) for parts in scripts)) for start in starts]


def written(parts: Sequence[Part]) -> str:
    """Parts as one text that :func:`parts_of` reads; a single one as it is."""
    if len(parts) == 1:
        return parts[0][1]
    times = (f"{float(start):.3f}".rstrip("0").rstrip(".") for start, _ in parts)
    return " ".join(f"[{time}] {text}" for time, (_, text) in zip(times, parts, strict=True))
