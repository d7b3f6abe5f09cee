"""What each attention of PAV-DiT's autoencoder is worth (Table 5 of the paper), behind a tight bottleneck.

    python benchmarks/pocket/mdsa_ladder.py DIR --steps 300 100 --seeds 0 1 --write data.cache=CACHE

Every rung begins with the same weights of its seed and sees the same clips; what a rung leaves out is not used. It
learns in two stages as ``pocket_pav_dit_mdsa`` and ``pocket_pav_dit_mdsa_2`` do, with 4 channels a plane where those
have 16, so that a modality cannot carry itself. Then validation clips go through it: PSNR and kernel distances to the
clips themselves, and event F1. Differences to the full autoencoder are paired over clips and seeds; a rung whose
interval holds 0 is undecided. What is there is kept, so a stopped ladder goes on with the same command.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from clips import NUM_FRAMES, Wish, wishes, write_manifest
from intervals import TOLERANCES, Counts, Estimate, counts_of, f1, f1_difference, mean_difference
from judged import values_of
from resumed import train_on
from sounding_video.core.clock import Timeline
from sounding_video.core.device import resolve_placement
from sounding_video.core.pair import MODALITIES, Pair
from sounding_video.evaluation.runner import evaluate_folder
from sounding_video.media.fit import FitStyle, fit_clip
from sounding_video.media.mux import write_clip
from sounding_video.models.clip_decoding import decode_clip
from sounding_video.models.clip_encoding import encode_clip
from sounding_video.models.families.pav_dit import load_autoencoder
from sounding_video.models.pav_dit import forms
from sounding_video.models.pav_dit.codec import Face
from sounding_video.models.pav_dit.mdsa import PavDitAutoencoder
from sounding_video.models.pav_dit.new import write_new
from sounding_video.models.weights.find import find_towers, pocket_folder
from sounding_video.training.assembly import exported
from sounding_video.training.recipes import recipe

FILE = Path(__file__).with_suffix(".md")
FULL = "full"
# Of a rung, by seed: what was measured.
Runs = Mapping[int, Mapping[str, Any]]
# What a rung leaves out of the attention behind the bottleneck; and whether its second stage has KL.
RUNGS: Mapping[str, tuple[Mapping[str, bool], bool]] = {
    FULL: ({}, True),
    "PVDM twice": ({"over_scales": False, "across": False, "in_blocks": False}, True),
    "without MT-SelfAttn": ({"over_scales": False}, True),
    "without GCM-Attn": ({"across": False}, True),
    "without Bi-Block": ({"in_blocks": False}, True),
    "without KL": ({}, False),
}
METRICS = ("psnr", "kernel_distance_picture", "kernel_distance_sound", "event_f1")
PSNR = ("picture", "sound")


@dataclass(frozen=True)
class Run:
    """A rung with one seed.

    Args:
        rung: A key of ``RUNGS``.
        seed: Of weights and clips.
        args: Of the command.
    """

    rung: str
    seed: int
    args: argparse.Namespace

    @property
    def folder(self) -> Path:
        """Of both stages and of the clips."""
        return self.args.folder / f"seed{self.seed}" / self.rung.replace(" ", "_")

    def train(self) -> Path:
        """Both stages, of which the full one with and without KL shares the first; the trained autoencoder's folder."""
        fusion, has_kl = RUNGS[self.rung]
        before = self.folder if fusion else Run(FULL, self.seed, self.args).folder
        models, first = before / "models", before / "stage_1"
        if not models.is_dir():
            write_start(models, fusion, self.args.channels, self.seed)
        common = [f"seed={self.seed}", *self.args.overrides, f"models.root={models}"]
        steps = [f"num_steps={number}" for number in self.args.steps]
        train_on(recipe("pocket_pav_dit_mdsa", [*common, steps[0]]), first)
        second = [*common, steps[1], f"models.overlays={first}", *([] if has_kl else ["objective.kl_weight=0"])]
        train_on(recipe("pocket_pav_dit_mdsa_2", second), self.folder / "stage_2")
        return exported(self.folder / "stage_2")

    def result(self, wanted: Sequence[Wish]) -> dict[str, Any]:
        """Train and measure; what was measured is kept."""
        note = self.folder / f"result-{'-'.join(map(str, self.args.steps))}-{len(wanted)}.json"
        if not note.is_file():
            through(self.train(), wanted, self.folder / "clips")
            found = evaluate_folder(self.folder / "clips", metrics=METRICS, references=self.args.folder / "true")
            values = {side: values_of(found, "psnr", side) for side in PSNR}
            distances = {
                side: found.summary[f"kernel_distance_{side}"]["kernel_distance"] for side in ("picture", "sound")
            }
            part = note.with_suffix(".part")
            part.write_text(json.dumps({"psnr": values, "distance": distances, "events": counts_of(found)}) + "\n")
            part.replace(note)
        return json.loads(note.read_text(encoding="utf-8"))


