"""Hostile inputs of all kinds over all commands, other ones than the tests have; counted is what is handled well.

    OMP_NUM_THREADS=1 python benchmarks/hostile.py --write

Each input is laid out and its command run in a forked child of its own: 20 s of CPU, 3 GiB of memory more than the
package itself takes, files of at most 300 MB. Well handled is the right result, or one sentence and exit code 2 or 3 (1
where a server or the disk is at fault; that of the signal where one is sent), with nothing left behind or changed,
and no letters that steer a terminal. A hang is what does not end within the CPU time, or within 150 s. A leak is the
key, the home folder's or the user's name in what is printed, written or sent elsewhere. It needs no weights but the
bundled model, and no network: servers are stand-ins on this machine. ``--seed`` draws the inputs that are drawn.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import re
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch
from hostile_inputs import case, media, numbers, paths, readers, servers, signals, texts, weights
from hostile_inputs.case import Case, Outcome, Place
from sounding_video.cli import main as command

FILE = Path(__file__).with_suffix(".md")
ROOMS = (paths, texts, numbers, weights, servers, media, readers, signals)
KINDS = {
    1: "paths and their OSErrors", 2: "what a terminal cannot show", 3: "text that is not what it seems",
    4: "numbers without bounds", 5: "words for a choice", 6: "metadata of bridges",
    7: "safetensors, GGUF, checkpoints", 8: "folders of diffusers", 9: "servers",
    10: "media", 11: "what readers are given", 12: "signals and repeats", 13: "leftovers",
}  # fmt: skip
COLUMNS = ("inputs", "well", "not well", "hangs", "leaks", "code executed")


def every_case(seed: int) -> Iterator[Case]:
    """All of them, always in the same order."""
    for room in ROOMS:
        yield from room.cases(random.Random(f"{seed} {room.__name__}"))


def prepare(shared: Path) -> None:
    """Make what many inputs begin with, and thereby import what children would import each."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    lines = (
        ("synth", "-n", "3", "-o", "world", "--size", "32x32", "--frames", "9"),
        ("generate", "rain", "-o", "clip.mp4", *case.SMALL),
        ("generate", "rain", "-o", "clip.mkv", *case.SMALL),
        ("generate", "rain", "-o", "clip.webm", *case.SMALL),
        ("generate", "rain", "-o", "clip.flac", *case.SMALL),
        ("sound", "clip.mp4", "rain", "-o", "clip.wav", "--models", "pocket", "--steps", "1", "--no-expand"),
        ("picture", "clip.wav", "rain", "-o", "picture.mp4", "--models", "pocket", "--steps", "1", "--no-expand"),
        ("evaluate", "world"),
        ("doctor", "--plan", "--models", "pocket"),
        ("models", "--models", "world"),
        ("expand", "rain"),
    )  # fmt: skip
    here = Path.cwd()
    os.chdir(shared)
    try:
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):  # noqa: PTH123
            for line in lines:
                if command(line):
                    raise SystemExit(f"fails by itself: {line}")
    finally:
        os.chdir(here)
    if threading.active_count() > 1:
        raise SystemExit("threads are left, and a fork would not have them")


def counted(chosen: list[Case], *, tell: bool) -> tuple[dict[int, Counter[str]], list[tuple[Case, Outcome]]]:
    """Run all; the counts by kind, and what was not handled well."""
    counts: dict[int, Counter[str]] = {kind: Counter() for kind in KINDS}
    bad = []
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        shared = Path(folder) / "shared"
        shared.mkdir()
        prepare(shared)
        for number, one in enumerate(chosen):
            place = Place(Path(folder) / str(number), shared)
            outcome = case.run(one, place)
            told = counts[one.kind]
            told.update(inputs=1, well=int(not outcome.problems), hangs=int(outcome.hang), leaks=int(outcome.leak))
            told.update({"not well": int(bool(outcome.problems)), "code executed": int(outcome.ran)})
            if outcome.problems:
                bad.append((one, outcome))
            if tell:
                told = "; ".join(outcome.problems) or "well"
                print(f"{one.kind:2} {outcome.seconds:5.1f} s {outcome.code:4} {one.name}: {told}", flush=True)
                if outcome.problems:
                    print("      " + outcome.said.strip().replace("\n", "\n      ")[-1500:], flush=True)
            _clear(place.root)
    return counts, bad


def _clear(folder: Path) -> None:
    for path, _, _ in os.walk(folder):
        Path(path).chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)


def table(counts: dict[int, Counter[str]]) -> str:
    """A row a kind, and their sum."""
    rows = [f"| kind | {' | '.join(COLUMNS)} |", "|---|" + "---|" * len(COLUMNS)]
    rows += [
        f"| {kind}. {KINDS[kind]} | {' | '.join(str(told[name]) for name in COLUMNS)} |"
        for kind, told in counts.items()
        if told["inputs"]
    ]
    whole = sum(counts.values(), Counter())
    return "\n".join([*rows, f"| all | {' | '.join(str(whole[name]) for name in COLUMNS)} |"])


def main() -> int:
    """Run, print and write; 1 when something was not handled well."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", type=int, default=list(KINDS), choices=list(KINDS), metavar="N")
    parser.add_argument("--each", type=int, metavar="N", help="at most so many of a kind, drawn (default: all)")
    parser.add_argument("--only", default="", metavar="REGEX", help="inputs whose name matches")
    parser.add_argument("--list", action="store_true", help="name the inputs, and stop")
    parser.add_argument("--verbose", action="store_true", help="a line an input")
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name}")
    given = parser.parse_args()
    known = [one for one in every_case(given.seed) if re.search(given.only, one.name)]
    chosen = [one for kind in given.kinds for one in drawn([one for one in known if one.kind == kind], given)]
    if given.list:
        print("\n".join(f"{one.kind:2} {one.name}" for one in chosen), f"\n{len(chosen)} inputs")
        return 0
    started = time.monotonic()
    counts, bad = counted(chosen, tell=given.verbose)
    text = table(counts)
    print(text)
    for one, outcome in bad:
        print(f"- kind {one.kind}, {one.name}: {'; '.join(outcome.problems)}")
    print(f"{time.monotonic() - started:.0f} s")
    if given.write:
        write(text, bad, given)
    return int(bool(bad))


def drawn(known: list[Case], given: argparse.Namespace) -> list[Case]:
    """As many of a kind as are asked for, in their order."""
    if given.each is None or given.each >= len(known):
        return known
    taken = random.Random(f"{given.seed} {known[0].kind}").sample(range(len(known)), given.each)
    return [known[number] for number in sorted(taken)]


def write(text: str, bad: list[tuple[Case, Outcome]], given: argparse.Namespace) -> None:
    """Put the table into the file; what stands above it, told by people, stays."""
    each = "" if given.each is None else f" --each {given.each}"
    asked = f"`OMP_NUM_THREADS=1 python benchmarks/{Path(__file__).name} --seed {given.seed}{each} --write`"
    where = f"{platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    rest = [f"- kind {one.kind}, {one.name}: {'; '.join(outcome.problems)}" for one, outcome in bad]
    mark = "<!-- written by the command -->"
    told = FILE.read_text(encoding="utf-8").partition(mark)[0] if FILE.exists() else "# Hostile inputs\n\n"
    parts = [told + mark, f"{asked}, {where}:", text, *(["\n".join(["Not well:", "", *rest])] if rest else [])]
    FILE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
