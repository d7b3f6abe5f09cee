"""Do the metrics see sync? On the world's own clips, on the same with the sound late, and with sounds exchanged.

``python benchmarks/metrics_on_truth.py`` prints the table; with ``--write`` it goes into ``metrics_on_truth.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from sounding_video.core.clock import Timeline, samples_for
from sounding_video.core.types import AudioClip, AVClip
from sounding_video.evaluation.runner import Evaluation, evaluate_folder
from sounding_video.media.mux import write_clip
from sounding_video.world.scenes import SCENES
from sounding_video.world.synth import WorldClip, make_clip

SHIFT_SECONDS = 0.3
FILE = Path(__file__).with_suffix(".md")
NOTE = (
    "A kernel distance leaves out each clip's pair with its own true clip, so that 0 is expected of the world's own. "
    "Where sounds are exchanged both sets are the same, equal sounds stand in other pairs, and it says less than "
    "nothing: it is for clips that were made for their true ones."
)
WANTED = {
    "av_align": ("av_align", "num_without_peaks"),
    "event_f1": (
        *(
            f"{kind}_{within}"
            for within in ("1_frame", "2_frames")
            for kind in ("f1", "precision", "recall", "mean_f1")
        ),
        *(f"{side}_f1_{within}" for side in ("picture", "sound") for within in ("1_frame", "2_frames")),
        "num_measured",
    ),
    "onset_accuracy": ("same_number", "picture_number", "sound_number"),
    "onset_detection": (
        *(
            f"{level}{name}"
            for name in ("detection_accuracy", "average_precision", "count_accuracy")
            for level in ("", "chance_")
        ),
        "num_measured",
    ),
    "psnr": ("picture", "sound"),
    "kernel_distance_picture": ("kernel_distance", "distance"),
    "kernel_distance_sound": ("kernel_distance", "distance"),
    "scene_accuracy_picture": ("correct", "probability"),
    "scene_accuracy_sound": ("correct", "probability"),
}


def late(audio: AudioClip) -> AudioClip:
    """The sound 0.3 s later, silence before it, its end cut off."""
    offset = samples_for(SHIFT_SECONDS, audio.sample_rate)
    delayed = torch.zeros_like(audio.waveform)
    delayed[:, offset:] = audio.waveform[:, :-offset]
    return AudioClip(delayed, audio.sample_rate)


def variants(clips: Sequence[WorldClip]) -> dict[str, list[AVClip]]:
    """The clips as they are, with the sound late, and each with the sound of the next scene's clip."""
    sounds = [made.clip.audio for made in clips]
    pictures = [made.clip.video for made in clips]
    return {
        "world": [made.clip for made in clips],
        f"sound {SHIFT_SECONDS} s late": [AVClip(p, late(s)) for p, s in zip(pictures, sounds, strict=True)],
        "sounds exchanged": [AVClip(p, s) for p, s in zip(pictures, sounds[1:] + sounds[:1], strict=True)],
    }


def write_true(truth: Sequence[WorldClip], folder: Path) -> None:
    """The clips without loss, for the metrics that compare with true ones."""
    for index, made in enumerate(truth):
        write_clip(made.clip, folder / f"{index:03d}.mkv", codec="ffv1")


def evaluate(clips: Sequence[AVClip], truth: Sequence[WorldClip], folder: Path, true: Path) -> Evaluation:
    """Write mp4s and a manifest, and measure them against the true clips."""
    rows = []
    for index, (clip, made) in enumerate(zip(clips, truth, strict=True)):
        write_clip(clip, folder / f"{index:03d}.mp4")
        rows.append({"file": f"{index:03d}.mp4", "scene": made.scene, "events": made.events})
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return evaluate_folder(folder, references=true)


def table(results: Mapping[str, Evaluation]) -> str:
    """Markdown: one line a value, one column a variant."""
    lines = ["| metric | value | " + " | ".join(results) + " |", "|---|---|" + "---:|" * len(results)]
    for metric, names in WANTED.items():
        for name in names:
            cells = [result.summary[metric][name] for result in results.values()]
            shown = ["-" if cell is None else str(cell) if isinstance(cell, int) else f"{cell:.3f}" for cell in cells]
            lines.append(f"| {metric} | {name} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def by_scene(result: Evaluation, truth: Sequence[WorldClip]) -> str:
    """Markdown: mean over each scene's clips, for the world's own clips."""
    columns = {"av_align": "av_align", "event_f1": "f1_1_frame", "onset_accuracy": "same_number"}
    lines = ["| scene | AV-Align | event F1 ±1 | event F1 ±2 | same number |", "|---|---:|---:|---:|---:|"]
    for scene in SCENES:
        cells = []
        for metric, name in (*columns.items(), ("event_f1", "f1_2_frames")):
            found = [
                clip.measurements[metric].values[name]
                for clip, made in zip(result.clips, truth, strict=True)
                if made.scene == scene
            ]
            numbers = [value for value in found if value is not None]
            cells.append(f"{sum(numbers) / len(numbers):.3f}" if numbers else "-")
        align, one, same, two = cells
        lines.append(f"| {scene} | {align} | {one} | {two} | {same} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=40, help="clips of the test split, scenes in turn (default: 40)")
    parser.add_argument("--size", type=int, default=128, help="pixels a side (default: 128)")
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name}")
    args = parser.parse_args()
    started = time.monotonic()
    timeline, scenes = Timeline(33, 15, args.size, args.size), SCENES.names()
    clips = [make_clip(scenes[seed % len(scenes)], seed, timeline=timeline, split="test") for seed in range(args.clips)]
    results = {}
    with tempfile.TemporaryDirectory() as true:
        write_true(clips, Path(true))
        for name, made in variants(clips).items():
            with tempfile.TemporaryDirectory() as folder:
                results[name] = evaluate(made, clips, Path(folder), Path(true))
    world = results["world"]
    used = ", ".join(f"{name} {version}" for name, version in world.versions.items())
    text = (
        f"{args.clips} ground-truth clips of the world's test split ({len(scenes)} scenes in turn, seeds from 0), "
        f"{args.size}×{args.size}, 33 frames at 15 fps, written as mp4 and read back; the true clips are the same "
        "without loss. Each clip also with its sound "
        f"{SHIFT_SECONDS} s later, and with the sound of the next scene's clip.\n\n{table(results)}\n\n{NOTE}\n\n"
        f"The world's own clips by scene, mean over clips:\n\n{by_scene(world, clips)}\n\n"
        f"{time.monotonic() - started:.0f} s on {os.cpu_count()} CPU cores, no GPU. {used}."
    )
    print(text)
    if args.write:
        command = f"python benchmarks/{Path(__file__).name} --write"
        FILE.write_text(f"# Do the metrics see sync?\n\n`{command}`\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
