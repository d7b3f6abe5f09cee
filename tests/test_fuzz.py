"""A short set of the fuzzer's cases, the same every time: every exception is one of ours, and none takes long.

The long run is ``python tests/fuzz.py --cases 100000``; its figures stand in ``benchmarks/fuzz.md``.
"""

from __future__ import annotations

import logging

import pytest
from fuzz import fuzz
from fuzz_readers import READERS

CASES = 40
# A busy machine makes others wait: only what hangs is caught here, the long run looks at a second.
HANGS = 20.0


@pytest.mark.parametrize("name", READERS)
def test_every_exception_is_one_of_ours(name: str) -> None:
    logging.disable(logging.CRITICAL)
    try:
        found = fuzz(name, CASES, 0)
    finally:
        logging.disable(logging.NOTSET)
    assert found.cases >= CASES // 2
    wrong = {what: repr(found.examples[what])[:500] for what in found.failures if not what.startswith("slow")}
    assert not wrong
    assert found.slowest < HANGS


def test_the_fuzzer_finds_what_is_no_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    from fuzz_readers import Reader

    def broken(case: int, folder: object) -> None:
        if case % 2:
            raise KeyError(case)

    monkeypatch.setitem(READERS, "broken", Reader(lambda rng: rng.randrange(100), broken))
    assert fuzz("broken", 30, 0).failures.total() > 5


def test_some_alignment_files_are_whole() -> None:
    """Only then does what stands behind the header get anything to read."""
    logging.disable(logging.CRITICAL)
    try:
        found = fuzz("alignment files", CASES, 0)
    finally:
        logging.disable(logging.NOTSET)
    assert CASES // 10 <= found.cases - found.refused <= CASES * 3 // 4
