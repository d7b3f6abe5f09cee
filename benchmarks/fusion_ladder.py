"""The ladder of fusion kinds on the pocket towers: same budget, same seeds, same clips (BridgeDiT Table 5, Figure 4).

    python benchmarks/fusion_ladder.py --steps 1500 --seeds 0 1 --clips 30 --write

Kinds: no bridge, video_to_audio, audio_to_video, additive (of means, as released, and moment by moment), full and
dual_cross with time-aligned rotary positions, and dual_cross with the official ones. Places: dual_cross elsewhere in
the towers (Table 7). Schedules: lockstep and coupled sampling, after training at the pairs of times that lockstep
visits and after training at one shared time, as in the paper. Every rung is ``sounding-video train pocket_bridges``
with a few values changed; what is there already is kept, so a stopped ladder goes on with the same command, and seeds
may be climbed side by side (``--seeds 0`` and ``--seeds 1``, then both with ``--write``).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from sounding_video.cli.bar import StageBars
from sounding_video.core.progress import Progress
from sounding_video.evaluation.runner import Evaluation
from sounding_video.training.assembly import exported
from sounding_video.training.checkpoint import latest_checkpoint
from sounding_video.training.log import read_log
from sounding_video.training.recipes import recipe
from sounding_video.training.trainer import train

sys.path.insert(0, str(Path(__file__).with_name("pocket")))
from clips import COLUMNS, load_pocket, make_clips, measure, pocket_options, pocket_size, wishes

FILE = Path(__file__).with_suffix(".md")
PICTURE = Path(__file__).with_name("fusion_ladder.png")
# Blocks of eight after which three bridges stand; the names are those of the paper's Table 7.
PLACES = {"early": "0,1,2", "middle": "2,3,4", "late": "5,6,7", "spread": "1,3,5"}
NONE = "no bridge"
# Steps that a point of the training curves, and a loss of the table, is the mean of.
WINDOW = 40


@dataclass(frozen=True)
class Rung:
    """One variant.

    Args:
        title: In the table.
        overrides: Of the recipe; None for no bridge.
        schedule: Of the sampler.
    """

    title: str
    overrides: tuple[str, ...] | None
    schedule: str = "lockstep"


def _kind(name: str, *more: str, place: str = "spread") -> tuple[str, ...]:
    points = PLACES[place]
    return f"bridges.kind={name}", f"bridges.video_points={points}", f"bridges.audio_points={points}", *more


# Not the identity at the start and without attention: neither start helps it.
PLAIN_START = ("bridges.gate_bias=0", "bridges.moment_bias=0")
SHARED = ("objective.times=shared",)
KINDS = (
    Rung(NONE, None),
    Rung("additive", _kind("additive", *PLAIN_START)),
    Rung("additive, moment by moment", _kind("additive", *PLAIN_START, "bridges.reading=paper")),
    *(Rung(name, _kind(name)) for name in ("audio_to_video", "video_to_audio", "full", "dual_cross")),
    Rung("dual_cross, official positions", _kind("dual_cross", "bridges.rope=official", "bridges.moment_bias=0")),
)
PLACEMENTS = tuple(
    Rung(f"dual_cross, {place}", _kind("dual_cross", place=place)) for place in ("early", "middle", "late")
)
SCHEDULES = (
    Rung(f"{NONE}, coupled", None, "coupled"),
    Rung("dual_cross, coupled", _kind("dual_cross"), "coupled"),
    Rung("dual_cross, trained at one time", _kind("dual_cross", *SHARED)),
    Rung("dual_cross, trained at one time, coupled", _kind("dual_cross", *SHARED), "coupled"),
)


def run_folder(rung: Rung, seed: int, args: argparse.Namespace) -> Path:
    """Where a rung's bridges are trained; rungs that differ only in the schedule share it."""
    values = [item.split("=")[1].replace(",", "") for item in rung.overrides or ()]
    return args.output / "runs" / f"{'-'.join(values)}-{args.steps}-seed{seed}"


