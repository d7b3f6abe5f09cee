"""Doing without root's rights for the time of a test, so that locked files and folders are locked."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class _Capabilities(ctypes.Structure):
    """Linux' ``capget`` and ``capset``: a header of version and process, then three sets of 32 bits, twice."""

    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


READ_ANYTHING = (1 << 1) | (1 << 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH


@contextmanager
def without_rights() -> Iterator[None]:
    """Root may look into everything; without these capabilities it may what the rights of a folder say."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (_Capabilities * 2)()
    if libc.capget(header, sets) != 0:
        pytest.skip("this system has no capabilities, and the tests run as root")
    own = sets[0].effective
    sets[0].effective = own & ~READ_ANYTHING
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0].effective = own
        assert libc.capset(header, sets) == 0
