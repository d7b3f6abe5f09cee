"""Throws odd input at every reader: ``python tests/fuzz.py --cases 100000``. Every exception has to be one of ours.

Prints reader, cases, failures and the slowest case. ``tests/test_fuzz.py`` runs a short seeded set of the same.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path[:0] = [str(Path(__file__).resolve().parent)]

import fuzz_files  # noqa: E402, F401 - registers its readers
import fuzz_workflows  # noqa: E402, F401
from fuzz_cases import seeded  # noqa: E402 - found beside this file
from fuzz_readers import READERS  # noqa: E402

SLOW_SECONDS = 1.0


@dataclass
class Outcome:
    """What became of the cases of one reader.

    Args:
        cases: How many there were.
        refused: How many ended in one of our errors.
        slowest: Seconds of the slowest, of the processor.
        failures: Exceptions that are not ours, and cases that took longer than a second, by what they are.
        examples: One case of each.
    """

    cases: int = 0
    refused: int = 0
    slowest: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    examples: dict[str, Any] = field(default_factory=dict)


def fuzz(name: str, cases: int, start: int | None = None) -> Outcome:
    """Try one reader.

    Args:
        name: A key of ``READERS``.
        cases: How many.
        start: Seed; None draws other cases each time.
    """
    from sounding_video.core.errors import SoundingVideoError

    reader, outcome = READERS[name], Outcome()
    quiet = settings(
        max_examples=cases,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=False,
    )
    with tempfile.TemporaryDirectory() as folder:

        def try_one(case: Any) -> None:
            # Of the processor, since others may be at work on this machine.
            started, outcome.cases = time.process_time(), outcome.cases + 1
            try:
                reader.read(case, Path(folder))
            except SoundingVideoError as error:
                outcome.refused += 1
                str(error)
            except Exception as error:  # noqa: BLE001 - this is what is looked for
                _keep(outcome, _named(error), case)
            seconds = time.process_time() - started
            outcome.slowest = max(outcome.slowest, seconds if outcome.cases > 1 else 0.0)
            if seconds > SLOW_SECONDS and outcome.cases > 1:  # the first one also loads modules
                _keep(outcome, f"slow: {seconds:.1f} s", case)

        run = quiet(given(seeded(reader.case))(try_one))
        (seed(start)(run) if start is not None else run)()
    return outcome


def _keep(outcome: Outcome, what: str, case: Any) -> None:
    outcome.failures[what] += 1
    outcome.examples.setdefault(what, case)


def _named(error: Exception) -> str:
    last = [frame for frame in traceback.extract_tb(error.__traceback__) if "fuzz" not in frame.filename][-1:]
    where = f" at {Path(last[0].filename).name}:{last[0].lineno}" if last else ""
    return f"{type(error).__name__}: {str(error)[:80]}{where}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000, help="of all readers together")
    parser.add_argument("--seed", type=int, help="for the same cases again")
    parser.add_argument("--only", default="", help="readers with this in their name")
    args = parser.parse_args(argv)
    logging.disable(logging.CRITICAL)
    # No case changes the bundled folder, and each workflow would look through it again.
    folders = import_module("sounding_video.nodes.host.folders")
    folders._bundled_bridges = cache(folders._bundled_bridges)
    names = [name for name in READERS if args.only in name]
    print("| reader | cases | refused | failures | slowest, ms |\n|---|---|---|---|---|")
    total = Outcome()
    for name in names:
        found = fuzz(name, max(1, args.cases // len(names)), args.seed)
        print(
            f"| {name} | {found.cases} | {found.refused} | {found.failures.total()} | {found.slowest * 1000:.0f} |",
            flush=True,
        )
        for what, count in found.failures.most_common(8):
            print(f"    {count} x {what}: {found.examples[what]!r:.300}", file=sys.stderr)
        total.cases += found.cases
        total.refused += found.refused
        total.failures += found.failures
        total.slowest = max(total.slowest, found.slowest)
    sums = f"{total.cases} | {total.refused} | {total.failures.total()} | {total.slowest * 1000:.0f}"
    print(f"| **{len(names)} readers** | {sums} |")
    return bool(total.failures)


if __name__ == "__main__":
    raise SystemExit(main())
