"""What the tasks share: texts and settings of a run, and the size that a user's picture asks for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ..core.clock import Timeline
from ..core.progress import SILENT, Progress
from ..core.types import Captions, Conditioning
from ..media.fit_report import FitReport
from ..media.user_file import UserFile
from ..models.conditioning import REMEMBERED, ConditioningCache
from ..pipeline import DEFAULT_NEGATIVES, FamilyModel, SamplingOptions, encode_captions


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
    """

    model: FamilyModel
    captions: Captions
    negatives: Captions = DEFAULT_NEGATIVES
    options: SamplingOptions = field(default_factory=SamplingOptions)
    tiling: str = "auto"
    progress: Progress = SILENT
    cache: ConditioningCache = REMEMBERED

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


def own_timeline(model: FamilyModel, file: UserFile | None = None) -> Timeline:
    """The extent that a model was made for, turned upright where the user's picture is.

    Args:
        model: Whose.
        file: What is fitted to it.
    """
    own = model.own
    size = own.width, own.height
    if file is not None and file.size is not None and (file.size[0] < file.size[1]) != (size[0] < size[1]):
        size = size[::-1] if file.size[0] != file.size[1] else size
    return Timeline(own.num_frames, own.fps, *size, model.geometry)


def sizes_told(report: FitReport) -> list[str]:
    """What was scaled and cropped; how much of the time is shown is the task's own business."""
    sentences = [] if report.picture is None else report.picture.sentences(0.0)
    return [sentence for sentence in sentences if "scaled" in sentence or "cropped" in sentence]
