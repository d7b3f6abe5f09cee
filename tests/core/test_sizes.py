"""Sizes of memory and files, said and read."""

from __future__ import annotations

import pytest
from sounding_video.core.errors import InputError
from sounding_video.core.sizes import parse_bytes, size_text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0.0 MB"), (49_999, "0.0 MB"), (99_949_999, "99.9 MB"), (100_000_000, "0.1 GB"), (7_420_000_000, "7.4 GB")],
)
def test_a_size_is_said_in_the_unit_that_fits(num_bytes, text):
    assert size_text(num_bytes) == text


@pytest.mark.parametrize(
    ("text", "num_bytes"),
    [("8GB", 8e9), (" 7.5 GiB", 7.5 * 2**30), ("1000", 1000), ("12 mb", 12e6), ("0.1 GB", 1e8), ("3g", 3e9)],
)
def test_a_size_is_read(text, num_bytes):
    assert parse_bytes(text) == int(num_bytes)


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1 TB", "1,5 GB", "1e9", "8 GB free"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(InputError, match="this is no amount of memory"):
        parse_bytes(text)
