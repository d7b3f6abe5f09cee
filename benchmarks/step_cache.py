"""Step caches and shorter guidance on the pocket: what each saves and what it costs, paired with the uncached run.

    python benchmarks/step_cache.py ~/step_cache --clips 100 --steps 25 50 --more-clips 300 --write

Every row makes the same test prompts of the world from the same noise. Saved are rows of the video tower's last block
(its forwards) and CPU seconds of sampling: the median over a few prompts for which all rows took turns. Lost are events
that picture and sound share, scenes, and nearness to the latents of the uncached run. Values carry intervals over
prompts; differences are paired with the uncached run of as many steps.

All state lies in the folder that is given: clips, ``runs.jsonl`` with one line a clip, turns, and what was judged.
A stopped run goes on with the same command, more clips may be asked for later, and ``--report`` only writes what is
there.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean, median
from typing import Any

from safetensors.torch import load_file, save_file
from sounding_video.core.clock import Timeline
from sounding_video.core.types import JointLatents
from sounding_video.media.mux import write_clip
from sounding_video.pipeline import JoinedModel, SamplingOptions, decode_latents, encode_captions, sample_latents
from sounding_video.sampling.cache import PRESETS

sys.path.insert(0, str(Path(__file__).with_name("pocket")))
from clips import FPS, NO_NEGATIVES, Wish, captions_of, load_pocket, pocket_options, pocket_size, wishes, write_manifest
from intervals import TOLERANCES, f1, f1_difference, mean_difference, mean_of
from judged import Judged, judge

FILE = Path(__file__).with_suffix(".md")
BASE = "uncached"


@dataclass(frozen=True)
class Row:
    """One way to sample.

    Args:
        title: In the table, and the name of its folder.
        settings: Fields of the sampling options.
        share: Of the steps.
    """

    title: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    share: float = 1.0

    def options(self, steps: int) -> SamplingOptions:
        """The pocket's own, with these settings."""
        return pocket_options(steps=max(1, round(self.share * steps)), **self.settings)


def cached(kind: str, **settings: Any) -> dict[str, Any]:
    """Settings of a step cache."""
    return {"step_cache": kind, **{f"step_cache_{name}": value for name, value in settings.items()}}


ROWS = (
    Row(BASE),
    Row("gentle", cached("gentle")),
    Row("fast", cached("fast")),
    Row("fastest", cached("fastest")),
    Row("every 6th", cached("interval", every=6)),
    Row("fast, last repeated", cached("fast", order=0)),
    Row("fast, second order", cached("fast", order=2)),
    Row("fast, sound cached too", cached("fast", sound="cached")),
    Row("fastest, sound cached too", cached("fastest", sound="cached")),
    Row("first block 0.10", cached("first_block", threshold=0.1)),
    Row("first block 0.20", cached("first_block", threshold=0.2)),
    Row("magnitude", cached("magnitude")),
    Row("guidance every 2nd", {"guidance_every": 2}),
    Row("guidance every 4th", {"guidance_every": 4}),
    Row("guidance in the first half", {"guidance_end": 0.5}),
    Row("fastest, guidance every 2nd", {**cached("fastest"), "guidance_every": 2}),
    Row("every 6th, guidance in the first half", {**cached("interval", every=6), "guidance_end": 0.5}),
    Row("first block 0.20, guidance in the first half", {**cached("first_block", threshold=0.2), "guidance_end": 0.5}),
    Row("half the steps", share=0.5),
)


@contextmanager
def counted(model: JoinedModel) -> Iterator[list[int]]:
    """Rows that leave the last block of the video tower while the block runs."""
    counts: list[int] = []
    hook = model.joint.video.blocks[-1].register_forward_hook(lambda module, inputs, out: counts.append(len(out)))
    try:
        yield counts
    finally:
        hook.remove()


def make(model: JoinedModel, wish: Wish, options: SamplingOptions) -> tuple[JointLatents, dict[str, float]]:
    """Latents, and what they took."""
    frames, size = wish.truth.clip.video.frames.shape[:2]
    timeline = Timeline(frames, FPS, size, size, model.geometry)
    shapes, placed = model.shapes(timeline), {"placement": model.placement}
    texts = {"negatives": NO_NEGATIVES, "seconds": float(timeline.seconds), **placed}
    conditioning = encode_captions(*model.texts, captions_of(wish), **texts)
    start = time.process_time()
    with counted(model) as rows:
        latents = sample_latents(
            model,
            conditioning,
            video_shape=shapes.video,
            audio_shape=shapes.audio,
            options=replace(options, seed=wish.seed),
            times=timeline.times,
        )
    return latents, {"rows": sum(rows), "seconds": time.process_time() - start}


