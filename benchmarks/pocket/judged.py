"""What a folder of clips was judged to be, clip by clip, in a file, so that tables can be made of it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from clips import Wish, measure, write_manifest
from intervals import Counts, counts_of
from sounding_video.evaluation.result import Evaluation
from sounding_video.media.mux import write_clip

# Which events of a clip are judged, and against what.
SIDES = {"both": "", "sound": "sound_", "picture": "picture_"}


@dataclass(frozen=True)
class Judged:
    """By the clip's file name.

    Args:
        events: Pairs and events of both sides, by tolerance.
        scene_picture: 1 where the picture shows the scene.
        scene_sound: 1 where the sound is that of the scene.
        onset: Onset detection accuracy against the true sound; empty where there is none.
    """

    events: dict[str, Counts]
    scene_picture: dict[str, float]
    scene_sound: dict[str, float]
    onset: dict[str, float]

    @staticmethod
    def read(path: Path) -> Judged:
        """From a file that ``write`` made."""
        return Judged(**json.loads(path.read_text(encoding="utf-8")))

    def write(self, path: Path) -> Judged:
        """Whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")
        part.replace(path)
        return self


def judge(folder: Path, wanted: Sequence[Wish], makes: str) -> Judged:
    """Measure the clips of a folder that are wanted; others may lie there too.

    Args:
        folder: Clips with a manifest.
        wanted: What they were to be.
        makes: ``both``, ``sound`` or ``picture``.
    """
    if makes != "both":
        # The towers alone made both sides, but are judged as the other rows: against the true times.
        write_true_manifest(wanted, folder)
    result, names = measure(folder), {wish.name for wish in wanted}
    result = replace(result, clips=[clip for clip in result.clips if Path(clip.file).stem in names])
    return Judged(
        counts_of(result, SIDES[makes]),
        values_of(result, "scene_accuracy_picture", "correct"),
        values_of(result, "scene_accuracy_sound", "correct"),
        values_of(result, "onset_detection", "detection_accuracy") if makes == "sound" else {},
    )


def write_true_manifest(wanted: Sequence[Wish], folder: Path) -> None:
    """As ``clips.write_manifest``, with the exact times and the sounds of the world's own clips."""
    write_manifest(wanted, folder)
    path = folder / "manifest.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    sounds = folder / "true"
    sounds.mkdir(exist_ok=True)
    for row, wish in zip(rows, wanted, strict=True):
        row |= {"events": list(wish.truth.events), "true_sound": f"{sounds.name}/{wish.name}.wav"}
        if not (folder / row["true_sound"]).is_file():
            write_clip(replace(wish.truth.clip, video=None), folder / row["true_sound"])
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def values_of(result: Evaluation, metric: str, value: str) -> dict[str, float]:
    """One value of every clip that has it."""
    found = {clip.file: clip.measurements[metric].values.get(value) for clip in result.clips}
    return {file: float(number) for file, number in found.items() if number is not None}
