"""Kills commands at random moments, and looks at what is left. Run: python benchmarks/reliability.py --moments 10.

Each moment is one run in a new process that gets SIGINT, SIGTERM or SIGKILL in turn at a random time of a whole run's,
and then the same command to its end in the same folder. Counted are files that cannot be read, temporary files that the
second run leaves, a second run that fails, tracebacks, and exit codes other than those of the signal. Needs
no weights: the bundled model.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from sounding_video.core.errors import SoundingVideoError
from sounding_video.media.probe import probe
from sounding_video.models.weights.bridges import load_bridges

ROOT = Path(__file__).resolve().parents[1]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
CODES = {signal.SIGINT: (130, -2), signal.SIGTERM: (143, -15), signal.SIGKILL: (-9,)}
MODELS = ("--models", "pocket", "--steps", "2", "--frames", "9", "--no-expand")
COMMANDS: dict[str, tuple[str, ...]] = {
    "synth": ("synth", "-n", "12", "-o", "clips", "--size", "64x64", "--frames", "17"),
    "convert": (
        "convert",
        str(ROOT / "models" / "pocket" / "bridge.safetensors"),
        "-o",
        "b.safetensors",
        "--overwrite",
    ),
    "generate": ("generate", "rain", "-o", "clips/a.mp4", "--seed", "1", *MODELS),
}


def run(arguments: tuple[str, ...], folder: Path, *, number: int = 0, after: float = 0.0) -> tuple[int, str]:
    """Run a command to its end, or send it a signal after some seconds; gives exit code and what it said."""
    line = [sys.executable, "-m", "sounding_video", *arguments]
    process = subprocess.Popen(line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if number:
        time.sleep(after)
        process.send_signal(number)
    _, err = process.communicate()
    return process.returncode, err


def faults(folder: Path, *, is_last: bool) -> list[str]:
    """What is wrong with the files of a folder."""
    found = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        if path.name.startswith("."):
            found += ["stray file"] if is_last else []
            continue
        try:
            if path.suffix == ".mp4":
                probe(path)
            elif path.suffix == ".safetensors":
                load_bridges(path)
        except SoundingVideoError:
            found.append("half file")
    return found


def moments(name: str, count: int, seed: int) -> Counter[str]:
    """Stop a command so many times; what happened, by kind."""
    chance, arguments, told = random.Random(f"{name} {seed}"), COMMANDS[name], Counter()
    with tempfile.TemporaryDirectory() as whole:
        started = time.perf_counter()
        run(arguments, Path(whole))
        lasting = time.perf_counter() - started
    for moment in range(count):
        number = SIGNALS[moment % len(SIGNALS)]
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            code, err = run(arguments, folder, number=number, after=chance.uniform(0.02, lasting))
            told["stopped" if code else "had ended"] += 1
            told["other exit code"] += code not in (0, *CODES[number])
            told["traceback"] += "Traceback" in err and "sounding_video" in err
            for fault in faults(folder, is_last=False):
                told[fault] += 1
            code, _ = run(arguments, folder)
            told["second run failed"] += code != 0
            for fault in faults(folder, is_last=True):
                told[fault] += 1
    return told


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--moments", type=int, default=10, help="how often each command is stopped")
    parser.add_argument("--commands", nargs="+", default=list(COMMANDS), choices=list(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    kinds = ("stopped", "had ended", "half file", "stray file", "second run failed", "traceback", "other exit code")
    print(f"| command | {' | '.join(kinds)} |\n|---|{'---|' * len(kinds)}")
    for name in args.commands:
        told = moments(name, args.moments, args.seed)
        print(f"| {name} | {' | '.join(str(told[kind]) for kind in kinds)} |", flush=True)


if __name__ == "__main__":
    main()
