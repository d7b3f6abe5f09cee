"""Whether guidance works: event F1 and scene accuracy over a grid of video and audio guidance scales.

    python benchmarks/pocket/guidance_grid.py --scales 1 2 4 7 --clips 20 --write

Every cell is the same prompts with the same seeds. Clips that are there already are kept.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from clips import EXPANDED, load_pocket, make_clips, measure, pocket_options, pocket_size, wishes
from sounding_video.evaluation.runner import Evaluation

FILE = Path(__file__).with_suffix(".md")
PICTURE = Path(__file__).with_suffix(".png")
SHOWN = (
    ("event F1 ±2", "event_f1", "f1_2_frames"),
    ("scene, picture", "scene_accuracy_picture", "correct"),
    ("scene, sound", "scene_accuracy_sound", "correct"),
)
Cell = tuple[float, float]


def grids(results: dict[Cell, Evaluation], scales: list[float]) -> str:
    """One table a metric: video scales down, audio scales across."""
    parts = []
    for title, metric, value in SHOWN:
        lines = [f"| {title}: video ↓ audio → | " + " | ".join(f"{scale:g}" for scale in scales) + " |"]
        lines.append("|---:|" + "---:|" * len(scales))
        for video in scales:
            found = (results[video, audio].summary[metric][value] for audio in scales)
            cells = ("–" if number is None else f"{number:.3f}" for number in found)
            lines.append(f"| {video:g} | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def draw(results: dict[Cell, Evaluation], scales: list[float]) -> None:
    """The same as pictures."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for axes, (title, metric, value) in zip(figure.subplots(1, len(SHOWN)), SHOWN, strict=True):
        values = [[results[v, a].summary[metric][value] or 0.0 for a in scales] for v in scales]
        image = axes.imshow(values, vmin=0, vmax=1, origin="lower", cmap="viridis")
        for row, numbers in enumerate(values):
            for column, number in enumerate(numbers):
                axes.text(column, row, f"{number:.2f}", ha="center", va="center", color="white", fontsize=9)
        labels = [f"{scale:g}" for scale in scales]
        axes.set(title=title, xlabel="audio guidance", ylabel="video guidance")
        axes.set_xticks(range(len(scales)), labels)
        axes.set_yticks(range(len(scales)), labels)
    figure.colorbar(image, ax=figure.axes)
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--models", default="pocket", help="pocket, or a folder that `train.py --assemble` wrote")
    add("--scales", type=float, nargs="+", default=[1.0, 2.0, 4.0, 7.0], help="of both modalities")
    add("--clips", type=int, default=20, help="validation prompts a cell, scenes in turn (default: 20)")
    add("--steps", type=int, default=25)
    add("--output", type=Path, default=Path("output/pocket/guidance"), help="folder of the clips")
    add("--write", action="store_true", help=f"write {FILE.name} and {PICTURE.name}")
    args = parser.parse_args()
    started, results, model = time.monotonic(), {}, load_pocket(args.models)
    wanted = wishes(args.clips, pocket_size(args.models), split="validation")
    for video in args.scales:
        for audio in args.scales:
            options = pocket_options(args.models, steps=args.steps, video_guidance=video, audio_guidance=audio)
            folder = args.output / f"{video:g}-{audio:g}-{args.steps}"
            make_clips(model, wanted, folder, options=options, captions=EXPANDED)
            results[video, audio] = measure(folder)
            print(f"video {video:g}, audio {audio:g} done", flush=True)
    text = (
        f"{args.clips} prompts of the world's validation split a cell, {args.steps} steps, captions by the lexicon.\n\n"
        f"{grids(results, args.scales)}\n\n{time.monotonic() - started:.0f} s on {os.cpu_count()} CPU cores."
    )
    print(text)
    if args.write:
        draw(results, args.scales)
        scales = " ".join(f"{scale:g}" for scale in args.scales)
        command = f"{Path(__file__).name} --scales {scales} --clips {args.clips} --steps {args.steps} --write"
        FILE.write_text(
            f"# Guidance scales of the pocket model\n\n`python benchmarks/pocket/{command}`\n\n{text}\n\n"
            f"![]({PICTURE.name})\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
