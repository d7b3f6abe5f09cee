"""SAVA on the pocket towers: train both stages, then judge what a cascade makes. Each goes on where it was stopped.

    python benchmarks/pocket/sava.py train DIR data.cache=CACHE            shared dimensions, then both towers
    python benchmarks/pocket/sava.py judge DIR --clips 100 --write         clips and their figures
    python benchmarks/pocket/sava.py bundle DIR                            the alignment into models/pocket, and logs

``train`` is ``pocket_sava_align``, then the towers on it, each on the file of the run before it: told frame by frame
(``pocket_sava_audio_frames``, ``pocket_sava_video_frames``), and by tokens; for comparison a sound's tower that is told
one vector a clip. ``--only`` runs some, ``KEY=VALUE`` changes what is run. In the end ``DIR/video_frames.safetensors``
is the alignment that both towers read, ``DIR/video.safetensors`` the one by tokens. ``judge`` makes the test prompts
of ``evaluate.py`` with every alignment that is there; what is there of its clips is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from intervals import TOLERANCES, f1, f1_difference, mean_of
from judged import Judged
from resumed import train_on
from sava_clips import VARIANTS, Maker, peaks, published
from sava_sensitivity import moved
from sava_sensitivity import table as table_of_ratios
from sounding_video.models.weights.alignment import load_alignment
from sounding_video.models.weights.find import pocket_folder
from sounding_video.tasks.orders import ORDERS
from sounding_video.training.assembly import exported
from sounding_video.training.exports import ALIGNMENT_FILE
from sounding_video.training.recipes import recipe
from train import halve, keep_log, parameters_of, write_note

FILE = Path(__file__).with_suffix(".md")
BUNDLED = "alignment"  # name of the file in the bundled model
LATENT_FRAMES = 9  # of the pocket model's clip


@dataclass(frozen=True)
class Stage:
    """One run.

    Args:
        recipe: Its recipe.
        reads: The run whose alignment it goes on from.
        settings: What differs from the recipe.
    """

    recipe: str
    reads: str = ""
    settings: tuple[str, ...] = ()


STAGES = {
    "align": Stage("pocket_sava_align"),
    "audio_frames": Stage("pocket_sava_audio_frames", "align"),
    "video_frames": Stage("pocket_sava_video_frames", "audio_frames"),
    "align_clip": Stage("pocket_sava_align", settings=(f"alignment.segment={LATENT_FRAMES}",)),
    "audio_clip": Stage("pocket_sava_audio_frames", "align_clip"),
    "audio": Stage("pocket_sava_audio", "align"),
    "video": Stage("pocket_sava_video", "audio"),
}
# Rows that are compared with others.
NONE, CLIP = "none", "clip"
# Rows of the table beside joint bridges: which side is made when; None for both together.
BESIDE = {
    "bridges": None,
    "frames": "video-first",
    "back": "both-ways",
    "sound_first": "audio-first",
}


def run_stages(folder: Path, only: Sequence[str] | None, overrides: Sequence[str]) -> None:
    """Train what is not finished, each stage on the alignment of the run before it."""
    folder = folder.resolve()
    for name in only or STAGES:
        stage = STAGES[name]
        start = [f"alignment.start={folder / stage.reads}.safetensors"] if stage.reads else []
        config = recipe(stage.recipe, [f"data.cache={folder / 'cache'}", *start, *stage.settings, *overrides])
        print(f"== {name}", file=sys.stderr)
        train_on(config, folder / name)
        part = folder / f"{name}.part"
        shutil.copyfile(exported(folder / name) / ALIGNMENT_FILE, part)
        part.replace(folder / f"{name}.safetensors")
        print(f"{name}: {load_alignment(folder / f'{name}.safetensors').summary()}")


def bundle(folder: Path) -> None:
    """Lay the alignment that both towers read into the bundled model, in 16 bits; keep the logs of its runs."""
    target = pocket_folder() / f"{BUNDLED}.safetensors"
    halve(folder / "video_frames.safetensors", target)
    for name in ("align", "audio_frames", "video_frames"):
        keep_log(STAGES[name].recipe, folder / name)
    note = json.loads((pocket_folder() / "pocket.json").read_text(encoding="utf-8"))
    note["sizes"][BUNDLED] = parameters_of(target)
    write_note(pocket_folder(), note)
    print(f"{target}: {load_alignment(target).summary()}")


def alignments(maker: Maker) -> str:
    """What the first stage found, a line a file."""
    lines = ["| alignment | kept of the picture | of the sound | sound told | picture told | leak, sound | picture |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    for name, title in (("align", "one vector a latent frame"), ("align_clip", "one vector a clip")):
        if not maker.alignment(name).is_file():
            continue
        loaded = load_alignment(maker.alignment(name))
        kept = [f"{loaded.alignment.kept(side)} of {loaded.alignment.config.width}" for side in ("video", "audio")]
        said = [loaded.notes[f"{what}_{thing}"] for what in ("explained", "leak") for thing in ("sound", "picture")]
        lines.append(f"| {title} | {' | '.join([*kept, *said])} |")
    return "\n".join(lines)


def table(rows: Mapping[str, Judged], against: Sequence[str]) -> str:
    """Event F1 with intervals, paired differences to some rows, scenes.

    Args:
        rows: By key of ``VARIANTS``.
        against: Keys of rows that the others are compared with.
    """
    against = [key for key in against if key in rows]
    events = [
        each
        for sign in TOLERANCES.values()
        for each in (f"event F1 {sign}", *(f"{sign} less “{VARIANTS[key].title}”" for key in against))
    ]
    titles = ["row", *events, "scene, picture", "scene, sound"]
    lines = [f"| {' | '.join(titles)} |", "|---|" + "---:|" * (len(titles) - 1)]
    for key, run in rows.items():
        cells = []
        for within in TOLERANCES:
            cells.append(str(f1(run.events, within)))
            for base in against:
                apart = None if key == base else f1_difference(run.events, rows[base].events, within)
                cells.append("–" if apart is None else apart.difference())
        cells += [str(mean_of(values)) if values else "–" for values in (run.scene_picture, run.scene_sound)]
        lines.append(f"| {VARIANTS[key].title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def beside_bridges(maker: Maker, rows: Mapping[str, Judged]) -> str:
    """Time, memory, event F1 and scenes of cascades beside those of joint bridges."""
    big, clip = published()
    model = maker.model("auto")
    lines = ["| row | CPU s a clip | peak of sampling, MB | of the published sizes, GB | event F1 ±2 | scene, picture "
             "| scene, sound |", "|---|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    for key, order in BESIDE.items():
        if key not in rows:
            continue
        run, sides = rows[key], order and ORDERS[order]
        own = peaks(sides, model.outline(), maker.timeline(), batched=True) / 1e6
        large = peaks(sides, big, clip, batched=False) / 1e9
        cells = [f"{median(maker.seconds(key)):.1f}", f"{own:.1f}", f"{large:.2f}", str(f1(run.events, "2_frames"))]
        cells += [f"{mean(each.values()):.3f}" if each else "–" for each in (run.scene_picture, run.scene_sound)]
        lines.append(f"| {VARIANTS[key].title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def judge(args: argparse.Namespace) -> None:
    """Make and measure the variants; print the tables, and write them where asked for."""
    maker, rows = Maker(args.folder, args.clips, args.steps), {}
    for name in args.only or VARIANTS:
        if not maker.is_there(name):
            print(f"{name}: {VARIANTS[name].file}.safetensors is not trained yet", file=sys.stderr)
            continue
        rows[name] = maker.judged(name)
        print(table({name: rows[name]}, ()), flush=True)
    parts = {"What the first stage found": alignments(maker), **event_parts(rows)}
    if {"frames", "back"} <= set(rows):
        count = maker.equal_sounds("frames", "back")
        parts["The sound of there and back"] = (
            f"The sound of *there and back* is that of *text, picture, sound* to the bit in {count} of "
            f"{args.clips} prompts."
        )
    if args.pairs and maker.is_there("frames"):
        found = {index: moved(maker, index) for index in range(args.pairs)}
        parts["Sensitivity (SAVA, appendix E)"] = (
            f"How far the sound's latents move when something audible changes, over how far when a colour does; "
            f"{args.pairs} prompts. Readers begin at zero and learn with the kept dimensions alone: all tells the "
            "same.\n\n"
            f"{table_of_ratios(found)}"
        )
    if "bridges" in rows:
        parts["Beside joint bridges"] = beside_bridges(maker, rows)
    text = "\n\n".join(f"## {heading}\n\n{part}" for heading, part in parts.items())
    print(text)
    if args.write:
        write(args, text)


def event_parts(rows: Mapping[str, Judged]) -> dict[str, str]:
    """Tables by what is made."""
    headings = {
        "both": "Both made from text",
        "sound": "Sound for a true picture",
        "picture": "Picture for a true sound",
    }
    parts = {}
    for makes, heading in headings.items():
        found = {name: run for name, run in rows.items() if VARIANTS[name].makes == makes}
        if found:
            parts[heading] = table(found, (NONE, CLIP) if makes == "both" else ())
    return parts


def write(args: argparse.Namespace, text: str) -> None:
    """The page."""
    command = f"`python benchmarks/pocket/{FILE.stem}.py judge DIR --clips {args.clips} --steps {args.steps}"
    command += f" --pairs {args.pairs} --write`"
    words = (
        f"{args.clips} prompts of the test split, {args.steps} steps, the bundled towers at their own scales; the "
        "alignments are those of `train`, read frame by frame unless it says by tokens. Event F1 is pooled; intervals "
        "are 95 % over prompts, differences are paired. "
        "Sounds and pictures for a given side are judged against the exact times of the true side. Seconds are of the "
        f"processor ({os.cpu_count()} cores); peaks are weights and activations of sampling as the planner counts them."
    )
    FILE.write_text("\n\n".join(["# One side after the other", command, words, text]) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    training, judging, bundling = (commands.add_parser(name) for name in ("train", "judge", "bundle"))
    for command in (training, judging, bundling):
        command.add_argument("folder", type=Path, metavar="DIR", help="folder of runs and clips")
    training.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for every recipe that is run")
    training.add_argument("--only", nargs="+", choices=tuple(STAGES), help="some runs instead of all")
    judging.add_argument("--clips", type=int, default=100, help="test prompts, scenes in turn (default: 100)")
    judging.add_argument("--steps", type=int, default=25, help="of the sampler")
    judging.add_argument("--pairs", type=int, default=24, help="prompts of the sensitivity ratio; 0 leaves it out")
    judging.add_argument("--only", nargs="+", choices=tuple(VARIANTS), help="some variants instead of all")
    judging.add_argument("--write", action="store_true", help=f"write {FILE.name}")
    args = parser.parse_args()
    if args.command == "train":
        run_stages(args.folder, args.only, args.overrides)
    elif args.command == "bundle":
        bundle(args.folder)
    else:
        judge(args)


if __name__ == "__main__":
    main()
