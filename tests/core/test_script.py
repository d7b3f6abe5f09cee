"""Captions that change with time: what is a script, and what is a plain text."""

from __future__ import annotations

from fractions import Fraction

import pytest
from sounding_video.core.errors import InputError
from sounding_video.core.script import MOST_PARTS, at, parts_of, together, written


@pytest.mark.parametrize("text", ["", "rain falls", "a (red:1.2) [ball]", "rain [10] falls", "[x] rain", "(0) rain"])
def test_a_text_that_does_not_begin_with_a_time_is_one_part(text):
    assert parts_of(text) == ((0, text),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[0] rain", ((0, "rain"),)),
        (
            "  [0]rain falls[2.5 s]  a drum,\nstruck [1:05]snow",
            ((0, "rain falls"), (2.5, "a drum,\nstruck"), (65, "snow")),
        ),
        ("[00:00.0] a\n[00:10.5] b", ((0, "a"), (10.5, "b"))),
        ("[0] a [1234.567] b [99:59.999] c", ((0, "a"), (Fraction("1234.567"), "b"), (Fraction("5999.999"), "c"))),
        ("[0s] a (b:1.2) [c] [7] d", ((0, "a (b:1.2) [c]"), (7, "d"))),
    ],
)
def test_parts_with_the_seconds_from_which_they_hold(text, expected):
    assert parts_of(text) == tuple((Fraction(start), words) for start, words in expected)
    assert parts_of(written(parts_of(text))) == parts_of(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[5] rain", "does not begin with the clip"),
        ("[0] rain [0] snow", "do not rise"),
        ("[0] rain [9] snow [3] sun", "do not rise"),
        ("[0] rain [9] ", "has no words"),
        ("[0] [9] rain", "has no words"),
        (" ".join(f"[{time}] a" for time in range(MOST_PARTS + 1)), "do not rise"),
    ],
)
def test_scripts_that_make_no_sense_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        parts_of(text)


def test_two_texts_side_by_side():
    assert together("a", "b") == [(0, ("a", "b"))]
    both = together("[0] a [4] b", "[0] x [2] y")
    assert both == [(0, ("a", "x")), (2, ("a", "y")), (4, ("b", "y"))]
    assert at(parts_of("[0] a [4] b"), Fraction(399, 100)) == "a"
