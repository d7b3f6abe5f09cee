"""``sounding-video evaluate DIR``: measure a folder of clips."""

from __future__ import annotations

import argparse
from typing import Any

from ..core.options import Bounds
from ..evaluation.metrics import METRICS
from .console import Console
from .given import FILE, FOLDER, NEW_FOLDER
from .options import Checked

SECONDS = Bounds("seconds to judge", 0.1, 3600, whole=False)


def add_parser(commands: argparse._SubParsersAction, **options: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "evaluate",
        help="measure how well picture and sound of clips belong together",
        description="Measure every .mp4, .webm and .mkv file of a folder: AV-Align, events seen and heard, scenes. "
        "A clip that cannot be read is named and counted.",
        **options,
    )
    add = parser.add_argument
    add("folder", type=FOLDER, metavar="DIR", help="folder of clips")
    add(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help=f"{', '.join(METRICS)} (default: all)",
    )
    add(
        "--manifest",
        type=FILE,
        metavar="FILE",
        help="ground truth as synth writes it (default: DIR/manifest.jsonl if there)",
    )
    add(
        "--pictures",
        type=NEW_FOLDER,
        metavar="DIR",
        help="write a PNG per clip: frames, flow, sound, onsets and events on one axis",
    )
    add(
        "--references",
        type=FOLDER,
        metavar="DIR",
        help="true clips, or their sounds: files called as the clips, but for their ending; onset_detection, psnr and "
        "the kernel distances compare with them",
    )
    add(
        "--onset-seconds",
        type=Checked(SECONDS.read),
        metavar="S",
        help="how much of the beginning onset_detection judges (default: 2, as published)",
    )
    add("--onset-compatible", action="store_true", help="onset_detection with the published script's own slips")
    add(
        "--output", "-o", type=NEW_FOLDER, metavar="DIR", help="write clips.jsonl (a row a clip) and summary.json there"
    )
    return parser


def run(args: argparse.Namespace, console: Console) -> None:
    """Measure, write, print."""
    from ..evaluation.report import summary_table
    from ..evaluation.runner import evaluate_folder

    onsets = {} if args.onset_seconds is None else {"seconds": args.onset_seconds}
    onsets |= {"compatible": True} if args.onset_compatible else {}
    result = evaluate_folder(
        args.folder,
        metrics=args.metrics,
        manifest=args.manifest,
        pictures=args.pictures,
        references=args.references,
        settings={"onset_detection": onsets},
        progress=console.progress,
    )
    console.close_progress()
    for clip in result.broken:
        console.warn(f"{clip.file}: {clip.error}")
    written = [] if args.output is None else [str(path) for path in result.write(args.output)]
    text = summary_table(result) + "".join(f"\nWritten: {path}" for path in written)
    console.report(text, result.as_json() | {"clips": [clip.as_json() for clip in result.clips], "written": written})
