"""What a player draws over its timeline: the waveform's outline, and the moments where a sound begins."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ..core.errors import InputError
from ..core.types import AudioClip, AVClip, require_finite

NUM_COLUMNS = 480
_WINDOW_SECONDS, _HOP_SECONDS = 0.046, 0.0116
_COMPRESSION = 100.0  # of magnitudes, so that a quiet beginning counts beside a loud one
_PEAK_SECONDS, _MEAN_SECONDS = 0.03, 0.1
_ABOVE_MEAN = 0.07
_SILENCE = 1e-4


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


def onsets(audio: AudioClip) -> list[float]:
    """Seconds where a sound begins: peaks of the spectral flux of compressed magnitudes.

    The flux is the summed growth of all bins from one frame to the next; a peak counts when it is the highest within
    30 ms and stands above the mean of its 100 ms neighbourhood (the rule of Böck, Krebs and Schedl, 2012). It needs no
    further library; the metrics use librosa's detector.

    Raises:
        NonFiniteError: NaN or infinity in the sound.
    """
    require_finite("the waveform", audio.waveform)
    mono = audio.waveform.detach().to("cpu", torch.float32).mean(0)
    if not mono.numel() or float(mono.abs().max()) < _SILENCE:
        return []
    hop, window = (max(1, round(seconds * audio.sample_rate)) for seconds in (_HOP_SECONDS, _WINDOW_SECONDS))
    power = torch.stft(
        F.pad(mono, (window, 0)),  # silence before, so that a sound at the very start begins too
        window,
        hop,
        window=torch.hann_window(window),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    level = torch.log1p(_COMPRESSION * power.abs() / window)
    flux = torch.relu(level[:, 1:] - level[:, :-1]).sum(0)
    flux = flux / flux.max()
    reach, around = (max(1, round(seconds / _HOP_SECONDS)) for seconds in (_PEAK_SECONDS, _MEAN_SECONDS))
    highest = F.max_pool1d(flux[None], 2 * reach + 1, 1, reach)[0]
    mean = F.avg_pool1d(flux[None], 2 * around + 1, 1, around, count_include_pad=False)[0]
    frames = np.flatnonzero(((flux == highest) & (flux >= mean + _ABOVE_MEAN)).numpy())
    # Growth into frame i + 1, whose centre stands at (i + 1) hops of the padded sound.
    times = [max(0.0, ((frame + 1) * hop - window) / audio.sample_rate) for frame in frames.tolist()]
    # Where the sound is cut off, its spectrum spreads; that is no beginning.
    times = [time for time in times if time < mono.numel() / audio.sample_rate - _WINDOW_SECONDS / 2]
    return [time for index, time in enumerate(times) if index == 0 or time - times[index - 1] > _PEAK_SECONDS]


def timeline(clip: AVClip) -> dict[str, Any]:
    """Plain values for a player: length, frame rate, outline and onsets; the last two are empty for a silent clip."""
    whole = clip.video or clip.audio
    found: dict[str, Any] = {"seconds": float(whole.seconds), "fps": None, "outline": [], "onsets": []}
    if clip.video is not None:
        found["fps"] = float(clip.video.fps)
    if clip.audio is not None and clip.audio.waveform.shape[-1]:
        found["outline"] = [list(pair) for pair in outline(clip.audio)]
        found["onsets"] = [round(time, 3) for time in onsets(clip.audio)]
    return found
