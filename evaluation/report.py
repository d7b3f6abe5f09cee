"""What people look at: a picture per clip on one time axis, and a table of the summary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.clock import frame_times
from ..core.optional import require
from ..media.files import new_file
from ..media.video import to_uint8
from .matching import best_pairs, greedy_pairs
from .result import Evaluation
from .sample import Sample
from .signals import LIBRARIES, MIN_FLOW, ONSET_HOP

PURPOSE = "drawing pictures of the evaluation"
STRIP_RATIO = 7.1  # width over height of the panel of frames, so that thumbnails keep their shape
FLOW, SOUND, ONSET, TRUTH, MATCH = "#b3541e", "#1f62a6", "#6a3d9a", "#222222", "#2a8c4a"


def check_pictures() -> None:
    """Fail before the first clip where a package is missing.

    Raises:
        MissingPackageError: matplotlib or OpenCV is not installed; the message carries the pip line.
    """
    for name in ("matplotlib", *LIBRARIES):
        require(name, PURPOSE)


def clip_picture(sample: Sample, path: str | Path) -> None:
    """Draw frames, optical flow, waveform, onset envelope and events above one axis in seconds, and save a PNG.

    Dots mark flow peaks and onsets, green lines join the pairs of AV-Align (less than a frame apart) and, in the lowest
    panel, events seen and heard at most two frames apart. An absent modality leaves its panels out.

    Args:
        sample: The clip and what is known about it.
        path: Name of the PNG; missing folders are made.

    Raises:
        MissingPackageError: a package is not installed.
        OutputError: the place cannot be written.
    """
    check_pictures()
    panels = [("frames", 1.1), ("flow", 1.0)] if sample.clip.video else []
    panels += [("sound", 1.2), ("onsets", 1.0)] if sample.clip.audio else []
    panels.append(("events", 0.9))
    figure = require("matplotlib.figure", PURPOSE).Figure(figsize=(12, 1.6 * len(panels) + 0.8), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=[h for _, h in panels])[:, 0]
    draw = {"frames": _draw_frames, "flow": _draw_flow, "sound": _draw_sound, "onsets": _draw_onsets}
    draw["events"] = _draw_events
    for (name, _), axis in zip(panels, axes, strict=True):
        draw[name](axis, sample)
        axis.grid(axis="x", alpha=0.3)
    parts = [part for part in (sample.clip.video, sample.clip.audio) if part is not None]
    axes[-1].set_xlim(0, max(float(part.seconds) for part in parts))
    axes[-1].set_xlabel("seconds")
    figure.suptitle(sample.name + (f"  ({sample.truth.scene})" if sample.truth and sample.truth.scene else ""))
    with new_file(path) as part:
        figure.savefig(part, format="png", dpi=90)


def _draw_frames(axis: Any, sample: Sample) -> None:
    """Thumbnails; each shows the frame at its left edge's time."""
    video = sample.clip.video
    num_frames = len(video.frames)
    height, frame_width = video.frames.shape[1:3]
    count = max(1, min(num_frames, round(STRIP_RATIO * height / frame_width)))
    width = float(video.seconds) / count
    for index in range(count):
        picture = to_uint8(video.frames[index * num_frames // count]).numpy()
        axis.imshow(picture, extent=(index * width, (index + 1) * width, 0, 1), aspect="auto")
    axis.set_ylim(0, 1)
    axis.set_yticks([])
    axis.set_ylabel("picture")


def _draw_flow(axis: Any, sample: Sample) -> None:
    times = frame_times(len(sample.flow), sample.fps)  # none for a single frame
    axis.plot(times, sample.flow, color=FLOW)
    axis.axhline(MIN_FLOW, color=FLOW, alpha=0.3, linestyle=":")
    heights = dict(zip(times, sample.flow, strict=True))
    axis.plot(sample.flow_peaks, [heights[time] for time in sample.flow_peaks], "o", color=FLOW)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("flow, pixels")


def _draw_sound(axis: Any, sample: Sample) -> None:
    """Lowest and highest sample of each of up to 1200 stretches."""
    audio = sample.clip.audio
    samples = audio.waveform.detach().to("cpu", torch.float32).numpy()
    edges = np.linspace(0, samples.shape[1], min(1200, samples.shape[1]) + 1).astype(int)[:-1]
    low, high = np.minimum.reduceat(samples.min(0), edges), np.maximum.reduceat(samples.max(0), edges)
    axis.fill_between(edges / audio.sample_rate, low, high, color=SOUND, step="post", linewidth=0.5)
    axis.set_ylim(-max(1.0, float(np.abs(samples).max())), max(1.0, float(np.abs(samples).max())))
    axis.set_ylabel("sound")


def _draw_onsets(axis: Any, sample: Sample) -> None:
    envelope = sample.onset_strength
    times = np.arange(len(envelope)) * (ONSET_HOP / sample.clip.audio.sample_rate)
    axis.plot(times, envelope, color=ONSET)
    axis.plot(sample.onsets, np.interp(sample.onsets, times, envelope), "o", color=ONSET)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("onset strength")


def _draw_events(axis: Any, sample: Sample) -> None:
    """One lane each for flow peaks, onsets, events seen, events heard and the manifest's events."""
    truth = None if sample.truth is None else sample.truth.events_seconds
    lanes = {
        "flow peaks": (sample.flow_peaks, FLOW),
        "onsets": (sample.onsets, ONSET),
        "seen": (sample.picture_events, FLOW),
        "heard": (sample.sound_events, SOUND),
        "true": (truth, TRUTH),
    }
    shown = {name: lane for name, lane in lanes.items() if lane[0] is not None}
    height = {name: len(shown) - 1 - index for index, name in enumerate(shown)}
    for name, (times, colour) in shown.items():
        axis.plot(times, [height[name]] * len(times), "|", color=colour, markersize=11, markeredgewidth=2)
    if not sample.missing:
        frame = float(1 / sample.fps)
        onsets, peaks, seen, heard = sample.onsets, sample.flow_peaks, sample.picture_events, sample.sound_events
        joined = [(onsets[i], "onsets", peaks[j], "flow peaks") for i, j in greedy_pairs(onsets, peaks, frame)]
        joined += [(seen[i], "seen", heard[j], "heard") for i, j in best_pairs(seen, heard, 2 * frame)]
        for first, lane, second, other in joined:
            axis.plot([first, second], [height[lane], height[other]], color=MATCH, linewidth=1.5)
    axis.set_yticks(list(height.values()), list(height))
    axis.set_ylim(-0.6, len(shown) - 0.4)


def summary_table(result: Evaluation) -> str:
    """One line a value: metric, name, number; then the counts."""
    rows = [
        (metric if index == 0 else "", name, _number(value))
        for metric, values in result.summary.items()
        for index, (name, value) in enumerate(values.items())
    ]
    text = aligned([("metric", "value", ""), *rows])
    with_truth = sum(clip.in_manifest for clip in result.clips)
    return f"{text}\n{len(result.clips)} clips, {len(result.broken)} broken, {with_truth} in the manifest"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text as wide as their widest cell; the last is flush right. Not worth a package for tables."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        lines.append("  ".join([*cells, row[-1].rjust(widths[-1])]).rstrip())
    return "\n".join(lines)


def _number(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"
