"""``picture``: a picture for a sound, or for each of several; the sound stays as it is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .clips import DEFAULT_CRF, rehearse_writing
from .console import Console
from .making import SOUNDS, VIDEOS, add_making_options, inputs_and_text, make_all, sources_of

if TYPE_CHECKING:
    from ..media.mux import MuxReport
    from ..media.user_file import UserFile
    from ..tasks.base import Run


def add_parser(commands: argparse._SubParsersAction, **options: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "picture",
        help="make a picture for a sound",
        description="Make the picture that belongs to a sound, as long as the sound. The text says what is seen.",
        **options,
    )
    add_making_options(parser, suffixes=".mp4, .mkv, .webm", default_suffix=".mp4")
    return parser


def run(args: argparse.Namespace, console: Console) -> int:
    """Check, load, make, write."""
    paths, text = inputs_and_text(args.inputs)
    sources = sources_of(paths, Path(args.output), ".mp4", SOUNDS | VIDEOS)
    rehearse_writing(sources[0].target, writer="pyav", codec="auto", crf=DEFAULT_CRF)

    def make(task: Run, file: UserFile, target: Path) -> tuple[MuxReport, list[str]]:
        from ..media.mux import write_clip
        from ..tasks.picture import picture_for

        clip, notes = picture_for(task, file)
        return write_clip(clip, target, progress=task.progress), notes

    return make_all(args, console, sources, text, make, "a2v")
