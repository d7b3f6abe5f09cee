"""``sounding-video convert CKPT -o bridge.safetensors``: a published bridge checkpoint as a safe file that says all."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..core.errors import InputError
from ..core.options import Bounds
from .bridges import ROPE_HELP
from .console import Console
from .given import MODEL, NEW_FILE, free_text
from .options import Checked, read_blocks

HEADS = Bounds("number of heads", 1, 4096)


def add_parser(commands: argparse._SubParsersAction, **options: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "convert",
        help="turn a bridge checkpoint into a safetensors file",
        description="Turn a Lightning or DeepSpeed bridge checkpoint into a safetensors file that states its kind, "
        "points, widths, source, recipe and licence. Fine-tuned tower blocks go with it. No code of the checkpoint is "
        "run.",
        **options,
    )
    add = parser.add_argument
    add("checkpoint", type=MODEL, metavar="CKPT", help="the checkpoint to read: a file, or DeepSpeed's folder")
    add("-o", "--output", required=True, type=NEW_FILE, metavar="FILE", help="the .safetensors file to write")
    add("--fusion", metavar="KIND", help="kind of the bridges, if the file does not say it: dual_cross, full, …")
    add("--num-heads", type=Checked(HEADS.read), metavar="N", help="heads of a bridge, if not the published ones")
    add("--placement", metavar="NAME", help="after which blocks the bridges stand, by name")
    add(
        "--points",
        type=Checked(_both_points),
        metavar="V,V/A,A",
        help="the same as block numbers, for example 3,7,11,15/2,5,8,11",
    )
    add("--rope", metavar="KIND", help=ROPE_HELP)
    add(
        "--tuned-blocks",
        type=Checked(_tuned_blocks),
        default="5,5",
        metavar="V,A",
        help="DeepSpeed files: tuned blocks of each tower (default: 5,5)",
    )
    add(
        "--recipe",
        type=free_text,
        metavar="TEXT",
        help="note how it was trained (default: what the checkpoint says: epoch and step)",
    )
    add(
        "--models",
        type=MODEL,
        metavar="DIR",
        help="note names and hashes of the towers of this folder, as generate takes them",
    )
    add("--video-tower", type=MODEL, metavar="PATH", help="note name and hash of this Wan file or folder")
    add("--audio-tower", type=MODEL, metavar="PATH", help="note name and hash of this Stable Audio file or folder")
    add("--overwrite", action="store_true", help="replace the output if it is there")
    return parser


def run(args: argparse.Namespace, console: Console) -> None:
    """Convert and print what was written."""
    from ..models.weights.bridges import BridgeOptions
    from ..models.weights.convert import convert_bridges

    done = convert_bridges(
        args.checkpoint,
        args.output,
        options=BridgeOptions(
            fusion=args.fusion,
            num_heads=args.num_heads,
            points=_points(args),
            rope=args.rope,
            tuned_blocks=args.tuned_blocks,
        ),
        towers=_towers(args),
        recipe=args.recipe,
        overwrite=args.overwrite,
    )
    size = done.path.stat().st_size
    console.report(
        f"{done.path}: {done.bridges.summary()}; {size / 1e6:.1f} MB",
        {
            "path": str(done.path),
            "bytes": size,
            "summary": done.bridges.summary(),
            "tower_tensors": {modality: len(weights) for modality, weights in done.bridges.tower_weights.items()},
            "metadata": done.metadata,
        },
    )


def _towers(args: argparse.Namespace) -> dict[str, Path]:
    """Those of the model folder, and those that are named one by one."""
    towers: dict[str, Path] = {}
    if args.models is not None:
        from ..models.weights.find import find_models

        found = find_models(args.models)
        towers = {"video": found.video_path, "audio": found.audio_path}
    from ..core.disk import user_path

    named = {"video": args.video_tower, "audio": args.audio_tower}
    return towers | {modality: user_path(path) for modality, path in named.items() if path is not None}


def _points(args: argparse.Namespace) -> Any:
    from ..models.points import BridgePoints, placement

    if args.placement is not None and args.points is not None:
        raise InputError("the bridge points are given twice", got="--placement and --points", expected="one of them")
    if args.points is None:
        return None if args.placement is None else placement(args.placement)
    return BridgePoints(*args.points)


def _both_points(text: str) -> tuple[tuple[int, ...], ...]:
    video, slash, audio = text.partition("/")
    if not slash:
        raise InputError("the bridge points are not usable", got=text[:60], expected="video and audio blocks with /")
    return read_blocks(video), read_blocks(audio)


def _tuned_blocks(text: str) -> tuple[int, ...]:
    tuned = read_blocks(text)
    if len(tuned) != 2:
        raise InputError("the tuned blocks are not two numbers", got=text[:60], expected="for example 5,5")
    return tuned
