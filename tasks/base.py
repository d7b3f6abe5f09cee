"""What the tasks share: texts and settings of a run, and the size that a user's picture asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from torch import Tensor

from ..core.clock import Timeline
from ..core.pair import OTHER, Pair
from ..core.progress import SILENT, Progress
from ..core.types import Captions, Conditioning
from ..core.windows import Window, middle_of_new, windows
from ..long_clips import captions_at
from ..media.fit_report import FitReport
from ..media.user_file import UserFile
from ..models.conditioning import REMEMBERED, ConditioningCache
from ..pipeline import DEFAULT_NEGATIVES, FamilyModel, SamplingOptions, encode_captions, sample_latents
from ..sampling.given import Given
from .reading import Reading

OVERLAP_SECONDS = 1  # of neighbouring windows


@dataclass(frozen=True)
class Run:
    """How a task is run.

    Args:
        model: Of any family.
        captions: What is seen and heard; that of a given side, or of both, may be empty.
        negatives: What is not.
        options: Steps, scales, seed, and how what is given is shown.
        tiling: Of the video codec.
        progress: Stages encode, sample, decode.
        cache: Where encoded captions are kept.
        reading: How a tower is told of the other side by an alignment, instead of by bridges; None without one.
    """

    model: FamilyModel
    captions: Captions
    negatives: Captions = DEFAULT_NEGATIVES
    options: SamplingOptions = field(default_factory=SamplingOptions)
    tiling: str = "auto"
    progress: Progress = SILENT
    cache: ConditioningCache = REMEMBERED
    reading: Reading | None = None

    def conditioning(self, timeline: Timeline) -> Conditioning:
        """Both captions, encoded; empty ones are no error here."""
        return encode_captions(
            *self.model.texts,
            self.captions,
            negatives=self.negatives,
            seconds=float(timeline.seconds),
            placement=self.model.placement,
            progress=self.progress,
            cache=self.cache,
            may_be_empty=True,
        )

    def seeded(self, number: int) -> Run:
        """The same run with the seed counted up, for the next window."""
        return replace(self, options=replace(self.options, seed=(self.options.seed + number) % 2**64))

    def codecs(self) -> dict[str, object]:
        """Both codecs and where they run, as the encoding and decoding stages take them."""
        return {
            "video_codec": self.model.codecs.video,
            "audio_codec": self.model.codecs.audio,
            "placement": self.model.placement,
            "tiling": self.tiling,
            "progress": self.progress,
        }


def made_alone(
    run: Run,
    side: str,
    timeline: Timeline,
    conditioning: Conditioning,
    *,
    told_of: Tensor | None = None,
    known: Given | None = None,
) -> Tensor:
    """Latents of one side, by its tower alone.

    Args:
        run: Model and options; ``run.reading`` where it is told of the other side.
        side: ``video`` or ``audio``.
        timeline: The clip's extent.
        conditioning: Both captions.
        told_of: The other side's latents; None for the text alone, and then no LoRA of the alignment is on.
        known: What is known of this side already.
    """
    if told_of is None:
        model = run.model.alone(side)
    else:
        conditioning = run.reading.told(conditioning, OTHER[side], told_of, timeline)
        model = run.reading.model(run.model, side)
    shapes = model.shapes(timeline)
    latents = sample_latents(
        model,
        conditioning,
        video_shape=shapes.video,
        audio_shape=shapes.audio,
        options=run.options,
        given=Pair(**{side: known}),
        progress=run.progress,
        times=timeline.times,
    )
    return getattr(latents, side)


def own_timeline(model: FamilyModel, file: UserFile | None = None) -> Timeline:
    """The extent that a model was made for, turned upright where the user's picture is.

    Args:
        model: Whose.
        file: What is fitted to it.
    """
    own = model.own
    size = own.width, own.height
    turns = model.geometry.in_time  # a model of one extent makes no other
    if turns and file is not None and file.size is not None and (file.size[0] < file.size[1]) != (size[0] < size[1]):
        size = size[::-1] if file.size[0] != file.size[1] else size
    return Timeline(own.num_frames, own.fps, *size, model.geometry)


def planned_windows(timeline: Timeline, seconds: Fraction, overlap: float) -> tuple[tuple[Window, ...], list[str]]:
    """Windows for something long, and what is said of them where there are several.

    Args:
        timeline: Of one window.
        seconds: How long it is.
        overlap: Seconds that neighbours share; at most half a window is taken.
    """
    share = min(Fraction(overlap).limit_denominator(1000), timeline.seconds / 2)
    plan = windows(timeline, seconds, share)
    told = f"made in {len(plan)} windows of {float(timeline.seconds):g} s that share {float(share):g} s"
    return plan, [told] if len(plan) > 1 else []


def captions_of_windows(
    conditioning: Conditioning, timeline: Timeline, plan: Sequence[Window], progress: Progress
) -> list[Conditioning]:
    """What each window is told: what holds in the middle of what is new in it. One window is told all there is.

    Args:
        conditioning: Encoded captions, also later ones.
        timeline: Of one window.
        plan: The windows.
        progress: Told of captions that no window takes.
    """
    if len(plan) == 1:
        return [conditioning]
    middles = [middle_of_new(timeline, window) for window in plan]
    return [replace(each, later=()) for each in captions_at(conditioning, middles, progress)]


def fit_told(report: FitReport, plan: Sequence[Window]) -> list[str]:
    """How what is given was fitted; how much of it one window shows is said of the only window there is."""
    return report.sentences(length=len(plan) == 1)


def sizes_told(report: FitReport) -> list[str]:
    """What was scaled and cropped; how much of the time is shown is the task's own business."""
    sentences = [] if report.picture is None else report.picture.sentences(0.0)
    return [sentence for sentence in sentences if "scaled" in sentence or "cropped" in sentence]
