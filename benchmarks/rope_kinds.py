"""Positions of bridges compared on the pocket towers: same budget, same clips, noise and times at every step.

    python benchmarks/rope_kinds.py ~/rope_kinds --steps 1500 --seeds 0 1 2 --clips 40 --write

For every kind of positions and every seed: train ``pocket_bridges`` with it, take the loss on validation clips (the
same clips, noise and times for all), make clips of validation prompts and measure their events. Kinds that have a
common time begin by looking at one moment, as the bundled bridges did; the official one cannot. All state lies in the
folder that is given, outside this repository. What is there is kept, so a stopped comparison goes on with the same
command; seeds may be run side by side, and put together by one more run over all of them with ``--write``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

import torch
from sounding_video.core.progress import Progress
from sounding_video.models.rope import on_clock
from sounding_video.models.ropes import ROPES
from sounding_video.models.towers.base import TokenGrid
from sounding_video.training.assembly import build_workbench, exported
from sounding_video.training.batches import Batches, Share
from sounding_video.training.config import TrainConfig
from sounding_video.training.recipes import recipe

sys.path.insert(0, str(Path(__file__).with_name("pocket")))
from clips import load_pocket, make_clips, measure, pocket_options, pocket_size, wishes
from intervals import Counts, events_of, f1_difference
from resumed import train_on

FILE = Path(__file__).with_suffix(".md")
REPOSITORY = Path(__file__).resolve().parents[1]
# The rows are compared with this one: it is what the bundled bridges have.
BASE = "time_aligned"
# Each validation clip is seen this often, with other noise and at another time.
LOOKS = 4
LOSS_SEED = 20_000


@dataclass(frozen=True)
class Result:
    """One kind of positions, trained from one seed.

    Args:
        video_loss: On validation clips.
        audio_loss: Likewise.
        f1_2: Event F1 within two frames, of clips made from validation prompts.
        f1_1: Within one frame.
    """

    video_loss: float
    audio_loss: float
    f1_2: float
    f1_1: float


TITLES = {"video_loss": "loss, video", "audio_loss": "loss, audio", "f1_2": "event F1 ±2", "f1_1": "event F1 ±1"}


def configuration(rope: str, seed: int, args: argparse.Namespace) -> TrainConfig:
    """A run of ``pocket_bridges``; kinds differ in their positions alone, and in whether they can look at a moment."""
    has_moments = ROPES.get(rope)().moments(1, *on_clock(TokenGrid(2), TokenGrid(2))) is not None
    size = pocket_size(args.models)
    overrides = [
        f"models.root={args.models}",
        f"data.width={size}",
        f"data.height={size}",
        f"data.cache={args.output / 'cache'}",
        f"num_steps={args.steps}",
        f"seed={seed}",
        f"device={args.device}",
        f"bridges.rope={rope}",
        *([] if has_moments else ["bridges.moment_bias=0"]),
    ]
    return recipe("pocket_bridges", [*overrides, *args.set])


def folder_of(rope: str, seed: int, args: argparse.Namespace) -> Path:
    """Everything of one run: its checkpoints, its clips and its result."""
    return args.output / f"{rope}-{args.steps}-seed{seed}"


def trained(rope: str, seed: int, args: argparse.Namespace) -> Path:
    """Train the bridges, or go on with them, and give their file."""
    folder = folder_of(rope, seed, args) / "run"
    train_on(configuration(rope, seed, args), folder)
    return exported(folder) / "bridge.safetensors"


def validation_losses(bridge: Path, args: argparse.Namespace) -> tuple[float, float]:
    """Mean loss of picture and sound; clips, noise and times are the same whatever the bridges are."""
    config = configuration(BASE, LOSS_SEED, args).override(
        [
            f"bridges.start={bridge}",
            "data.split=validation",
            f"data.num_clips={args.clips}",
            "objective.video_text_dropout=0",
            "objective.audio_text_dropout=0",
            "models.compile=false",
        ]
    )
    root = latest_models(bridge, args)
    bench = build_workbench(config, root)
    batches = Batches(config, bench, args.output / "cache")
    batches.prepare(torch.device("cpu"), Share(), Progress())
    bench.step.eval()
    with torch.no_grad():
        losses = [bench.step(batches.at(position, 1).tensors) for position in range(LOOKS * args.clips)]
    return mean(float(row["video"]) for row in losses), mean(float(row["audio"]) for row in losses)


def latest_models(bridge: Path, args: argparse.Namespace) -> Path:
    """The towers that the bridges were trained on: the run's own where earlier runs were laid over, else the root."""
    laid = bridge.parents[3] / "models"
    if laid.is_dir():
        return laid
    from sounding_video.models.weights.find import POCKET, pocket_folder

    return pocket_folder() if args.models == POCKET else Path(args.models)


def result_of(rope: str, seed: int, args: argparse.Namespace) -> Result:
    """Train, measure and note; what was noted with the same settings is not done again."""
    folder, run = folder_of(rope, seed, args), configuration(rope, seed, args).hash
    note = folder / f"result-{run}-{args.clips}-{args.sampling_steps}-{args.guidance:g}.json"
    if note.is_file():
        return Result(**json.loads(note.read_text(encoding="utf-8")))
    bridge = trained(rope, seed, args)
    options = pocket_options(
        args.models,
        steps=args.sampling_steps,
        video_guidance_scale=args.guidance,
        audio_guidance_scale=args.guidance,
        video_modality_scale=1.0,
        audio_modality_scale=1.0,
    )
    wanted = wishes(args.clips, pocket_size(args.models), split="validation", first_seed=1000 * seed)
    clips = clips_of(rope, seed, args)
    make_clips(
        load_pocket(latest_models(bridge, args), bridge=bridge, device=args.device), wanted, clips, options=options
    )
    events = measure(clips).summary["event_f1"]
    found = [float("nan") if events[name] is None else events[name] for name in ("f1_2_frames", "f1_1_frame")]
    result = Result(*validation_losses(bridge, args), *found)
    partial = note.with_suffix(".part")
    partial.write_text(json.dumps(asdict(result)) + "\n", encoding="utf-8")
    partial.replace(note)
    return result


