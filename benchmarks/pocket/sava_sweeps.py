"""What SAVA's first stage depends on: mask input, price λ, pull α, length of a moment; several seeds of each.

    python benchmarks/pocket/sava_sweeps.py DIR --seeds 0 1 2 --write data.cache=CACHE

Every row is ``pocket_sava_align`` with one setting changed, judged on validation clips: how much of one side the kept
dimensions of the other tell, what leaks through the masks alone, whether the vector of a moment finds that of the other
side at the same moment, and that of a clip its clip. ``--only`` picks sweeps, ``KEY=VALUE`` changes every run. What is
there is kept, so a stopped sweep goes on with the same command.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import torch
from resumed import train_on
from sounding_video.core.pair import MODALITIES, Pair
from sounding_video.core.progress import SILENT
from sounding_video.models.alignment.selective import Selection
from sounding_video.models.weights.alignment import load_alignment
from sounding_video.models.weights.find import pocket_folder
from sounding_video.training.align_step import explained, probed_leak
from sounding_video.training.assembly import build_workbench, exported
from sounding_video.training.batches import Batches, Share
from sounding_video.training.checkpoint import latest_checkpoint, load_checkpoint
from sounding_video.training.config import TrainConfig
from sounding_video.training.exports import ALIGNMENT_FILE, holding
from sounding_video.training.log import LOSS_LOG, read_log
from sounding_video.training.recipes import recipe
from sounding_video.world.scenes import SCENES
from torch import Tensor

FILE = Path(__file__).with_suffix(".md")
PICTURE = FILE.with_suffix(".png")
# By sweep, the values beside the recipe's own: which the row of that name is.
SWEEPS = {
    "mask_input": ("what a mask sees (Table 3)", "own", ("none", "both")),
    "sparsity": ("λ, the price (Table 5)", "0.1", ("0", "0.5", "1", "5", "20", "100")),
    "pull": ("α, the pull (Table 4)", "0.1", ("0.001", "0.01", "1")),
    "segment": ("latent frames of a moment (Fig. 6)", "1", ("3", "9")),
}
AMONG = 64  # clips of which the right one is looked for
LAST = 100  # steps of the log whose mean is told
COLUMNS = {
    "kept_video": "kept, picture",
    "kept_audio": "kept, sound",
    "explained_audio": "R², sound",
    "explained_video": "R², picture",
    "leak_audio": "leak, sound",
    "leak_video": "leak, picture",
    "moment": "right moment",
    "clip": f"right clip of {AMONG}",
    "error": "training error, sound",
}


@dataclass(frozen=True)
class Run:
    """One setting with one seed.

    Args:
        name: Of its folder.
        sweep: A key of ``SWEEPS``, or empty for the recipe's own.
        value: Of that setting.
        seed: Of the run.
    """

    name: str
    sweep: str
    value: str
    seed: int

    def configuration(self, cache: Path, overrides: Sequence[str]) -> TrainConfig:
        """What is run."""
        changed = [f"alignment.{self.sweep}={self.value}"] if self.sweep else []
        return recipe("pocket_sava_align", [f"data.cache={cache}", f"seed={self.seed}", *changed, *overrides])


def runs_of(sweeps: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    """Every run once, seed by seed, so that a stopped sweep has whole tables."""
    made = []
    for seed in seeds:
        made.append(Run(f"plain-seed{seed}", "", "", seed))
        made += [Run(f"{key}-{value}-seed{seed}", key, value, seed) for key in sweeps for value in SWEEPS[key][2]]
    return made


def result_of(run: Run, folder: Path, clips: int, overrides: Sequence[str]) -> dict[str, float | list[float]]:
    """Train, measure and note; what was noted with the same settings is not done again."""
    config = run.configuration(folder / "cache", overrides)
    note = folder / run.name / f"result-{config.hash}-{clips}.json"
    if not note.is_file():
        train_on(config, folder / run.name)
        found = measured(config, folder / run.name, clips)
        part = note.with_suffix(".part")
        part.write_text(json.dumps(found) + "\n", encoding="utf-8")
        part.replace(note)
    return json.loads(note.read_text(encoding="utf-8"))


@torch.no_grad()
def measured(config: TrainConfig, folder: Path, clips: int) -> dict[str, float | list[float]]:
    """One trained run on clips that it never saw."""
    unseen = config.override(["data.split=validation", f"data.num_clips={clips}", "seed=0"])
    bench = build_workbench(unseen, pocket_folder())
    batches = Batches(unseen, bench, Path(config.data.cache))
    batches.prepare(torch.device("cpu"), Share(), SILENT)
    loaded, state = load_alignment(exported(folder) / ALIGNMENT_FILE), load_checkpoint(latest_checkpoint(folder))
    selection: Selection = bench.step.selection.eval()
    with holding(bench.parameters, state.average or state.weights):
        # Support, mean and deviation are those of the training clips.
        selection.alignment.load_state_dict(loaded.alignment.state_dict())
        batch = batches.at(0, clips)
        vectors = Pair(*(selection.alignment.standardised(side, batch.tensors[side]) for side in MODALITIES))
        found: dict[str, float | list[float]] = {}
        for side in MODALITIES:
            found[f"explained_{side}"] = explained(selection, vectors, side)
            found[f"leak_{side}"] = probed_leak(selection, vectors, side)
            found[f"kept_{side}"] = float(loaded.alignment.kept(side))
            found[f"open_{side}"] = getattr(loaded.alignment, f"{side}_open").tolist()
        found |= retrieved(selection, vectors, [name.split("-")[0] for name in batch.names])
    errors = [row["sound"] for row in read_log(folder / LOSS_LOG)[-LAST:]]
    return found | {"error": mean(errors)}


def retrieved(selection: Selection, vectors: Pair[Tensor], scenes: Sequence[str]) -> dict[str, float]:
    """How often the sound's vector is nearest to the picture's of the same moment, and of the same clip, by cosine.

    Args:
        selection: The alignment that is used.
        vectors: Standardised, of both sides ``(B, N, F)``.
        scenes: Of the clips; moments are looked for where there are events.
    """
    alignment = selection.alignment
    video, audio = (
        alignment.adapted(side, vectors[side]) * getattr(alignment, f"{side}_support") for side in MODALITIES
    )
    with_events = torch.tensor([not SCENES.get(scene).continuous for scene in scenes])
    within = torch.einsum("bnd,bmd->bnm", _directions(audio[with_events]), _directions(video[with_events]))
    right = (within.argmax(2) == torch.arange(within.shape[1])).float().mean() if within.shape[1] > 1 else math.nan
    hits = []
    for start in range(0, len(video), AMONG):
        looked, wanted = (_directions(each[start : start + AMONG].flatten(1)) for each in (audio, video))
        hits += ((looked @ wanted.T).argmax(1) == torch.arange(len(looked))).tolist()
    return {"moment": float(right), "clip": mean(map(float, hits))}


def _directions(vectors: Tensor) -> Tensor:
    return torch.nn.functional.normalize(vectors, dim=-1)


def table(sweep: str, results: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Markdown, one line a value: mean over seeds and their deviation."""
    lines = [f"| {SWEEPS[sweep][0]} | seeds | {' | '.join(COLUMNS.values())} |"]
    lines.append("|---:|---:|" + "---:|" * len(COLUMNS))
    for value, rows in results.items():
        cells = []
        for name in COLUMNS:
            numbers = [row[name] for row in rows]
            apart = f" ± {stdev(numbers):.3f}" if len(numbers) > 1 and math.isfinite(numbers[0]) else ""
            cells.append(f"{mean(numbers):.3f}{apart}" if math.isfinite(numbers[0]) else "–")
        lines.append(f"| {value} | {len(rows)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(parts: Mapping[str, Mapping[str, Sequence[Mapping[str, list[float]]]]], path: Path) -> None:
    """How likely each dimension's mask is open, a line a run, dimensions in order of that; both sides."""
    from matplotlib.figure import Figure

    heights = [sum(len(rows) for rows in results.values()) for results in parts.values()]
    figure = Figure(figsize=(11, 1.2 * len(parts) + 0.16 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(parts), 2, squeeze=False, height_ratios=heights)
    for (sweep, results), pair in zip(parts.items(), axes, strict=True):
        labels = [value if number == 0 else "" for value, rows in results.items() for number in range(len(rows))]
        for side, title, axis in zip(MODALITIES, ("picture", "sound"), pair, strict=True):
            lines = [sorted(row[f"open_{side}"], reverse=True) for rows in results.values() for row in rows]
            image = axis.imshow(lines, aspect="auto", vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
            axis.set_yticks(range(len(labels)), labels, fontsize=7)
            axis.set_title(f"{title}: {SWEEPS[sweep][0]}", fontsize=8, loc="left")
            axis.tick_params(axis="x", labelsize=7)
    figure.supxlabel("dimension, those that are open most first", fontsize=8)
    figure.colorbar(image, ax=axes, label="how likely a mask is open, mean over clips", shrink=0.6)
    figure.savefig(path, dpi=100)


def in_order(sweep: str, found: Mapping[Run, dict]) -> dict[str, list[dict]]:
    """The rows of a sweep by value, the recipe's own among them."""
    _, own, others = SWEEPS[sweep]
    order = ["none", "own", "both"] if sweep == "mask_input" else sorted([own, *others], key=float)
    return {
        value: [row for run, row in found.items() if (run.sweep, run.value) in ((sweep, value), _plain(value == own))]
        for value in order
    }


def _plain(is_own: bool) -> tuple[str, str]:
    return ("", "") if is_own else (" ", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="folder of the runs")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="for every run")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--clips", type=int, default=256, help="validation clips (default: 256)")
    add("--only", nargs="+", choices=tuple(SWEEPS), default=list(SWEEPS), help="some sweeps instead of all")
    add("--write", action="store_true", help=f"write {FILE.name} and {PICTURE.name}")
    args = parser.parse_intermixed_args()
    folder, found = args.folder.resolve(), {}
    for run in runs_of(args.only, args.seeds):
        print(f"== {run.name}", file=sys.stderr)
        found[run] = result_of(run, folder, args.clips, args.overrides)
    parts = {sweep: in_order(sweep, found) for sweep in args.only}
    text = "\n\n".join(table(sweep, {v: rows for v, rows in each.items() if rows}) for sweep, each in parts.items())
    print(text)
    if args.write:
        draw(parts, PICTURE)
        command = f"`python benchmarks/pocket/{FILE.stem}.py DIR --seeds {' '.join(map(str, args.seeds))} --write`"
        words = (
            f"`pocket_sava_align`, {next(iter(found)).configuration(folder, args.overrides).num_steps} steps, one "
            f"setting changed at a time; {args.clips} validation clips; mean and deviation over {len(args.seeds)} "
            "seeds. R² is of standardised vectors, from the kept dimensions of the other side; the leak is R² from "
            "this clip's mask over another clip's latent."
        )
        parts = ["# What the masks of SAVA depend on", command, words, f"![masks]({PICTURE.name})", text]
        FILE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
