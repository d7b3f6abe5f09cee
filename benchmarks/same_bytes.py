"""Same seed, same bytes? A command is given again: in the same process, in another, and with every way to offload.

    python benchmarks/same_bytes.py --write

Two things are compared with the first clip: what is decoded from the file, frames and samples, and the file's own
bytes. Weights that wait elsewhere must not change a clip. It needs no card: on a CPU the hooks of every way run too,
and move weights from the CPU to the CPU. ``--device cuda`` compares the ways on a card.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from sounding_video.cli import main as command
from sounding_video.core.device import OFFLOAD_MODES
from sounding_video.media.probe import read_clip

FILE = Path(__file__).with_suffix(".md")
PROMPT = "a hammer strikes an iron anvil three times"


def arguments(path: Path, device: str, steps: int, *others: str) -> list[str]:
    """Of the command that makes a clip."""
    own = ["--models", "pocket", "--seed", "7", "--steps", str(steps), "--device", device]
    return ["generate", PROMPT, "-o", str(path), *own, *others]


def content(path: Path) -> str:
    """A hash of the frames and samples that a file holds."""
    clip = read_clip(path)
    found = hashlib.sha256(clip.video.frames.contiguous().numpy().tobytes())
    found.update(clip.audio.waveform.contiguous().numpy().tobytes())
    return found.hexdigest()


def make_all(folder: Path, device: str, steps: int) -> dict[str, Path]:
    """The same clip in every way; the first is the one that the others are compared with."""
    made: dict[str, Path] = {}
    for name in ("the first", "again, same process"):
        path = folder / str(len(made)) / "clip.mp4"
        if command(arguments(path, device, steps)):
            raise SystemExit(f"{name}: the command failed")
        made[name] = path
    ways = {
        "another process": (),
        **{f"--offload {mode}": ("--offload", mode) for mode in OFFLOAD_MODES},
        "--offload auto": ("--offload", "auto"),
    }
    for name, others in ways.items():
        path = folder / str(len(made)) / "clip.mp4"
        asked = arguments(path, device, steps, *others)
        subprocess.run([sys.executable, "-m", "sounding_video", *asked], check=True, stdout=subprocess.DEVNULL)
        made[name] = path
    return made


def table(made: dict[str, Path]) -> tuple[str, bool]:
    """A row a clip, and whether all are what they have to be.

    A file's tags hold the way to offload that was asked for, so only the same command has to give the same file.
    """
    first, *others = made
    told, right = [], True
    for name in others:
        same_content = content(made[name]) == content(made[first])
        same_file = made[name].read_bytes() == made[first].read_bytes()
        right = right and same_content and (same_file or name.startswith("--offload"))
        words = ("equal" if same_content else "**other**", "equal" if same_file else "other: its tags name the way")
        told.append(f"| {name} | " + " | ".join(words) + " |")
    return "\n".join(["| | frames and samples | the file |", "|---|---|---|", *told]), right


def main() -> int:
    """Make, compare and print; 1 when a clip is another one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name}")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text, right = table(make_all(Path(folder), given.device, given.steps))
    print(text)
    if given.write:
        asked = f"`python benchmarks/{Path(__file__).name} --device {given.device} --steps {given.steps} --write`"
        where = f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"
        words = f"Compared with the first clip of the same command, bundled model. {where}."
        FILE.write_text(f"# Same seed, same bytes\n\n{asked}\n\n{words}\n\n{text}\n", encoding="utf-8")
    return int(not right)


if __name__ == "__main__":
    sys.exit(main())
