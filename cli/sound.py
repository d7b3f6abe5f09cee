"""``sound``: a sound for a video, or for each of several; the picture is copied as it is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError
from ..core.options import Bounds
from .console import Console
from .making import VIDEOS, add_making_options, inputs_and_text, make_all, sources_of
from .options import Checked

if TYPE_CHECKING:
    from ..media.mux import MuxReport
    from ..media.user_file import UserFile
    from ..tasks.base import Run

OVERLAP = Bounds("overlap", 0.001, 60, whole=False)  # seconds
WITHOUT_PICTURE = (".wav", ".flac", ".m4a")


def add_parser(commands: argparse._SubParsersAction, **options: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "sound",
        help="make a sound for a video",
        description="Make the sound that belongs to a video of any length, rate and size. The picture goes into the "
        "new file as it is. A text says what is seen and heard; without one the sound follows the picture alone.",
        **options,
    )
    suffixes = ".mp4, .mkv, .webm; .wav, .flac or .m4a for the sound alone"
    add_making_options(parser, suffixes=suffixes, default_suffix=".mp4")
    parser.add_argument(
        "--overlap",
        type=Checked(OVERLAP.read),
        default=1.0,
        metavar="S",
        help="seconds that neighbouring windows of a long clip share (default: 1)",
    )
    return parser


def run(args: argparse.Namespace, console: Console) -> int:
    """Check, load, make, write."""
    paths, text = inputs_and_text(args.inputs)
    sources = sources_of(paths, Path(args.output), ".mp4", VIDEOS)
    for each in sources:
        _require_place(each.source, each.target)

    def make(task: Run, file: UserFile, target: Path) -> tuple[MuxReport, list[str]]:
        from ..core.types import AVClip
        from ..media.mux import write_clip
        from ..media.remux import copy_with_sound
        from ..tasks.sound import sound_for

        audio, notes = sound_for(task, file, overlap=args.overlap)
        if target.suffix.lower() in WITHOUT_PICTURE:
            return write_clip(AVClip(None, audio), target), notes
        return copy_with_sound(file.path, audio, target, progress=task.progress), notes

    return make_all(args, console, sources, text, make, "v2a")


def _require_place(source: Path, target: Path) -> None:
    """Refuse a format that cannot hold the picture before anything is loaded."""
    from ..media.remux import why_not_copied

    if target.suffix.lower() not in WITHOUT_PICTURE and (sentence := why_not_copied(source, target.suffix.lower())):
        raise InputError(sentence)