def bridge_of(rung: Rung, seed: int, args: argparse.Namespace) -> Path | str:
    """Train a rung's bridges, or go on with them, and give their file."""
    if rung.overrides is None:
        return "none"
    folder = run_folder(rung, seed, args)
    config = recipe(
        "pocket_bridges",
        [
            f"models.root={args.models}",
            f"data.width={pocket_size(args.models)}",
            f"data.height={pocket_size(args.models)}",
            f"data.cache={args.cache}",
            f"num_steps={args.steps}",
            f"seed={seed}",
            *rung.overrides,
            *args.set,
        ],
    )
    bars = StageBars()
    try:
        progress = Progress(bars.report, lambda: None)
        train(config, folder, resume=latest_checkpoint(folder) is not None, progress=progress)
    finally:
        bars.close()
    return exported(folder) / "bridge.safetensors"


def climb(rung: Rung, seed: int, args: argparse.Namespace) -> Evaluation:
    """Train, make the clips, measure them."""
    model = load_pocket(args.models, bridge=bridge_of(rung, seed, args))
    name = "".join(letter if letter.isalnum() else "_" for letter in rung.title)
    folder = args.output / "clips" / f"{name}-{args.steps}-seed{seed}"
    options = pocket_options(
        args.models,
        steps=args.sampling_steps,
        video_guidance_scale=args.guidance,
        audio_guidance_scale=args.guidance,
        video_modality_scale=1.0,
        audio_modality_scale=1.0,
        schedule=rung.schedule,
    )
    wanted = wishes(args.clips, pocket_size(args.models), split="validation", first_seed=1000 * seed)
    make_clips(model, wanted, folder, options=options)
    return measure(folder)


