"""The files that ``generate`` writes: how they are encoded, what several of them are called, what is told of each."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.options import Bounds
from ..core.progress import STAGE_TITLES, Progress
from ..media.writers import DEFAULT, writer_names
from .console import Console
from .libraries import UNTRAINED
from .options import NUMBER_OF_CLIPS, Checked

if TYPE_CHECKING:
    from ..media.files import FreeName
    from ..media.mux import MuxReport
    from ..pipeline import FamilyModel, SamplingOptions

DEFAULT_CRF = -1
QUALITY = Bounds("quality", DEFAULT_CRF, 63)


def add_file_options(add: Callable[..., Any]) -> None:
    """How many files, and how they are encoded."""
    add(
        "-n",
        "--number",
        type=Checked(NUMBER_OF_CLIPS.read),
        default=1,
        metavar="N",
        help="make N clips, with seeds counted up from --seed and numbers behind the name: clip_1.mp4, clip_2.mp4, … "
        "from the first number that is free",
    )
    add("--codec", default="auto", metavar="NAME", help="auto (default): the format's own; h264, hevc, av1, vp9, ffv1, "
        "for .wav pcm_s24, pcm_s16, pcm_f32")  # fmt: skip
    add(
        "--crf",
        type=Checked(QUALITY.read),
        default=DEFAULT_CRF,
        metavar="N",
        help="quality of the picture, less is better and larger (default: 18 for h264, 20 for hevc, 24 for others)",
    )
    add("--writer", default=DEFAULT, metavar="NAME", help=f"{' or '.join(writer_names())} (default: {DEFAULT})")
    add("--no-metadata", action="store_true", help="write neither workflow nor settings into the file")


@dataclass(frozen=True)
class Wanted:
    """One clip to make.

    Args:
        path: Its file.
        options: How it is sampled; the seed is its own.
        place: Its number and how many there are; None for a clip that was asked for alone.
    """

    path: Path
    options: SamplingOptions
    place: tuple[int, int] | None = None

    @property
    def name(self) -> Path | FreeName:
        """Where to write it: under a higher number where another run takes its name in the meantime."""
        from ..media.files import FreeName

        if self.place is None:
            return self.path
        whole = self.path.with_stem(self.path.stem.rpartition("_")[0])
        following = lambda: whole.with_stem(f"{whole.stem}_{_highest(whole) + 1}")  # noqa: E731
        return FreeName(self.path, following)


def wanted_clips(path: Path, number: int, options: SamplingOptions) -> list[Wanted]:
    """The clips to make: the one that is named, or several with numbers that no file of that name has yet.

    Raises:
        InputError: no clip is wanted, or the seeds leave their range.
        OutputError: the folder cannot be looked into.
    """
    from ..sampling.noise import seeded_generator

    NUMBER_OF_CLIPS.check(number)
    if number == 1:
        return [Wanted(path, options)]
    seeded_generator(options.seed + number - 1)
    first = _highest(path) + 1
    return [
        Wanted(
            path.with_stem(f"{path.stem}_{first + index}"),
            replace(options, seed=options.seed + index),
            (index + 1, number),
        )
        for index in range(number)
    ]


def _highest(path: Path) -> int:
    """The highest number that a file beside ``path`` bears behind its name; 0 without one."""
    from ..media.files import output_error

    numbered = re.compile(re.escape(path.stem) + r"_(\d{1,9})" + re.escape(path.suffix), re.IGNORECASE)
    try:
        found = [numbered.fullmatch(file.name) for file in path.parent.iterdir()]
    except FileNotFoundError:
        return 0  # the folder will be made
    except OSError as error:
        raise output_error(path, error) from error
    return max((int(match[1]) for match in found if match), default=0)


def rehearse_writing(path: Path, *, writer: str, codec: str, crf: int) -> None:
    """Write a one-frame clip of the same kind beside the target and remove it, so that no sampled clip is ever lost.

    Raises:
        OutputError, InputError, MissingPackageError: what writing the real clip would have raised in the end.
    """
    import torch

    from ..core.new_files import remove, remove_abandoned, scratch_path
    from ..core.types import AudioClip, AVClip, VideoClip
    from ..media.files import output_error, require_no_folder
    from ..media.mux import write_clip

    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    clip = AVClip(VideoClip(torch.zeros(1, 64, 64, 3), 1), AudioClip(torch.zeros(2, 44_100), 44_100))
    try:
        require_no_folder(path)
        remove_abandoned(folder)
        scratch = scratch_path(folder / "x")
        try:
            write_clip(clip, scratch / path.name, writer=writer, codec=codec, crf=crf)
        finally:
            remove(scratch)
    except OSError as error:
        raise output_error(path, error) from error


class Told:
    """What is told of the clips: a line each when it is done, and with ``--json`` one object at the end.

    Args:
        console: Where to.
        model: What made them.
        wanted: All that were asked for.
        started: When the command began, by the monotonic clock.
        captions: What was said of the captions already, for ``--json``.
    """

    def __init__(
        self,
        console: Console,
        model: FamilyModel,
        wanted: Sequence[Wanted],
        *,
        started: float,
        captions: Sequence[str] = (),
    ) -> None:
        self._captions = list(captions)
        self._console, self._model, self._wanted = console, model, wanted
        self._started = self._begun = started
        self._clips: list[dict[str, Any]] = []
        self._plan: set[str] = set()

    def progress(self, wanted: Wanted) -> Progress:
        """The console's progress, with the clip's number before each stage where there are several."""
        progress = self._console.progress
        if wanted.place is None:
            return progress
        number, total = wanted.place

        def report(stage: str, done: int, units: int, preview: Callable[[], Any] | None = None) -> None:
            progress.report(f"clip {number} of {total}, {STAGE_TITLES.get(stage, stage)}", done, units, preview)

        return replace(progress, report=report)

    def gap(self, reason: str) -> None:
        """Why the files hold no workflow; said once."""
        if not self._clips:
            self._console.warn(f"note: the file will hold its settings but no workflow: {reason}")

    def clip(self, wanted: Wanted, report: MuxReport, *, size: tuple[int, int] | None, plan: Sequence[str]) -> None:
        """One is written; what was changed while writing is told at once.

        Args:
            wanted: Which.
            report: What is in its file.
            size: Of its picture, width and height; None without one.
            plan: What was decided about memory, and what else the stages noted; what was told already is not again.
        """
        now = time.monotonic()
        seconds, self._begun = now - self._begun, now
        self._console.close_progress()
        for text in plan:
            decided = re.sub(r"\d+\.\d+ GB", "", text)  # the same for every clip but for what is free just then
            if decided not in self._plan and text not in self._console.told:
                self._console.note(f"plan: {text}")
            self._plan.add(decided)
        for text in report.notes:
            self._console.note(f"note: {text}")
        size = size if report.num_frames is not None else None
        width, height = size or (None, None)
        values = {
            **report.as_json(),
            "width": width,
            "height": height,
            "seed": wanted.options.seed,
            "model": self._model.description,
            "bridges": self._model.bridges,
            "trained": self._model.trained,
            "wall_seconds": round(seconds, 3),
            "plan": list(plan),
            "caption_notes": self._captions,
        }
        self._clips.append(values)
        if not self._console.as_json:
            self._console.report(self._line(report, wanted, size, seconds), values)

    def _line(self, report: MuxReport, wanted: Wanted, size: tuple[int, int] | None, seconds: float) -> str:
        picture = "" if size is None else f"{report.num_frames} frames {size[0]}x{size[1]} at {report.fps} fps, "
        sound = f"{report.num_samples} samples at {report.sample_rate} Hz"
        seed = "" if wanted.place is None else f"; seed {wanted.options.seed}"
        return f"{report.path}: {float(report.seconds):.3f} s, {picture}{sound}{seed}; made in {seconds:.1f} s"

    def end(self) -> None:
        """All are written."""
        if not self._model.trained:
            self._console.warn(UNTRAINED)
        whole = {"clips": self._clips, "wall_seconds": round(time.monotonic() - self._started, 3)}
        alone = self._wanted[0].place is None
        self._console.report(f"model: {self._model.description}", self._clips[0] if alone else whole)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Around the making: what ends it early leaves the finished clips, and they are named."""
        try:
            yield
        except BaseException:
            if self._clips:
                self._console.close_progress()
                names = ", ".join(values["path"] for values in self._clips)
                self._console.warn(f"{len(self._clips)} of {len(self._wanted)} clips are finished: {names}")
            raise
