"""``sounding-video probe FILE``: what a media file holds, counted by decoding it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .console import Console
from .given import FILE, NEW_FILE

if TYPE_CHECKING:
    from ..media.probe import MediaInfo


def add_parser(commands: argparse._SubParsersAction, **options: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "probe",
        help="say what a media file holds",
        description="Say what a media file holds: codecs, sizes, tags. Frames and samples are counted by decoding.",
        **options,
    )
    parser.add_argument("file", type=FILE, metavar="FILE", help="an mp4, webm, mkv, wav, flac or m4a file")
    parser.add_argument(
        "--picture",
        type=NEW_FILE,
        metavar="PNG",
        help="draw frames, optical flow, sound, onsets and events on one time axis (needs the eval extra)",
    )
    return parser


def run(args: argparse.Namespace, console: Console) -> None:
    """Probe and print."""
    from ..media.probe import probe

    info = probe(args.file)
    text, values = f"{args.file}: {describe(info)}", {"path": args.file, **info.as_json()}
    if args.picture:
        from ..evaluation.report import clip_picture
        from ..evaluation.sample import Sample

        clip_picture(Sample.read(Path(args.file)), args.picture)
        text += f"\n{args.picture}: its frames, sound and events on one time axis"
        values["picture"] = args.picture
    console.report(text, values)


def describe(info: MediaInfo) -> str:
    """One line: container, length, picture, sound, names of the tags."""
    parts = [f"{info.container}, {float(info.seconds):.3f} s"]
    if info.video_codec:
        parts.append(f"{info.video_codec} {info.width}x{info.height}, {info.num_frames} frames at {info.fps} fps")
    if info.audio_codec:
        channels = {1: "mono", 2: "stereo"}.get(info.num_channels, f"{info.num_channels} channels")
        parts.append(f"{info.audio_codec} {info.sample_rate} Hz {channels}, {info.num_samples} samples")
    parts.append("tags " + ", ".join(sorted(info.tags)) if info.tags else "no tags")
    return "; ".join(parts)
