"""Reading frame rates: exact, and bounded before a fraction is made of them."""

from __future__ import annotations

import re
from fractions import Fraction
from numbers import Rational

from .errors import GeometryError
from .options import shown

Rate = Fraction | float | int | str
MAX_FPS = 1000
_FINEST = 100_000  # greatest denominator; a rate of less than one frame in a day is none
# Exponents of three digits at most: a fraction writes out every zero.
_RATE = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,3}|/[0-9]{1,40})?")


def as_fps(value: Rate) -> Fraction:
    """Read a frame rate as an exact fraction; 23.976, 29.97 and 59.94 are read as the NTSC rates they stand for.

    Raises:
        GeometryError: not a number, not positive, or above 1000.
    """
    try:
        if isinstance(value, str) and not _RATE.fullmatch(value.strip()):
            raise ValueError("not plain digits")
        if not isinstance(value, (str, float, Rational)):
            raise TypeError("no kind of number that a rate is")
        fps = Fraction(str(value)) if isinstance(value, float) else Fraction(value)
    except (ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise GeometryError(
            "the frame rate is not a number", got=shown(value), expected="for example 15 or 30000/1001"
        ) from error
    exact = fps.limit_denominator(_FINEST)
    if not 0 < exact <= MAX_FPS:
        raise GeometryError(
            "the frame rate is out of range",
            got=shown(value),
            expected=f"above 0 and at most {MAX_FPS} frames per second",
        )
    ntsc = Fraction(round(fps * Fraction(1001, 1000)) * 1000, 1001)
    if ntsc and fps != ntsc and fps.denominator != 1 and abs(fps - ntsc) < Fraction(1, 1000):
        return ntsc
    return exact
