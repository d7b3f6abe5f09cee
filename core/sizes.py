"""Sizes in bytes as people read and write them. Two short functions, not worth a package."""

from __future__ import annotations

import re

from .errors import InputError

MOST_BYTES = 10**18
_UNITS = {"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "g": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def size_text(num_bytes: float) -> str:
    """``7.5 GB``; below a tenth of that unit ``12.0 MB``."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.1f} MB"


def parse_bytes(text: str) -> int:
    """``8GB``, ``7.5 GiB`` or a number of bytes.

    Raises:
        InputError: something else.
    """
    match = re.fullmatch(r"\s*([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([a-z]{0,3})\s*", text.lower())
    if match is None or match[2] not in _UNITS or not 1 <= float(match[1]) * _UNITS[match[2]] < MOST_BYTES:
        raise InputError(
            "this is no amount of memory", got=repr(text[:60]), expected="for example 8GB, 7.5GiB or 8000000000"
        )
    return int(float(match[1]) * _UNITS[match[2]])
