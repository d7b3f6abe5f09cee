"""A thousand clips in one process by the Python functions: do memory, open files or threads grow?

    python benchmarks/clips_soak.py --clips 1000 --write

Each clip has another prompt, seed and length, so that captions, text encoders, towers and codecs run anew; it is
written, and removed. Counted after every clip are the resident memory of the process, its open files and its threads.
What grows after the first 50 clips is kept by somebody: memory is compared by the medians of 50 clips each, because the
allocator gives pages back when it likes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

FILE = Path(__file__).with_suffix(".md")
MIB = 2**20
WARM_UP = 50
FRAMES = (9, 17, 33)
MOST_GROWTH = 0.02


class Held(NamedTuple):
    """What the process holds after a clip."""

    rss: int
    files: int
    threads: int


def soak(clips: int, steps: int) -> list[Held]:
    """Make one clip after the other.

    Returns:
        What the process held after each.
    """
    sys.path.insert(0, str(Path(__file__).with_name("pocket")))
    from clips import FPS, NO_NEGATIVES, captions_of, load_pocket, pocket_options, pocket_size, wishes
    from sounding_video.core.clock import Timeline
    from sounding_video.media.mux import write_clip
    from sounding_video.pipeline import generate

    model, size, options = load_pocket(device="cpu"), pocket_size(), pocket_options(steps=steps)
    this, held = psutil.Process(), []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(clips):
            (wish,) = wishes(1, size, first_seed=index)
            timeline = Timeline(FRAMES[index % len(FRAMES)], FPS, size, size, model.geometry)
            clip = generate(
                model,
                captions_of(wish),
                timeline=timeline,
                negatives=NO_NEGATIVES,
                options=replace(options, seed=index),
            )
            path = Path(folder) / "clip.mp4"
            write_clip(clip, path)
            held.append(Held(this.memory_info().rss, this.num_fds(), this.num_threads()))
            if (index + 1) % WARM_UP == 0:
                print(f"after {index + 1}: {held[-1].rss / MIB:.0f} MiB, {held[-1].files} files", flush=True)
    return held


def growth(held: list[Held]) -> float:
    """Of memory: the median of the last 50 clips against that of the 50 after the first 50."""
    first, last = held[WARM_UP : 2 * WARM_UP], held[-WARM_UP:]
    return median(h.rss for h in last) / median(h.rss for h in first) - 1


def main() -> int:
    """Run and print; 1 when something grew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=2, help="of the sampler a clip (default: 2)")
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name}")
    given = parser.parse_args()
    if given.clips < 3 * WARM_UP:
        parser.error(f"--clips {given.clips}: at least {3 * WARM_UP}, the first {WARM_UP} only warm up")
    held = soak(given.clips, given.steps)
    grown, warm, last = growth(held), held[WARM_UP - 1], held[-1]
    words = (
        f"{given.clips} clips of {given.steps} steps, {', '.join(map(str, FRAMES))} frames in turn. From the clips "
        f"after the {WARM_UP}th to the last {WARM_UP} the process's memory grew by {grown:+.1%} (medians of {WARM_UP} "
        f"clips), open files by {last.files - warm.files}, threads by {last.threads - warm.threads}."
    )
    marks = sorted({WARM_UP, *range(100, given.clips + 1, 100), given.clips})
    rows = [f"| {n} | {held[n - 1].rss / MIB:.0f} | {held[n - 1].files} | {held[n - 1].threads} |" for n in marks]
    table = "\n".join(["| after clips | MiB | open files | threads |", "|---:|---:|---:|---:|", *rows])
    print(f"{words}\n\n{table}")
    if given.write:
        command = f"`python benchmarks/{Path(__file__).name} --clips {given.clips} --steps {given.steps} --write`"
        FILE.write_text(
            f"# Many clips in one process\n\n{command} on {os.cpu_count()} CPU cores.\n\n{words}\n\n{table}\n",
            encoding="utf-8",
        )
    return int(grown >= MOST_GROWTH or last.files > warm.files or last.threads > warm.threads)


if __name__ == "__main__":
    sys.exit(main())
