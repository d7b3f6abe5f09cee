"""Whether guidance works: event F1 and scene accuracy over a grid of video and audio guidance scales.

    python benchmarks/pocket/guidance_grid.py --scales 1 2 4 7 --modality-scales 1 2 3 --clips 20 --write

Every cell is the same prompts with the same seeds. Modality guidance has a grid of its own, at the model's own guidance
scales; it is off in the other. Clips that are there already are kept.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from dataclasses import replace
from pathlib import Path

from clips import EXPANDED, Wish, load_pocket, make_clips, measure, pocket_options, pocket_size, wishes
from sounding_video.evaluation.runner import Evaluation
from sounding_video.pipeline import JoinedModel, SamplingOptions

FILE = Path(__file__).with_suffix(".md")
PICTURE = Path(__file__).with_suffix(".png")
SHOWN = (
    ("event F1 ±2", "event_f1", "f1_2_frames"),
    ("scene, picture", "scene_accuracy_picture", "correct"),
    ("scene, sound", "scene_accuracy_sound", "correct"),
)
Cell = tuple[float, float]
GUIDANCE, MODALITY = "guidance", "modality guidance"


def grids(results: dict[Cell, Evaluation], scales: list[float], kind: str) -> str:
    """One table a metric: video scales down, audio scales across."""
    parts = []
    for title, metric, value in SHOWN:
        lines = [f"| {title}; {kind} video ↓ audio → | " + " | ".join(f"{scale:g}" for scale in scales) + " |"]
        lines.append("|---:|" + "---:|" * len(scales))
        for video in scales:
            found = (results[video, audio].summary[metric][value] for audio in scales)
            cells = ("–" if number is None else f"{number:.3f}" for number in found)
            lines.append(f"| {video:g} | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def draw(made: dict[str, tuple[dict[Cell, Evaluation], list[float]]]) -> None:
    """The same as pictures, one row a grid."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6 * len(made)), layout="constrained")
    rows = figure.subplots(len(made), len(SHOWN), squeeze=False)
    for axes_of_row, (kind, (results, scales)) in zip(rows, made.items(), strict=True):
        for axes, (title, metric, value) in zip(axes_of_row, SHOWN, strict=True):
            values = [[results[v, a].summary[metric][value] or 0.0 for a in scales] for v in scales]
            image = axes.imshow(values, vmin=0, vmax=1, origin="lower", cmap="viridis")
            for row, numbers in enumerate(values):
                for column, number in enumerate(numbers):
                    axes.text(column, row, f"{number:.2f}", ha="center", va="center", color="white", fontsize=9)
            labels = [f"{scale:g}" for scale in scales]
            axes.set(title=title, xlabel=f"audio {kind}", ylabel=f"video {kind}")
            axes.set_xticks(range(len(scales)), labels)
            axes.set_yticks(range(len(scales)), labels)
    figure.colorbar(image, ax=figure.axes)
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--models", default="pocket", help="pocket, or a folder that `train.py --assemble` wrote")
    add("--scales", type=float, nargs="+", default=[1.0, 2.0, 4.0, 7.0], help="of both modalities")
    add("--modality-scales", type=float, nargs="*", default=[1.0, 2.0, 3.0], help="of modality guidance, likewise")
    add("--clips", type=int, default=20, help="validation prompts a cell, scenes in turn (default: 20)")
    add("--steps", type=int, default=25)
    add("--output", type=Path, default=Path("output/pocket/guidance"), help="folder of the clips")
    add("--write", action="store_true", help=f"write {FILE.name} and {PICTURE.name}")
    args = parser.parse_args()
    started, model = time.monotonic(), load_pocket(args.models)
    own = pocket_options(args.models, steps=args.steps)
    wanted = wishes(args.clips, pocket_size(args.models), split="validation")
    made = {}
    for kind, scales in ((GUIDANCE, args.scales), (MODALITY, args.modality_scales)):
        pairs = itertools.product(scales, scales)
        cells = {pair: cell(model, wanted, args, own, kind, *pair) for pair in pairs}
        made |= {kind: (cells, scales)} if scales else {}
    tables = "\n\n".join(grids(cells, scales, kind) for kind, (cells, scales) in made.items())
    text = (
        f"{args.clips} prompts of the world's validation split a cell, {args.steps} steps, captions by the lexicon.\n\n"
        f"{tables}\n\n{time.monotonic() - started:.0f} s on {os.cpu_count()} CPU cores."
    )
    print(text)
    if args.write:
        draw(made)
        lists = [" ".join(f"{scale:g}" for scale in scales) for scales in (args.scales, args.modality_scales)]
        command = f"{Path(__file__).name} --scales {lists[0]} --modality-scales {lists[1]} --clips {args.clips}"
        FILE.write_text(
            "# Guidance scales of the pocket model\n\n"
            f"`python benchmarks/pocket/{command} --steps {args.steps} --write`\n\n{text}\n\n![]({PICTURE.name})\n",
            encoding="utf-8",
        )


def cell(
    model: JoinedModel,
    wanted: list[Wish],
    args: argparse.Namespace,
    own: SamplingOptions,
    kind: str,
    video: float,
    audio: float,
) -> Evaluation:
    """Clips with one pair of scales, and what they measure."""
    if kind == GUIDANCE:
        scales = {"video_guidance_scale": video, "audio_guidance_scale": audio}
        scales |= {"video_modality_scale": 1.0, "audio_modality_scale": 1.0}
    else:
        scales = {"video_modality_scale": video, "audio_modality_scale": audio}
    folder = args.output / f"{kind.replace(' ', '_')}-{video:g}-{audio:g}-{args.steps}"
    make_clips(model, wanted, folder, options=replace(own, **scales), captions=EXPANDED)
    print(f"{kind}: video {video:g}, audio {audio:g} done", flush=True)
    return measure(folder)


if __name__ == "__main__":
    main()
