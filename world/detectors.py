"""Find events in pixels and in samples alone, and how active a clip is; no ground truth is read.

Checked on the world's own clips by ``benchmarks/world_detectors.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from torch import Tensor

from .scenes import SCENES

GRID = 16  # cells a side that brightness is averaged over
HOP_SECONDS, WINDOW_SECONDS = 0.005, 0.023
NUM_BANDS = 40


def picture_events(frames: Tensor, fps: Fraction | float, scene: str | None = None) -> tuple[float, ...]:
    """Seconds at which something happens in a picture: a part of it suddenly brightens.

    Every event of the world does that, by a flash, a splash, a puff of dust or a lamp.

    Args:
        frames: ``(F, H, W, 3)`` in 0..1.
        fps: Frames per second.
        scene: What is known to be shown; a continuous scene of the world has no events. Any other is no hint.
    """
    if len(frames) < 3 or _is_continuous(scene):
        return ()
    rise = brightening(frames)
    found = _peaks(rise - _local_median(rise, 3), floor=0.0025, share=0.25, apart=2)
    return tuple(index / float(fps) for index in found)


def _cells(pictures: np.ndarray) -> np.ndarray:
    """``(F, rows, columns, 3)`` means over about 16 × 16 cells."""
    _, height, width, _ = pictures.shape
    rows = np.arange(min(GRID, height)) * height // min(GRID, height)
    columns = np.arange(min(GRID, width)) * width // min(GRID, width)
    sums = np.add.reduceat(np.add.reduceat(pictures, rows, axis=1), columns, axis=2)
    areas = np.diff(np.append(rows, height))[:, None] * np.diff(np.append(columns, width))
    return sums / areas[None, :, :, None]


def brightening(frames: Tensor) -> np.ndarray:
    """How much each picture is brighter, in places, than the two before it, ``(F,)``; mean over the cells."""
    cells = _cells(frames.detach().cpu().numpy().astype(np.float64)).mean(axis=-1)
    rise = np.zeros(len(cells))
    for index in range(1, len(cells)):
        before = cells[max(index - 2, 0) : index].max(axis=0)
        rise[index] = np.maximum(cells[index] - before, 0).mean()
    return rise


def sound_events(waveform: Tensor, sample_rate: int, scene: str | None = None) -> tuple[float, ...]:
    """Seconds at which something begins to sound: peaks of the spectral flux (Dixon, "Onset Detection", 2006).

    Args:
        waveform: ``(C, samples)``.
        sample_rate: Hz.
        scene: As for :func:`picture_events`.
    """
    bands = _log_bands(waveform, sample_rate)
    if len(bands) < 4 or _is_continuous(scene):
        return ()
    flux = np.zeros(len(bands))
    flux[2:] = np.maximum(bands[2:] - bands[:-2], 0).mean(axis=1)
    flux[:2] = flux[2]
    excess = flux - _local_median(flux, round(0.1 / HOP_SECONDS))
    found = _peaks(excess, floor=0.08, share=0.3, apart=round(0.12 / HOP_SECONDS))
    return tuple(index * HOP_SECONDS for index in found)


def _log_bands(waveform: Tensor, sample_rate: int) -> np.ndarray:
    """``(time, bands)``: compressed magnitudes in bands from 40 Hz to 16 kHz, of both channels together."""
    samples = waveform.detach().cpu().numpy().astype(np.float64)
    hop, size = round(HOP_SECONDS * sample_rate), round(WINDOW_SECONDS * sample_rate)
    padded = np.pad(samples, ((0, 0), (size // 2, size // 2)))
    count = (padded.shape[1] - size) // hop + 1
    pieces = np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)[:, ::hop][:, :count]
    spectrum = np.abs(np.fft.rfft(pieces * np.hanning(size), axis=2)).mean(axis=0) / (size / 4)
    frequency = np.fft.rfftfreq(size, 1 / sample_rate)
    edges = np.geomspace(40, min(16_000, sample_rate / 2), NUM_BANDS + 1)
    starts = np.unique(np.searchsorted(frequency, edges))
    starts = starts[starts < len(frequency)]
    sums = np.add.reduceat(spectrum, starts, axis=1)[:, :-1]
    return np.log1p(sums * 300)


def picture_activity(frames: Tensor) -> np.ndarray:
    """How much of the picture changes from one frame to the next, ``(F,)``: mean absolute difference, smoothed."""
    pictures = frames.detach().cpu().numpy().astype(np.float64)
    change = np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3))
    return _smooth(np.concatenate([change[:1], change]))


def sound_activity(waveform: Tensor, num_frames: int) -> np.ndarray:
    """Loudness while each frame is shown, ``(F,)``: root mean square over both channels, smoothed."""
    power = (waveform.detach().cpu().numpy().astype(np.float64) ** 2).mean(axis=0)
    edges = np.arange(num_frames) * len(power) // num_frames
    counts = np.diff(np.append(edges, len(power)))
    return _smooth(np.sqrt(np.add.reduceat(power, edges) / counts))


def correlation(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """Pearson correlation of two activities; 0 where one is constant."""
    a, b = (np.asarray(values, np.float64) - np.mean(values) for values in (first, second))
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else 0.0


def count_matches(found: Sequence[float], truth: Sequence[float], tolerance_seconds: float) -> int:
    """Most pairs of one found and one true event that are no further apart than the tolerance."""
    waiting, matched = sorted(found), 0
    for event in sorted(truth):
        near = [time for time in waiting if abs(time - event) <= tolerance_seconds + 1e-9]
        if near:
            waiting.remove(near[0])  # the earliest that fits: on a line this is optimal
            matched += 1
    return matched


def event_f1(found: Sequence[float], truth: Sequence[float], tolerance_seconds: float) -> float:
    """F1 of found events; 1 when there are none and none are found."""
    total = len(found) + len(truth)
    return 2 * count_matches(found, truth, tolerance_seconds) / total if total else 1.0


def _is_continuous(scene: str | None) -> bool:
    return scene in SCENES and SCENES.get(scene).continuous


def _peaks(curve: np.ndarray, *, floor: float, share: float, apart: int) -> list[int]:
    """Local maxima above a floor and a share of the highest; of two that are close, the higher."""
    least = max(floor, share * float(curve.max(initial=0.0)))
    order = [index for index in np.argsort(-curve, kind="stable").tolist() if curve[index] >= least]
    chosen: list[int] = []
    for index in order:
        left, right = curve[max(index - 1, 0)], curve[min(index + 1, len(curve) - 1)]
        if curve[index] >= left and curve[index] >= right and all(abs(index - other) > apart for other in chosen):
            chosen.append(index)
    return sorted(chosen)


def _local_median(curve: np.ndarray, reach: int) -> np.ndarray:
    padded = np.pad(curve, reach, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=1)


def _smooth(curve: np.ndarray) -> np.ndarray:
    """Mean of five neighbours, the ends repeated."""
    return np.convolve(np.pad(curve, 2, mode="edge"), np.full(5, 0.2), mode="valid")
