"""How well the world's detectors find the world's events, scene by scene; and how fast the world is made.

    python benchmarks/world_detectors.py                     # 40 clips a scene at 64×64 and 128×128, 33 frames
    python benchmarks/world_detectors.py --write             # also into benchmarks/world_detectors.md

Clips are of the validation split. "disturbed" is the picture after a 5×5 box blur and noise of σ = 0.03, the sound
after white noise of σ = 0.003. Continuous scenes have no events; there the table shows how detected and true activity
correlate.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from pathlib import Path

import torch
from sounding_video.core.clock import Timeline
from sounding_video.world.detectors import (
    correlation,
    count_matches,
    picture_activity,
    picture_events,
    sound_activity,
    sound_events,
)
from sounding_video.world.scenes import SCENES
from sounding_video.world.synth import WorldClip, activity, make_clip
from torch import Tensor

Pairs = list[tuple[tuple[float, ...], tuple[float, ...]]]


def disturb(made: WorldClip, seed: int) -> tuple[Tensor, Tensor]:
    """Frames and waveform, blurred and noisy."""
    generator = torch.Generator().manual_seed(seed)
    frames = made.clip.video.frames.permute(0, 3, 1, 2)
    frames = torch.nn.functional.avg_pool2d(frames, 5, 1, 2, count_include_pad=False).permute(0, 2, 3, 1)
    frames = (frames + 0.03 * torch.randn(frames.shape, generator=generator)).clamp(0, 1)
    waveform = made.clip.audio.waveform
    return frames, waveform + 0.003 * torch.randn(waveform.shape, generator=generator)


def f1(pairs: Pairs, tolerance_seconds: float) -> float:
    """F1 pooled over clips."""
    matched = sum(count_matches(found, truth, tolerance_seconds) for found, truth in pairs)
    return 2 * matched / sum(len(found) + len(truth) for found, truth in pairs)


def event_row(scene: str, clips: list[WorldClip], fps: float) -> str:
    """F1 within one and two frames: picture, sound, and both disturbed."""
    columns: list[Pairs] = [[], [], [], []]
    for seed, made in enumerate(clips):
        frames, waveform = made.clip.video.frames, made.clip.audio.waveform
        other_frames, other_waveform = disturb(made, seed)
        rate = made.clip.audio.sample_rate
        found = [
            picture_events(frames, fps),
            sound_events(waveform, rate),
            picture_events(other_frames, fps),
            sound_events(other_waveform, rate),
        ]
        for column, times in zip(columns, found, strict=True):
            column.append((times, made.events))
    num_events = sum(len(made.events) for made in clips)
    cells = [f"{f1(column, 1 / fps):.3f} / {f1(column, 2 / fps):.3f}" for column in columns]
    return f"| {scene} | {num_events} | " + " | ".join(cells) + " |"


def activity_row(scene: str, clips: list[WorldClip]) -> str:
    """Mean and smallest correlation of activity: picture, sound, picture with sound."""
    rows = []
    for made in clips:
        level = activity(made.parameters, made.clip.video.frames.shape[0])
        seen = picture_activity(made.clip.video.frames)
        heard = sound_activity(made.clip.audio.waveform, len(level))
        rows.append((correlation(level, seen), correlation(level, heard), correlation(seen, heard)))
    columns = zip(*rows, strict=True)
    return f"| {scene} | " + " | ".join(f"{statistics.mean(c):.3f} (min {min(c):.3f})" for c in columns) + " |"


def tables(size: int, num_clips: int) -> list[str]:
    """The lines for one picture size."""
    timeline = Timeline(num_frames=33, fps=15, width=size, height=size)
    events, continuous, times = [], [], []
    for scene in SCENES.names():
        clips = []
        for seed in range(num_clips):
            started = time.process_time()
            clips.append(make_clip(scene, seed, timeline=timeline, split="validation"))
            times.append(time.process_time() - started)
        if SCENES.get(scene).continuous:
            continuous.append(activity_row(scene, clips))
        else:
            events.append(event_row(scene, clips, float(timeline.fps)))
    return [
        f"## {size}×{size}, 33 frames at 15 fps, {num_clips} clips a scene",
        "",
        "F1 within ±1 frame (67 ms) / ±2 frames (133 ms):",
        "",
        "| scene | events | picture | sound | picture disturbed | sound disturbed |",
        "|---|---|---|---|---|---|",
        *events,
        "",
        "Correlation of activity per frame:",
        "",
        "| scene | picture with truth | sound with truth | picture with sound |",
        "|---|---|---|---|",
        *continuous,
        "",
        f"Making a clip takes {statistics.mean(times):.3f} s of CPU time on average, {max(times):.3f} s at most.",
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=40, help="clips a scene (default: 40)")
    parser.add_argument("--write", action="store_true", help="write world_detectors.md beside this script")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# The world's detectors on the world's clips",
        "",
        f"`python benchmarks/world_detectors.py --write` on {platform.machine()}, {os.cpu_count()} cores, one thread, "
        f"Python {platform.python_version()}, torch {torch.__version__.split('+')[0]}. Clips of the validation split; "
        "the detectors read pixels and samples only.",
        "",
        *tables(64, args.clips),
        *tables(128, args.clips),
    ]
    text = "\n".join(lines)
    print(text)
    if args.write:
        Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
