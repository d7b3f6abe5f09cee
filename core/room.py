"""Is there room? Asked before anything is made, so that no run fills the memory or the disk and dies half way."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import OutputError, PlacementError
from .sizes import size_text

if TYPE_CHECKING:
    from .clock import Timeline

SPARE_DISK_BYTES = 64 * 2**20
WORLD_PIXEL_BYTES = 27  # as bytes, and twice as floats on the way to the clip
WORLD_SAMPLE_BYTES = 32  # of both channels: as doubles while they are mixed, and as floats in the clip


def require_memory(num_bytes: int, what: str, *, of_all: bool = False) -> None:
    """Refuse what the main memory cannot hold.

    Args:
        num_bytes: What it takes at the least.
        what: What is to be made, for the message: "a clip of 9 frames of 64×64".
        of_all: Compare with all the memory there is, and not with what is free now: for what the user insists on.

    Raises:
        PlacementError: it does not fit.
    """
    memory = _memory()
    room = memory.total if of_all else memory.available
    if num_bytes > room:
        raise PlacementError(
            f"the memory cannot hold {what}",
            got=f"{size_text(room)} {'in all' if of_all else 'free'}",
            expected=f"at least {size_text(num_bytes)}",
            remedy="Make it smaller or shorter.",
        )


def total_memory() -> int:
    """Bytes of main memory in all."""
    return _memory().total


def _memory() -> Any:
    import psutil

    return psutil.virtual_memory()


def require_disk(folder: Path, num_bytes: int, what: str) -> None:
    """Refuse what a disk has no room for.

    Args:
        folder: Where it goes; it need not be there yet.
        num_bytes: What it takes at the least.
        what: What is to be made, for the message: "100 clips".

    Raises:
        OutputError: there is too little room.
    """
    there = next((place for place in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(place)), None)
    try:
        free = shutil.disk_usage(there or folder.anchor).free
    except (OSError, ValueError):
        return  # whoever writes says what is wrong with the place
    if free < num_bytes + SPARE_DISK_BYTES:
        raise OutputError(
            f"there is too little room on the disk for {what}",
            got=f"{size_text(free)} free at {folder}",
            expected=f"about {size_text(num_bytes + SPARE_DISK_BYTES)}",
            remedy="Make fewer or smaller ones, or name a folder on another disk.",
        )


def clip_text(num_frames: int, width: int, height: int) -> str:
    """A clip in words, for the messages above."""
    return f"a clip of {num_frames} frames of {width}×{height} pixels"


def require_sound_memory(num_samples: int, sample_rate: int, sample_bytes: int) -> None:
    """Refuse a sound that the main memory cannot hold: a few pictures at a rate of one a day last for days.

    Args:
        num_samples: Of one channel.
        sample_rate: Hz.
        sample_bytes: What one of them takes, in all channels and copies.

    Raises:
        PlacementError: it does not fit.
    """
    require_memory(num_samples * sample_bytes, f"a sound of {num_samples / sample_rate:.0f} s")


def require_clip_memory(timeline: Timeline) -> None:
    """Refuse a clip of the world that the main memory cannot hold.

    Asked by whoever has one made, and not in ``world``: a run's clips are known by that room's code, so a line there
    would end every run that people have.

    Raises:
        PlacementError: it does not fit.
    """
    extent = timeline.num_frames, timeline.width, timeline.height
    require_memory(WORLD_PIXEL_BYTES * math.prod(extent), clip_text(*extent))
    require_sound_memory(timeline.num_samples, timeline.geometry.sample_rate, WORLD_SAMPLE_BYTES)