def apart(latents: JointLatents, base: JointLatents) -> dict[str, float]:
    """Relative differences of both sides."""
    pairs = {"video": (latents.video, base.video), "audio": (latents.audio, base.audio)}
    return {side: float((mine - theirs).norm() / theirs.norm()) for side, (mine, theirs) in pairs.items()}


def to_uncached(row: Row, steps: int, args: argparse.Namespace, wish: Wish, latents: JointLatents) -> dict[str, float]:
    """How far off latents are from those of the uncached row, which has to be there already; its own are kept."""
    kept = folder_of(ROWS[0], steps, args) / f"{wish.name}.safetensors"
    if row.title == BASE:
        save_file({"video": latents.video.contiguous(), "audio": latents.audio.contiguous()}, kept)
    return apart(latents, JointLatents(**load_file(kept)))


def fill(
    row: Row,
    steps: int,
    wanted: Sequence[Wish],
    args: argparse.Namespace,
    noted: Callable[[Wish, JointLatents], dict[str, float]] = lambda wish, latents: {},
) -> None:
    """Make the clips of a row that are not there yet.

    Args:
        row: How they are sampled.
        steps: Of the sampler.
        wanted: The clips.
        args: Of the command.
        noted: What is noted of the latents of each, beside what they took.
    """
    folder = folder_of(row, steps, args)
    folder.mkdir(parents=True, exist_ok=True)
    done, model = runs_of(folder), None
    for wish in wanted:
        path = folder / f"{wish.name}.mp4"
        if path.is_file() and wish.name in done:
            continue
        model = load_pocket(device=args.device) if model is None else model
        latents, took = make(model, wish, row.options(steps))
        took |= noted(wish, latents)
        codecs = {"video_codec": model.video.codec, "audio_codec": model.audio.codec}
        write_clip(decode_latents(latents, **codecs, fps=FPS, placement=model.placement), path)
        with (folder / "runs.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"name": wish.name, **took}) + "\n")
        print(f"{steps} steps, {row.title}, {wish.name}: {took['seconds']:.1f} s", flush=True)


def runs_of(folder: Path) -> dict[str, dict[str, float]]:
    """What each clip took, by its name; a line that was cut off is left out, and the last one counts."""
    path = folder / "runs.jsonl"
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            run = json.loads(line)
        except ValueError:
            continue
        found[run.pop("name")] = run
    return found


def folder_of(row: Row, steps: int, args: argparse.Namespace) -> Path:
    """Where a row's clips lie."""
    name = "".join(letter if letter.isalnum() else "_" for letter in row.title)
    return args.output / f"{steps}_steps" / name


def judged(row: Row, steps: int, wanted: Sequence[Wish], args: argparse.Namespace) -> Judged | None:
    """What the clips of a row are; None where they are not all there."""
    folder = folder_of(row, steps, args)
    note = folder.with_name(f"{folder.name}.{len(wanted)}.json")
    if note.is_file():
        return Judged.read(note)
    if not all((folder / f"{wish.name}.mp4").is_file() for wish in wanted):
        return None
    write_manifest(wanted, folder)
    return judge(folder, wanted, "both").write(note)


def turns_of(path: Path, ways: Mapping[str, SamplingOptions], args: argparse.Namespace) -> list[dict[str, float]]:
    """CPU seconds of sampling a prompt in every way, one after the other; turns that are missing are made.

    A turn that was taken before there was one of the ways is without it.

    Args:
        path: Where they are kept, a line a turn.
        ways: Options by name.
        args: Of the command.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    turns = [json.loads(line) for line in lines]
    missing = 0 if args.report else max(args.turns - sum(set(ways) <= set(turn) for turn in turns), 0)
    model = load_pocket(device=args.device) if missing else None
    for wish in wishes(missing, pocket_size()):
        turns.append({way: make(model, wish, options)[1]["seconds"] for way, options in ways.items()})
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(turns[-1]) + "\n")
    return turns


def line_of(
    row: Row,
    steps: int,
    wanted: Sequence[Wish],
    base: Judged,
    turns: Sequence[Mapping[str, float]],
    args: argparse.Namespace,
) -> str | None:
    """A row of the table; None where it is not done."""
    found = judged(row, steps, wanted, args)
    if found is None:
        return None
    names = [wish.name for wish in wanted]
    mine, theirs = (runs_of(folder_of(one, steps, args)) for one in (row, ROWS[0]))
    saved = sum(theirs[name]["rows"] for name in names) / sum(mine[name]["rows"] for name in names)
    faster = [turn[BASE] / turn[row.title] for turn in turns if {BASE, row.title} <= set(turn)]
    cells = [row.title, f"{saved:.2f} ×", f"{median(faster):.2f} ×" if faster else "–"]
    for within in TOLERANCES:
        cells += [str(f1(found.events, within))]
        difference = None if row.title == BASE else f1_difference(found.events, base.events, within)
        cells += ["–" if difference is None else difference.difference()]
    cells += scene_cells(found, None if row.title == BASE else base)
    cells += [f"{mean(mine[name][side] for name in names):.3f}" for side in ("video", "audio")]
    return f"| {' | '.join(cells)} |"


def scene_cells(found: Judged, base: Judged | None) -> list[str]:
    """Shares of clips whose scene is recognised, of both sides, with what they differ from a base."""
    cells = []
    for side in ("scene_picture", "scene_sound"):
        values = getattr(found, side)
        difference = None if base is None else mean_difference(values, getattr(base, side))
        cells.append(f"{mean_of(values).value:.3f}" + ("" if difference is None else f" ({difference.difference()})"))
    return cells


TITLES = (
    "row", "forwards saved", "seconds saved", "event F1 ±2", f"less {BASE}", "event F1 ±1", f"less {BASE}",
    "scene, picture", "scene, sound", "off, picture", "off, sound",
)  # fmt: skip


def table(rows: Sequence[Row], steps: int, clips: int, args: argparse.Namespace) -> str:
    """Make what is missing of these rows, unless only a report is asked for, and give the table of what is there."""
    wanted = wishes(clips, pocket_size())
    lines = [f"| {' | '.join(TITLES)} |", "|---|" + "---:|" * (len(TITLES) - 1)]
    for row in () if args.report else rows:
        fill(row, steps, wanted, args, partial(to_uncached, row, steps, args))
    file = args.output / f"{steps}_steps" / "turns.jsonl"
    turns = turns_of(file, {row.title: row.options(steps) for row in rows}, args)
    base = judged(ROWS[0], steps, wanted, args)
    made = [line_of(row, steps, wanted, base, turns, args) for row in rows if base is not None]
    return "\n".join([*lines, *filter(None, made)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("output", type=Path, help="folder of all state")
    add("--clips", type=int, default=100, help="test prompts, scenes in turn (default: 100)")
    add("--steps", type=int, nargs="+", default=[25, 50])
    add("--rows", nargs="+", choices=[row.title for row in ROWS], help="only these, and the uncached one")
    add("--more-clips", type=int, default=0, metavar="N", help="the presets once more, over so many prompts")
    add("--turns", type=int, default=4, help="prompts for which all rows take turns against the clock (default: 4)")
    add("--device", default="auto")
    add("--report", action="store_true", help="make nothing, write what is there")
    add("--write", action="store_true", help=f"write {FILE.name}")
    args = parser.parse_args()
    rows = [row for row in ROWS if not args.rows or row.title in (BASE, *args.rows)]
    tables = [(rows, args.clips)]
    if args.more_clips:
        tables.append(([row for row in rows if row.title in (BASE, *PRESETS)], args.more_clips))
    texts = []
    for (chosen, clips), steps in product(tables, args.steps):
        texts.append(f"## {steps} steps, {clips} prompts\n\n{table(chosen, steps, clips, args)}")
        print(texts[-1], flush=True)
    if args.write:
        command = (
            f"python benchmarks/step_cache.py OUTPUT --clips {args.clips} --steps {' '.join(map(str, args.steps))}"
        )
        command += f" --more-clips {args.more_clips}" if args.more_clips else ""
        parts = ["# Step caches on the pocket", f"`{command} --write`", __doc__.split("\n\n")[2], *texts]
        FILE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
