"""What an evaluation gives back: a value for each clip and one for the folder, and their files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..media.files import new_file
from .metrics.base import Measurement, Value


@dataclass(frozen=True)
class ClipResult:
    """One clip of a folder.

    Args:
        file: Name in the folder.
        in_manifest: Whether the manifest has a row for it.
        measurements: By metric; empty for a broken clip.
        error: Why the clip could not be measured, or None.
        picture: File of its picture, or None.
    """

    file: str
    in_manifest: bool
    measurements: Mapping[str, Measurement] = field(default_factory=dict)
    error: str | None = None
    picture: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values, one row of ``clips.jsonl``."""
        row: dict[str, Any] = {"file": self.file, "in_manifest": self.in_manifest}
        if self.error is not None:
            return row | {"error": self.error}
        for name, item in self.measurements.items():
            row[name] = dict(item.values) | {"details": dict(item.details)}
            if item.reasons:
                row[name]["reasons"] = dict(item.reasons)
        return row | ({"picture": self.picture} if self.picture else {})


@dataclass(frozen=True)
class Evaluation:
    """A folder's result.

    Args:
        folder: Where the clips are.
        clips: One result a clip, sorted by name.
        summary: By metric, as its ``summarise`` gives it.
        settings: What was asked for.
        versions: Of this package, Python and the packages that compute.
    """

    folder: Path
    clips: tuple[ClipResult, ...]
    summary: Mapping[str, Mapping[str, Value]]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]

    @property
    def broken(self) -> list[ClipResult]:
        """Clips that could not be measured."""
        return [clip for clip in self.clips if clip.error is not None]

    def as_json(self) -> dict[str, Any]:
        """The aggregate as plain values: counts, summary, what was broken, settings, versions."""
        return {
            "folder": str(self.folder),
            "num_clips": len(self.clips),
            "num_broken": len(self.broken),
            "num_in_manifest": sum(clip.in_manifest for clip in self.clips),
            "metrics": {name: dict(values) for name, values in self.summary.items()},
            "broken": {clip.file: clip.error for clip in self.broken},
            "settings": dict(self.settings),
            "versions": dict(self.versions),
        }

    def write(self, folder: str | Path) -> tuple[Path, Path]:
        """Write ``clips.jsonl``, one row a clip, and ``summary.json``; give their paths.

        Raises:
            OutputError: the folder cannot be written.
        """
        rows = "".join(json.dumps(clip.as_json(), ensure_ascii=False) + "\n" for clip in self.clips)
        whole = json.dumps(self.as_json(), ensure_ascii=False, indent=2) + "\n"
        paths = Path(folder) / "clips.jsonl", Path(folder) / "summary.json"
        # both are written before either is there, so that a full disk leaves no half of the pair
        with ExitStack() as both:
            for path, text in zip(paths, (rows, whole), strict=True):
                both.enter_context(new_file(path)).write_text(text, encoding="utf-8")
        return paths