def ladder_table(results: dict[str, list[Evaluation]], rungs: Sequence[Rung], args: argparse.Namespace) -> str:
    """Markdown: mean over seeds and, in brackets, each seed's event F1; the last 40 steps' mean loss beside it.

    Rungs of one seed see the same clips, noise and times at the same step, so that their losses can be compared, where
    they train at the same kind of times.
    """
    by_title = {rung.title: rung for rung in rungs}
    titles = (*(title for title, *_ in COLUMNS), "loss, video", "loss, audio")
    lines = ["| rung | seeds | " + " | ".join(titles) + " |"]
    lines.append("|---|---:|" + "---:|" * len(titles))
    for title, runs in results.items():
        cells = []
        for index, (_, metric, value) in enumerate(COLUMNS):
            found = [run.summary[metric][value] for run in runs if run.summary[metric][value] is not None]
            text = f"{mean(found):.3f}" if found else "–"
            each = ", ".join(f"{number:.2f}" for number in found)
            cells.append(f"{text} ({each})" if index == 0 and len(found) > 1 else text)
        for modality in ("video", "audio"):
            ends = [_losses(by_title[title], seed, args, modality)[-1:] for seed in args.seeds[: len(runs)]]
            ends = [end[0] for end in ends if end]
            cells.append(f"{mean(ends):.4f}" if ends else "–")
        lines.append(f"| {title} | {len(runs)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def seconds_per_step(args: argparse.Namespace, rungs: Sequence[Rung]) -> float:
    """Mean over all runs, from their logs."""
    folders = {run_folder(rung, seed, args) for rung in rungs if rung.overrides for seed in args.seeds}
    return mean(row["seconds"] for folder in folders for row in read_log(folder / "loss.jsonl"))


def draw_curves(args: argparse.Namespace, rungs: Sequence[Rung]) -> None:
    """Training loss, means over 40 steps and over seeds, in each modality; below, each rung against all of them.

    Without the rungs that train at one shared time, whose losses are of other times.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    trained: dict[Path, Rung] = {}
    for rung in rungs:
        if rung.overrides and not set(SHARED) <= set(rung.overrides):
            trained.setdefault(run_folder(rung, 0, args), rung)
    shown = list(trained.values())
    colours = colormaps["tab20"].colors
    figure = Figure(figsize=(12, 7.5), layout="constrained")
    for column, modality in zip(figure.subplots(2, 2, sharex=True).T, ("video", "audio"), strict=True):
        by_seed = [[_losses(rung, seed, args, modality) for seed in args.seeds] for rung in shown]
        curves = [[mean(values) for values in zip(*logs, strict=True)] for logs in by_seed]
        middle = [mean(values) for values in zip(*curves, strict=True)]
        steps = [WINDOW * (i + 1) for i in range(len(middle))]
        for rung, curve, colour in zip(shown, curves, colours, strict=False):
            column[0].plot(steps, curve, color=colour, linewidth=1.5)
            apart = [loss - everyone for loss, everyone in zip(curve, middle, strict=True)]
            column[1].plot(steps, apart, color=colour, linewidth=1.5, label=rung.title)
        column[0].set(ylabel=f"{modality} loss", title=modality)
        column[1].set(xlabel="step", ylabel="difference to the mean of all")
    handles, titles = column[1].get_legend_handles_labels()
    figure.legend(handles, titles, loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(PICTURE, dpi=100)


def _losses(rung: Rung, seed: int, args: argparse.Namespace, modality: str) -> list[float]:
    """Means over 40 steps each; none of a rung that is not trained."""
    if rung.overrides is None:
        return []
    rows = read_log(run_folder(rung, seed, args) / "loss.jsonl")
    losses = [row[modality] for row in rows]
    return [mean(losses[start : start + WINDOW]) for start in range(0, len(losses) - WINDOW + 1, WINDOW)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--models", default="pocket", help="pocket, or a folder with trained towers")
    add("--steps", type=int, default=1500, help="training steps of every rung")
    add("--seeds", type=int, nargs="+", default=[0, 1])
    add("--clips", type=int, default=30, help="clips a rung and seed, of the validation split")
    add("--sampling-steps", type=int, default=25)
    add("--guidance", type=float, default=3.0, help="scale of both modalities")
    add(
        "--parts", nargs="+", choices=("kinds", "placements", "schedules"), default=["kinds", "placements", "schedules"]
    )
    add("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further overrides of the recipe, for every rung")
    add("--cache", type=Path, default=Path("output/pocket/cache"), help="latents and texts, shared by all rungs")
    add("--output", type=Path, default=Path("output/fusion_ladder"))
    add("--write", action="store_true", help=f"write {FILE.name} and {PICTURE.name}")
    args = parser.parse_args()
    parts = {"kinds": KINDS, "placements": PLACEMENTS, "schedules": SCHEDULES}
    rungs = [rung for part in args.parts for rung in parts[part]]
    results: dict[str, list[Evaluation]] = {}
    for seed in args.seeds:
        for rung in rungs:
            results.setdefault(rung.title, []).append(climb(rung, seed, args))
            print(ladder_table(results, rungs, args), flush=True)
    text = (
        f"{args.steps} training steps a rung, seeds {', '.join(map(str, args.seeds))}; {args.clips} validation prompts "
        f"a rung and seed, {args.sampling_steps} sampling steps, guidance {args.guidance:g} in both modalities.\n\n"
        f"{ladder_table(results, rungs, args)}\n\n"
        f"A step of training took {seconds_per_step(args, rungs):.2f} s on one of {os.cpu_count()} CPU cores."
    )
    if args.write:
        draw_curves(args, rungs)
        seeds, settings = " ".join(map(str, args.seeds)), " ".join(args.set)
        command = f"python benchmarks/{FILE.stem}.py --steps {args.steps} --seeds {seeds} --clips {args.clips}"
        command += (f" --set {settings}" if settings else "") + " --write"
        FILE.write_text(
            f"# The ladder of fusion kinds\n\n`{command}`\n\n{text}\n\n![training curves]({PICTURE.name})\n",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