def write_start(folder: Path, fusion: Mapping[str, bool], channels: int, seed: int) -> None:
    """A new model whose autoencoder is the rung's; random numbers are those of every rung of the seed."""
    texts = find_towers([pocket_folder()], "wan")[0]
    changed = {"latent_channels": channels, "fusion": {**forms.POCKET["fusion"], **fusion}}
    part = folder.with_suffix(".part")
    write_new(part / "model", "pocket", texts, text_length=96, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        autoencoder = PavDitAutoencoder(**{**forms.POCKET, **changed})
    autoencoder.save_pretrained(part / "model" / "autoencoder", safe_serialization=True)
    part.rename(folder)


@torch.no_grad()
def through(folder: Path, wanted: Sequence[Wish], target: Path) -> None:
    """The clips after an autoencoder."""
    placement = resolve_placement(device="cpu", dtype="float32")
    whole = load_autoencoder(folder, placement)
    codecs = Pair(*(Face(whole, side) for side in MODALITIES))
    extent = whole.model.extent
    timeline = Timeline(extent.frames, extent.rate, extent.width, extent.height, whole.model.geometry)
    target.mkdir(parents=True, exist_ok=True)
    for wish in wanted:
        sides = {"video_codec": codecs.video, "audio_codec": codecs.audio, "placement": placement}
        fitted, _ = fit_clip(wish.truth.clip, timeline, start=Fraction(0), style=FitStyle())
        latents = encode_clip(fitted, timeline, **sides)
        clip = decode_clip(
            latents, codecs, fps=extent.rate, placement=placement, own_seconds=Fraction(timeline.seconds)
        )
        write_clip(clip, target / f"{wish.name}.mp4")
    write_manifest(wanted, target)


def table(found: Mapping[str, Runs]) -> str:
    """Markdown, a line a rung."""
    base = found[FULL]
    titles = ["rung", "seeds"]
    titles += [title for side in PSNR for title in (f"PSNR {side}", f"{side} less {FULL}")]
    titles += ["kernel distance picture", "kernel distance sound"]
    titles += [title for sign in TOLERANCES.values() for title in (f"event F1 {sign}", f"less {FULL}")]
    lines = [f"| {' | '.join(titles)} |", "|---|" + "---:|" * (len(titles) - 1)]
    for rung, runs in found.items():
        cells = [rung, str(len(runs))]
        for side in PSNR:
            each = [mean(run["psnr"][side].values()) for run in runs.values()]
            apart = compared(runs, base, partial(pooled, keys=("psnr", side)), mean_difference, digits=2)
            cells += [f"{mean(each):.2f}{spread(each)}", "–" if rung == FULL else apart]
        for side in PSNR:
            each = [run["distance"][side] for run in runs.values()]
            cells.append(f"{mean(each):.1f}{spread(each, 1)}")
        for within in TOLERANCES:
            apart = compared(runs, base, partial(pooled, keys=("events",)), partial(f1_difference, within=within))
            cells += [str(f1(pooled(runs, ("events",)), within)), "–" if rung == FULL else apart]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """From the lowest seed to the highest."""
    return f" ({min(values):.{digits}f} to {max(values):.{digits}f})" if len(values) > 1 else ""


def compared(
    runs: Runs,
    base: Runs,
    take: Callable[[Runs], Mapping[object, Any]],
    apart: Callable[..., Estimate | None],
    digits: int = 3,
) -> str:
    """The difference over clips and seeds, that of every seed, and what they decide together."""
    whole = apart(take(runs), take(base))
    each = [apart(take({seed: run}), take({seed: base[seed]})).value for seed, run in runs.items()]
    seeds = ", ".join(f"{value:+.{digits}f}" for value in each)
    agree = min(each) > 0 or max(each) < 0
    return f"{whole.difference()} ({seeds})" + ("" if agree or not whole.decided else " undecided: seeds differ")


def pooled(runs: Runs, keys: Sequence[str]) -> dict[tuple[int, str], float | Counts]:
    """A value of every clip, by seed and clip."""
    made = {}
    for seed, run in runs.items():
        for key in keys:
            run = run[key]
        made |= {(seed, name): value for name, value in run.items()}
    return made


def write_truth(wanted: Sequence[Wish], folder: Path) -> None:
    """The clips themselves, by the writer that writes the others."""
    folder.mkdir(parents=True, exist_ok=True)
    for wish in wanted:
        if not (folder / f"{wish.name}.mp4").is_file():
            write_clip(wish.truth.clip, folder / f"{wish.name}.mp4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="folder of the runs")
    add("overrides", nargs="*", metavar="KEY=VALUE", help="for every run")
    add("--steps", type=int, nargs=2, default=[300, 100], metavar="N", help="of the stages (default: 300 100)")
    add("--seeds", type=int, nargs="+", default=[0, 1])
    add("--channels", type=int, default=4, help="of a plane (default: 4)")
    add("--clips", type=int, default=60, help="validation clips (default: 60)")
    add("--only", nargs="+", choices=tuple(RUNGS), default=list(RUNGS), help=f"these, and {FULL}")
    add("--write", action="store_true", help=f"write {FILE.name}")
    args = parser.parse_intermixed_args()
    args.folder = args.folder.resolve()
    size = forms.POCKET["extent"]["width"]
    wanted = wishes(args.clips, size, split="validation")
    assert wanted[0].truth.clip.video.frames.shape[0] == NUM_FRAMES == forms.POCKET["extent"]["frames"]
    write_truth(wanted, args.folder / "true")
    found: dict[str, dict[int, Any]] = {rung: {} for rung in RUNGS if rung == FULL or rung in args.only}
    for seed in args.seeds:
        for rung, runs in found.items():
            print(f"== {rung}, seed {seed}", file=sys.stderr)
            runs[seed] = Run(rung, seed, args).result(wanted)
            text = table({name: each for name, each in found.items() if each})
            if args.write:
                write_report(args, text)
    print(text)


def write_report(args: argparse.Namespace, text: str) -> None:
    """What is done so far."""
    seeds, steps = " ".join(map(str, args.seeds)), " ".join(map(str, args.steps))
    command = f"`python benchmarks/pocket/{FILE.stem}.py DIR --steps {steps} --seeds {seeds} --write`"
    words = (
        f"{args.clips} validation clips, {args.channels} channels a plane, {args.steps[0]} and {args.steps[1]} steps; "
        "of seeds the lowest and the highest. PSNR in dB, of the sound that of its spectrogram. Differences are "
        "paired over clips and seeds, with intervals of 95 % over clips, and in round brackets each seed's. Where "
        "seeds differ in sign nothing is decided, however narrow the interval."
    )
    parts = ["# What the attentions of PAV-DiT's autoencoder are worth", command, words, text]
    FILE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
