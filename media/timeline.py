"""What a player draws over its timeline: the waveform's outline, where a sound begins, where the motion peaks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from ..core.errors import InputError
from ..core.progress import SILENT, Progress
from ..core.types import AudioClip, AVClip, require_finite
from .flow import seen_peaks
from .onsets import onsets

NUM_COLUMNS = 480
MOST_PIXELS = 100_000_000  # 81 frames of 1280×720 are 75 million


def outline(audio: AudioClip, num_columns: int = NUM_COLUMNS) -> list[tuple[int, int]]:
    """Lowest and highest value per column over all channels, in hundredths of full scale (beyond ±100 it is louder).

    Args:
        audio: The sound.
        num_columns: Columns over the whole sound; fewer when there are fewer samples.

    Raises:
        InputError: no column, or no sample.
        NonFiniteError: NaN or infinity in the sound.
    """
    num_samples = audio.waveform.shape[-1]
    if num_columns < 1 or not num_samples:
        raise InputError(
            "there is nothing to outline",
            got=f"{num_samples} samples in {num_columns} columns",
            expected="at least one of each",
        )
    require_finite("the waveform", audio.waveform)
    samples = audio.waveform.detach().to("cpu", torch.float32).numpy()
    count = min(num_columns, num_samples)
    edges = [index * num_samples // count for index in range(count + 1)]
    blocks = [samples[:, start:end] for start, end in pairwise(edges)]
    return [(round(float(block.min()) * 100), round(float(block.max()) * 100)) for block in blocks]


def timeline(clip: AVClip, progress: Progress = SILENT, *, motion: bool = True) -> dict[str, Any]:
    """Plain values for a player: length, frame rate, outline, onsets and the motion's peaks.

    Outline and onsets are empty for a silent clip; ``peaks`` is None where the motion is not measured: without a
    picture, without OpenCV, for a clip that is not short.

    Args:
        clip: Picture, sound or both.
        progress: Told of each frame whose motion is measured; may stop the run.
        motion: Whether to measure it, which takes a core 0.2 microseconds a pixel.
    """
    whole = clip.video or clip.audio
    found: dict[str, Any] = {
        "seconds": float(whole.seconds), "fps": None, "outline": [], "onsets": [], "peaks": None
    }  # fmt: skip
    if clip.video is not None:
        peaks = seen_peaks(clip.video, progress) if motion and is_short(clip) else None
        found |= {"fps": float(clip.video.fps), "peaks": peaks and [round(time, 3) for time in peaks]}
    if clip.audio is not None and clip.audio.waveform.shape[-1]:
        found["outline"] = [list(pair) for pair in outline(clip.audio)]
        found["onsets"] = [round(time, 3) for time in onsets(clip.audio)]
    return found


def is_short(clip: AVClip) -> bool:
    """Whether there is a picture whose motion a core can measure within about 20 seconds."""
    return clip.video is not None and clip.video.frames[..., 0].numel() <= MOST_PIXELS
