"""``sounding-video synth -n 100 -o DIR``: clips of the sounding world with their exact ground truth."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from .. import __version__
from ..core.clock import FRAMES
from ..core.disk import size_of, what_is_there
from ..core.errors import InputError
from ..core.json_text import read_json_lines
from ..core.new_files import made_folder, remove
from ..core.options import Bounds
from ..core.rates import as_fps
from .console import Console
from .given import NEW_FOLDER
from .options import NUMBER_OF_CLIPS, Checked, read_size

if TYPE_CHECKING:
    from ..core.clock import Timeline
    from ..world.synth import WorldClip

MANIFEST = "manifest.jsonl"
# Measured: H.264 of the world's clips, AAC, and a row of the manifest.
PIXEL_BYTES, SECOND_BYTES, ROW_BYTES = 0.02, 12_000, 1500
SEED = Bounds("seed", 0, 2**64 - 1)
Row = dict[str, Any]


def add_parser(commands: argparse._SubParsersAction, **options: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "synth",
        help="make clips of a small world whose sound comes from what is seen",
        description="Make clips of a small procedural world whose sound comes from what is seen, and manifest.jsonl "
        "with captions, prompts and exact event times. Clips that are already there with the same settings are kept.",
        **options,
    )
    add = parser.add_argument
    add("-n", "--number", type=Checked(NUMBER_OF_CLIPS.read), required=True, metavar="N", help="how many clips")
    add("-o", "--output", required=True, type=NEW_FOLDER, metavar="DIR", help="folder to write to")
    add("--scene", metavar="NAME", help="one kind of scene: ball, anvil, drum, … (default: all, by seed)")
    add("--split", default="train", metavar="NAME", help="train (default), validation or test")
    add(
        "--seed",
        type=Checked(SEED.read),
        default=0,
        metavar="N",
        help="seed of the first clip; the next ones count up (default: 0)",
    )
    add("--frames", type=Checked(FRAMES.read), default=33, metavar="N", help="pictures, 4k+1 (default: 33)")
    add(
        "--fps",
        type=Checked(as_fps),
        default="15",
        metavar="RATE",
        help="frames per second, for example 15 or 30000/1001 (default: 15)",
    )
    add(
        "--size",
        type=Checked(read_size),
        default=(128, 128),
        metavar="WxH",
        help="pixels, multiples of 16 (default: 128x128)",
    )
    return parser


def run(args: argparse.Namespace, console: Console) -> None:
    """Make what is not there yet; each clip and its row in the manifest appear together and whole."""
    from ..core.clock import Timeline
    from ..core.room import require_clip_memory, require_disk
    from ..media.files import output_error
    from ..media.mux import write_clip
    from ..world.synth import make_clip, scene_for

    folder, total = Path(args.output), args.number
    width, height = args.size
    timeline = Timeline(num_frames=args.frames, fps=args.fps, width=width, height=height)
    require_clip_memory(timeline)
    require_disk(folder, total * least_bytes(timeline), f"{total} clips")
    make_clip(args.scene, args.seed, timeline=timeline, split=args.split)  # refuses bad options before a file changes
    seeds = range(args.seed, args.seed + total)
    wanted = [
        _settings(seed, args.scene or scene_for(seed, args.split), split=args.split, timeline=timeline)
        for seed in seeds
    ]
    rows = _read_rows(folder / MANIFEST)
    kept = {row["file"] for row in wanted if _is_there(folder, row, rows)}
    replaced = {row["file"] for row in wanted} - kept
    try:
        with (
            made_folder(folder),
            _manifest_of(folder, [row for name, row in rows.items() if name not in replaced]) as manifest,
        ):
            for done, settings in enumerate(wanted, start=1):
                if settings["file"] not in kept:
                    made = make_clip(settings["scene"], settings["seed"], timeline=timeline, split=args.split)
                    write_clip(made.clip, folder / settings["file"])
                    manifest.write(json.dumps(settings | _truth(made), ensure_ascii=False) + "\n")
                    manifest.flush()
                console.progress.step("synth", done, total)
    except OSError as error:
        raise output_error(folder, error) from error
    values = {"folder": str(folder), "manifest": str(folder / MANIFEST), "made": len(replaced), "kept": len(kept)}
    console.report(f"{folder}: {total} clips, {len(replaced)} made, {len(kept)} kept", values)


def least_bytes(timeline: Timeline) -> int:
    """Bytes that a clip and its row take on the disk, about."""
    pixels = timeline.num_frames * timeline.width * timeline.height
    return int(PIXEL_BYTES * pixels + SECOND_BYTES * timeline.seconds) + ROW_BYTES


def _settings(seed: int, scene: str, *, split: str, timeline: Timeline) -> Row:
    """What decides a clip's content."""
    return {
        "file": f"{split}-{scene}-{seed:06d}.mp4",
        "scene": scene,
        "split": split,
        "seed": seed,
        "frames": timeline.num_frames,
        "fps": str(timeline.fps),
        "width": timeline.width,
        "height": timeline.height,
        "version": __version__,
    }


def _truth(made: WorldClip) -> Row:
    """What is known about a clip."""
    return {
        "prompt": made.prompt,
        "video_caption": made.captions.video,
        "audio_caption": made.captions.audio,
        "events": list(made.events),
        "parameters": made.parameters,
    }


def _is_there(folder: Path, settings: Row, rows: dict[str, Row]) -> bool:
    row = rows.get(settings["file"], {})
    return {name: row.get(name) for name in settings} == settings and (folder / settings["file"]).is_file()


def _read_rows(path: Path) -> dict[str, Row]:
    """Rows by file name. A last line that a crash cut off is left out: its clip is made again."""
    if what_is_there(path) == "nothing":
        return {}
    told = {
        "expected": "a JSON object with a file a line, as this command writes it",
        "remedy": "Choose an empty folder.",
    }
    rows: dict[str, Row] = {}
    for number, row in read_json_lines(path, what="the manifest in this folder", half_last=True, **told):
        if not isinstance(row.get("file"), str):
            raise InputError(
                "a line of the manifest in this folder names no file", got=f"{path}, line {number}", **told
            )
        rows[row["file"]] = row
    return rows


@contextmanager
def _manifest_of(folder: Path, rows: list[Row]) -> Iterator[TextIO]:
    """The manifest with what it keeps, open for what is made; one in which nothing has come to stand is taken away."""
    path = folder / MANIFEST
    _write_rows(path, rows)
    try:
        with path.open("a", encoding="utf-8") as manifest:
            yield manifest
    finally:
        if not size_of(path):
            remove(path)


def _write_rows(path: Path, rows: list[Row]) -> None:
    from ..media.files import new_file

    with new_file(path) as part:
        part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
