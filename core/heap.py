"""Memory that was freed goes back to the system, where the C library would keep it."""

from __future__ import annotations

import ctypes


def trim_heap() -> None:
    """Give back what is free in all heaps; nothing where the C library has no such call.

    glibc keeps a heap for every thread and what was freed in it for later use. Encoders start new threads for each
    clip, so a process that makes many clips would grow by one such heap after another.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, another system
        return
    trim(0)
