"""Evaluate a folder of clips: every clip is measured or reported as broken, none is skipped in silence."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .. import __version__
from ..core.errors import InputError
from ..core.progress import SILENT, Progress
from .metrics import METRICS
from .metrics.base import Metric
from .result import ClipResult, Evaluation
from .sample import Sample, Truth, read_manifest

SUFFIXES = (".mp4", ".webm", ".mkv")
SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus")
MANIFEST_NAME = "manifest.jsonl"
PACKAGES = ("torch", "numpy", "av", "opencv-python-headless")


def evaluate_folder(
    folder: str | Path,
    *,
    metrics: Sequence[str] | None = None,
    manifest: str | Path | None = None,
    pictures: str | Path | None = None,
    references: str | Path | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Measure every clip of a folder.

    Args:
        folder: Holds .mp4, .webm or .mkv files; sub-folders are not entered.
        metrics: Names from ``METRICS``; None for all of them.
        manifest: Ground truth, JSON lines; None for ``manifest.jsonl`` in the folder, if there is one. A file that
            only the manifest has counts as broken.
        pictures: Folder for a PNG per clip; None for none.
        references: Folder of the true clips or sounds (files that are called as the clips but for their ending).
        settings: Of metrics that have any, by their name.
        progress: Told of each clip under the stage "evaluate"; may stop the run.

    Raises:
        InputError: no such folder, no clips in it, an unknown metric or one named twice, a manifest that cannot be
            used, a scene that the classifiers do not know, or not one clip that could be measured.
        MissingPackageError: a metric, or the pictures, need a package that is not installed.
        MissingModelError: a scene classifier is not there.
        Cancelled: raised by ``progress``.
    """
    folder = Path(folder)
    names = METRICS.names() if metrics is None else list(metrics)
    if not names or len(set(names)) != len(names):
        raise InputError("each metric can be asked for once", got=names, expected="one or more different names")
    settings = settings or {}
    measures = {name: METRICS.get(name)(**settings.get(name, {})) for name in names}
    true_files = {} if references is None else _media_in(Path(references))
    files = _clips_in(folder)
    where = Path(manifest) if manifest is not None else folder / MANIFEST_NAME
    truths = read_manifest(where) if manifest is not None or where.is_file() else {}
    for metric in measures.values():
        metric.check()
    if pictures is not None:
        from .report import check_pictures

        check_pictures()
    files = sorted(set(files) | set(truths))
    results = []
    progress.step("evaluate", 0, len(files))
    for index, name in enumerate(files):
        reference = true_files.get(Path(name).stem)
        results.append(_measure(folder / name, truths.get(name), measures, pictures, reference))
        progress.step("evaluate", index + 1, len(files))
    told = {"metrics": names, "manifest": str(where) if truths else None}
    told |= {} if references is None else {"references": str(references)}
    told |= {name: dict(values) for name, values in settings.items() if name in measures and values}
    return _sum_up(folder, results, measures, told)


def _clips_in(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise InputError("there is no such folder", got=folder, expected="a folder of clips")
    files = [path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()]
    if not files:
        raise InputError("there are no clips in this folder", got=folder, expected="files in " + ", ".join(SUFFIXES))
    return files


def _media_in(folder: Path) -> dict[str, Path]:
    """Media files by their name without its ending."""
    if not folder.is_dir():
        raise InputError("there is no such folder of true sounds", got=folder, expected="a folder of sounds or clips")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (*SOUND_SUFFIXES, *SUFFIXES))
    if not files:
        raise InputError("there are no true sounds in this folder", got=folder, expected="media files")
    return {path.stem: path for path in reversed(files)}


def _measure(
    path: Path,
    truth: Truth | None,
    metrics: Mapping[str, Metric],
    pictures: str | Path | None,
    reference: Path | None,
) -> ClipResult:
    """Measure one clip. What cannot be read becomes a result with its message."""
    name = path.name
    try:
        sample = Sample.read(path, truth, reference=reference)
    except InputError as error:
        return ClipResult(name, truth is not None, error=str(error))
    measurements = {key: metric.measure(sample) for key, metric in metrics.items()}
    picture = None
    if pictures is not None:
        from .report import clip_picture

        picture = Path(pictures) / f"{name}.png"
        clip_picture(sample, picture)
    return ClipResult(name, truth is not None, measurements, picture=str(picture) if picture else None)


def _sum_up(
    folder: Path, results: Sequence[ClipResult], metrics: Mapping[str, Metric], settings: Mapping[str, Any]
) -> Evaluation:
    measured = [result for result in results if result.error is None]
    if not measured:
        raise InputError(
            "not one of the clips can be read", got=f"{results[0].error} ({len(results)} clips)", expected="media files"
        )
    summary = {
        name: metric.summarise([item.measurements[name] for item in measured]) for name, metric in metrics.items()
    }
    return Evaluation(folder, tuple(results), summary, settings, versions())


def versions() -> dict[str, str]:
    """Versions of what computes; packages that are not installed are left out."""
    found = {"sounding-video": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
