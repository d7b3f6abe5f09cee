"""How long and how large the clip of ``generate`` is: what is made at once, and the whole of a longer clip."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..core.clock import FRAMES, closest_frames
from ..core.errors import InputError
from ..core.options import Bounds
from ..core.rates import as_fps
from .console import Console
from .options import Checked, add_sampling_options, read_size

if TYPE_CHECKING:
    from ..core.clock import Timeline
    from ..models.own import OwnSettings

SECONDS = Bounds("length in seconds", 0.01, 3600, whole=False)
# How a longer clip is made where nobody says it.
LONG = "blended"


def add_extent_options(parser: argparse.ArgumentParser) -> None:
    """Length, size and rate of the clip, and how it is sampled."""
    add = parser.add_argument_group("clip").add_argument
    add(
        "--frames",
        type=Checked(FRAMES.read),
        metavar="N",
        help="pictures, 4k+1 (default: 81; the pocket model's own, 33); with --seconds those of a window",
    )
    add(
        "--seconds",
        type=Checked(SECONDS.read),
        metavar="S",
        help="length of the clip, to the nearest 4k+1 pictures (default: that of --frames); what the model does not "
        f"make at once, {LONG} windows do",
    )
    add(
        "--size",
        type=Checked(read_size),
        metavar="WxH",
        help="pixels, multiples of 16 (default: 832x480; pocket: 64x64)",
    )
    add(
        "--fps",
        type=Checked(as_fps),
        metavar="RATE",
        help="frames per second, for example 15 or 30000/1001 (default: 15)",
    )
    add_sampling_options(parser.add_argument_group("sampling").add_argument)
    parser.set_defaults(windows=None)  # a clip with a length in seconds has windows where it needs them


def extent_of(args: argparse.Namespace, own: OwnSettings) -> dict[str, Any]:
    """Number of frames, frame rate and size in pixels: as asked for, else what the model was made for."""
    width, height = args.size or (own.width, own.height)
    return {
        "num_frames": own.num_frames if args.frames is None else args.frames,
        "fps": args.fps or own.fps,
        "width": width,
        "height": height,
    }


def settle_windows(args: argparse.Namespace, extent: dict[str, Any]) -> None:
    """Of a clip with a length in seconds, how it is made and how long a window is."""
    if args.windows is None:
        args.windows = "off" if args.seconds is None else LONG
    if args.seconds is not None and args.frames is not None and not args.window_seconds:
        args.window_seconds = float(args.frames / extent["fps"])


def whole_clip(args: argparse.Namespace, console: Console, at_once: Timeline) -> Timeline:
    """The whole clip, where its length was asked for in seconds."""
    wanted = None if args.seconds is None else args.seconds * float(at_once.fps)
    if wanted is None or round(wanted) == at_once.num_frames:
        return at_once
    whole = replace(at_once, num_frames=closest_frames(wanted, at_once.geometry.temporal_stride))
    if abs(whole.num_frames - wanted) >= 1:
        console.note(f"note: {whole.num_frames} frames, {float(whole.seconds):.3f} s: the nearest whole latents")
    return whole


def extent_at_once(args: argparse.Namespace, extent: dict[str, Any]) -> dict[str, Any]:
    """The extent of what is made at once: a window, or the clip where its windows are off."""
    seconds = args.seconds if args.windows == "off" else args.window_seconds
    if not seconds:
        return extent
    return {**extent, "num_frames": closest_frames(round(seconds * float(extent["fps"])))}


def require_no_extent(args: argparse.Namespace) -> None:
    """Refuse a length, a size or a rate for a video that goes on: its own stay.

    Raises:
        InputError: there is one.
    """
    if not args.go_on:
        return
    if args.seconds is not None:
        raise InputError(
            "a video goes on by half of the model's own length",
            got=f"--continue with --seconds {args.seconds:g}",
            expected="--continue alone; its result can go on again",
        )
    asked = [f"--{option}" for option in ("frames", "size", "fps") if getattr(args, option) is not None]
    if asked:
        raise InputError(
            "a video that goes on keeps its size and rate, and goes on by half of the model's own length",
            got=f"--continue with {' and '.join(asked)}",
            expected="--continue alone",
        )