def clips_of(rope: str, seed: int, args: argparse.Namespace) -> Path:
    """Where a run's clips and what was measured of them lie."""
    return folder_of(rope, seed, args) / f"clips-{args.sampling_steps}-{args.guidance:g}"


def counts_of(rope: str, seeds: Iterable[int], args: argparse.Namespace) -> dict[tuple[int, str], Counts]:
    """Pairs and events of every clip of a kind, by seed and file; seeds and prompts are the same for all kinds."""
    found = {}
    for seed in seeds:
        for line in (clips_of(rope, seed, args) / "clips.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found[seed, row["file"]] = events_of(row["event_f1"].get("details", {}))
    return {key: counts for key, counts in found.items() if counts}


def decided(results: dict[str, dict[int, Result]], args: argparse.Namespace) -> str:
    """Markdown: pooled event F1 less that of ``time_aligned``, over the clips of all seeds, with intervals."""
    base = results.get(BASE, {})
    lines = [f"Pooled over the clips of all seeds, less {BASE}, with 95 % intervals over clips drawn in pairs:", ""]
    lines += ["| rope | clips | event F1 ±2 | event F1 ±1 |", "|---|---:|---:|---:|"]
    for rope, runs in results.items():
        seeds = sorted(set(runs) & set(base))
        if rope == BASE or not seeds:
            continue
        counts, other = counts_of(rope, seeds, args), counts_of(BASE, seeds, args)
        found = [f1_difference(counts, other, within) for within in ("2_frames", "1_frame")]
        cells = " | ".join(each.difference() for each in found if each)
        lines.append(f"| {rope} | {len(set(counts) & set(other))} | {cells} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    """Mean, deviation between seeds, and each seed's value."""
    deviation = f" ± {stdev(values):.4f}" if len(values) > 1 else ""
    return f"{mean(values):.4f}{deviation} ({', '.join(f'{value:.3f}' for value in values)})"


def tables(results: dict[str, dict[int, Result]]) -> str:
    """Markdown: every kind; and every kind less ``time_aligned``, seed by seed, since seeds share clips and prompts."""
    lines = ["| rope | seeds | " + " | ".join(TITLES.values()) + " |", "|---|---:|" + "---:|" * len(TITLES)]
    for rope, runs in results.items():
        cells = [spread([getattr(run, name) for run in runs.values()]) for name in TITLES]
        lines.append(f"| {rope} | {len(runs)} | " + " | ".join(cells) + " |")
    base = results.get(BASE, {})
    others = {rope: sorted(set(runs) & set(base)) for rope, runs in results.items() if rope != BASE}
    if any(others.values()):
        lines += ["", f"The same less {BASE}, seed by seed:", "", *lines[:2]]
    for rope, seeds in others.items():
        if seeds:
            apart = {name: [getattr(results[rope][s], name) - getattr(base[s], name) for s in seeds] for name in TITLES}
            lines.append(f"| {rope} | {len(seeds)} | " + " | ".join(spread(apart[name]) for name in TITLES) + " |")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("output", type=Path, metavar="DIR", help="where all state lies, outside this repository")
    add("--models", default="pocket", help="pocket, or a folder with trained towers")
    add("--ropes", nargs="+", choices=ROPES.names(), default=ROPES.names())
    add("--steps", type=int, default=1500, help="training steps of every run")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add(
        "--clips",
        type=int,
        default=40,
        help="prompts, and clips for the loss, a kind and seed, of the validation split",
    )
    add("--sampling-steps", type=int, default=25)
    add("--guidance", type=float, default=3.0, help="scale of both modalities")
    add("--device", choices=("auto", "cpu"), default="auto")
    add("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further overrides of the recipe, for every run")
    add("--write", action="store_true", help=f"write {FILE.name}")
    args = parser.parse_args()
    args.output = args.output.expanduser().resolve()
    if args.output.is_relative_to(REPOSITORY):
        parser.error(f"{args.output} is inside the repository; choose another place")
    return args


def main() -> None:
    args = arguments()
    results: dict[str, dict[int, Result]] = {}
    for seed in args.seeds:
        for rope in args.ropes:
            results.setdefault(rope, {})[seed] = result_of(rope, seed, args)
            print(tables(results), flush=True)
    if args.write:
        FILE.write_text(report(results, args), encoding="utf-8")


def report(results: dict[str, dict[int, Result]], args: argparse.Namespace) -> str:
    """The page that is written."""
    words = ["python", f"benchmarks/{FILE.stem}.py", "DIR", "--steps", args.steps, "--seeds", *args.seeds]
    words += ["--clips", args.clips, "--ropes", *args.ropes, *(["--set", *args.set] if args.set else []), "--write"]
    told = (
        f"{args.steps} training steps a run; losses on {args.clips} validation clips, each {LOOKS} times with other "
        f"noise; events of {args.clips} validation prompts a kind and seed, {args.sampling_steps} sampling steps, "
        f"guidance {args.guidance:g} in both modalities. ± is the deviation between seeds. {os.cpu_count()} CPU cores."
    )
    parts = ["# Positions of bridges", f"`{' '.join(map(str, words))}`", told, tables(results), decided(results, args)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
