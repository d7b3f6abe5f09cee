"""The only place where seconds, frames, samples and latent positions are converted. fps is a Fraction.

Numbers of the published system: 81 frames at 15 fps = 27/5 s = 238 140 samples at 44 100 Hz; Wan 2.1 VAE 4× in
time and 8× in space with 2×2 patches, so frames are 4k+1 and sizes multiples of 16; Stable Audio Open 2 048 samples
a latent.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import ClassVar

from .errors import GeometryError
from .options import Bounds, shown
from .rates import Rate, as_fps

MAX_FRAMES, MAX_SIDE = 100_001, 8192
FRAMES = Bounds("number of frames", 1, MAX_FRAMES)
SIDE = Bounds("size", 1, MAX_SIDE)


@dataclass(frozen=True)
class StepTimes:
    """When the latent steps of one modality begin and end, in exact seconds; a rule for any number of them.

    Step 0 is ``[start, start + first)``; each later one lasts ``step``. They follow one another without a gap.

    Args:
        step: Seconds of a step.
        first: Seconds of step 0, where it is another: Wan's VAE is causal, so its latent 0 is frame 0 alone and latent
            k > 0 is frames 4k−3 … 4k. None for ``step``.
        start: When step 0 begins; other than 0 in a window of a longer clip.

    Raises:
        GeometryError: a step that does not last.
    """

    step: Fraction
    first: Fraction | None = None
    start: Fraction = Fraction(0)

    def __post_init__(self) -> None:
        if self.first is None:
            object.__setattr__(self, "first", self.step)
        if self.step <= 0 or self.first <= 0:
            raise GeometryError(
                "a latent step has no length", got=f"{self.first} and {self.step} seconds", expected="more than 0"
            )

    def edge(self, index: int) -> Fraction:
        """When step ``index`` begins, which is when the one before ends."""
        return self.start if index <= 0 else self.start + self.first + (index - 1) * self.step

    def edges(self, num_steps: int) -> list[Fraction]:
        """The ``num_steps + 1`` times between and around the first steps."""
        return [self.edge(index) for index in range(num_steps + 1)]

    def shifted(self, seconds: Fraction) -> StepTimes:
        """The same steps, all of them so much later."""
        return replace(self, start=self.start + seconds)


@dataclass(frozen=True)
class ClipTimes:
    """When the latent steps of picture and sound lie, on one clock.

    Args:
        video: Of the latent frames.
        audio: Of the audio latents.
    """

    video: StepTimes
    audio: StepTimes

    def shifted(self, seconds: Fraction) -> ClipTimes:
        """Both, so much later."""
        return ClipTimes(self.video.shifted(seconds), self.audio.shifted(seconds))


@dataclass(frozen=True)
class LatentGeometry:
    """How a pair of codecs shrinks a clip. The defaults are Wan 2.1's VAE and Stable Audio Open's Oobleck.

    Latents of another form are a subclass, which says what extents it can represent and which shapes they have, and in
    ``in_time`` whether a part of the latents is a part of the clip.

    Args:
        video_channels: Channels of the video latent.
        temporal_stride: Frames per latent frame (after the first).
        spatial_stride: Pixels per latent pixel.
        patch: Latent pixels per token side in the video tower.
        audio_channels: Channels of the audio latent.
        audio_hop: Samples per audio latent.
        sample_rate: Hz.
    """

    video_channels: int = 16
    temporal_stride: int = 4
    spatial_stride: int = 8
    patch: int = 2
    audio_channels: int = 64
    audio_hop: int = 2048
    sample_rate: int = 44_100
    in_time: ClassVar[bool] = True

    @property
    def only_fps(self) -> Fraction | None:
        """The one frame rate at which picture and sound of these latents last equally long; None for any."""
        return None

    @property
    def size_multiple(self) -> int:
        """Width and height must be multiples of this (16 for Wan 2.1)."""
        return self.spatial_stride * self.patch

    def check(self, num_frames: int, width: int, height: int) -> None:
        """Refuse an extent that the codecs cannot represent.

        Raises:
            GeometryError: the message names the nearest ones that fit.
        """
        stride, multiple = self.temporal_stride, self.size_multiple
        if not FRAMES.holds(num_frames) or (num_frames - 1) % stride:
            raise GeometryError(
                "the number of frames does not fit the video codec",
                got=shown(num_frames),
                expected=f"{stride}k+1, for example {' or '.join(map(str, nearest_frames(num_frames, stride)))}",
            )
        for name, value in (("width", width), ("height", height)):
            if not SIDE.holds(value) or value < multiple or value % multiple:
                wanted = min(value, MAX_SIDE - multiple) if isinstance(value, int) else 0
                low = max(multiple, wanted // multiple * multiple)
                most = f" up to {MAX_SIDE}" if isinstance(value, int) and value > MAX_SIDE else ""
                raise GeometryError(
                    f"the {name} does not fit the video tower",
                    got=shown(value),
                    expected=f"a multiple of {multiple} pixels{most}, for example {low} or {low + multiple}",
                )

    def video_shape(self, num_frames: int, width: int, height: int) -> tuple[int, int, int, int]:
        """``(C, T, H, W)`` of one video latent of so many pictures of this size in pixels."""
        stride = self.spatial_stride
        return self.video_channels, (num_frames - 1) // self.temporal_stride + 1, height // stride, width // stride

    def audio_shape(self, num_samples: int) -> tuple[int, int]:
        """``(C, L)`` of one audio latent of so many samples."""
        return self.audio_channels, max(1, num_samples // self.audio_hop)

    def extent_of(self, video_shape: Sequence[int]) -> tuple[int, int, int]:
        """Pictures, width and height in pixels of a video latent ``(B, C, T, H, W)``."""
        _, _, frames, height, width = video_shape
        stride = self.spatial_stride
        return (frames - 1) * self.temporal_stride + 1, width * stride, height * stride

    def times(self, fps: Rate) -> ClipTimes:
        """When each latent step lies at this frame rate."""
        fps = as_fps(fps)
        return ClipTimes(
            StepTimes(self.temporal_stride / fps, 1 / fps), StepTimes(Fraction(self.audio_hop, self.sample_rate))
        )

    def times_from_counts(self, num_video: int, num_audio: int) -> ClipTimes:
        """When each latent step lies where nobody knows the frame rate: picture and sound last equally long.

        The number of audio latents was rounded down, so that on average half of one is missing. The error is therefore
        at most half an audio latent at the end of the clip (23 ms), and under 12 ms for the clips of the published and
        the bundled model (AV-Link's rule by counts, with Wan's first latent a quarter as long as the others).

        Args:
            num_video: Latent frames.
            num_audio: Audio latents.
        """
        num_frames = (num_video - 1) * self.temporal_stride + 1
        audio = StepTimes(Fraction(self.audio_hop, self.sample_rate))
        frame = (num_audio + Fraction(1, 2)) * audio.step / num_frames
        return ClipTimes(StepTimes(self.temporal_stride * frame, frame), audio)


WAN_STABLE_AUDIO = LatentGeometry()


@dataclass(frozen=True)
class Timeline:
    """A clip's extent in time and space, and every count that follows from it.

    Args:
        num_frames: Pictures; 4k+1 for Wan.
        fps: Frames per second, exact.
        width: Pixels.
        height: Pixels.
        geometry: The codecs' strides.

    Raises:
        GeometryError: a count that the codecs cannot represent; the message names the nearest ones that fit.
    """

    num_frames: int = 81
    fps: Fraction = Fraction(15)
    width: int = 832
    height: int = 480
    geometry: LatentGeometry = WAN_STABLE_AUDIO

    def __post_init__(self) -> None:
        object.__setattr__(self, "fps", as_fps(self.fps))
        self.geometry.check(self.num_frames, self.width, self.height)

    @property
    def seconds(self) -> Fraction:
        """Length of picture and sound: frames / fps."""
        return self.num_frames / self.fps

    @property
    def num_samples(self) -> int:
        """Sound samples per channel that last exactly as long as the picture (nearest whole sample)."""
        return samples_for(self.seconds, self.geometry.sample_rate)

    @property
    def video_latent_shape(self) -> tuple[int, int, int, int]:
        """``(C, T, H, W)`` of one video latent."""
        return self.geometry.video_shape(self.num_frames, self.width, self.height)

    @property
    def audio_latent_shape(self) -> tuple[int, int]:
        """``(C, L)`` of one audio latent; L is rounded down as in the official system (116 for 5.4 s), at least 1."""
        return self.geometry.audio_shape(self.num_samples)

    def require_parts(self) -> None:
        """Refuse to know or to make only a part of a clip whose latents hold it as a whole.

        Raises:
            GeometryError: they do.
        """
        if not self.geometry.in_time:
            raise GeometryError(
                "the latents of this model hold a clip as a whole",
                got="a part of one",
                expected=f"a clip of the model's {float(self.seconds):g} s",
            )

    @property
    def times(self) -> ClipTimes:
        """When each latent step of picture and sound lies."""
        return self.geometry.times(self.fps)


def nearest_frames(num_frames: object, stride: int = 4) -> tuple[int, int]:
    """The two lengths of the form ``stride·k + 1`` around a wanted one."""
    wanted = num_frames if isinstance(num_frames, int) else 1
    low = max(0, min(wanted, MAX_FRAMES) - 1) // stride * stride + 1
    return low, low + stride


def closest_frames(wanted: float, stride: int = 4) -> int:
    """That of the two lengths around a wanted one which is closer to it; of two as close, the shorter."""
    return min(nearest_frames(round(wanted), stride), key=lambda frames: abs(frames - wanted))


def samples_for(seconds: Fraction | float, sample_rate: int) -> int:
    """Whole samples nearest to a duration (half a sample rounds up)."""
    return math.floor(Fraction(seconds) * sample_rate + Fraction(1, 2))


def segment_hop(fps: Rate, *, frames: int, sample_rate: int, columns: int) -> int:
    """Samples of a column where a segment of some frames has so many columns.

    Args:
        fps: Frames per second.
        frames: Frames of a segment.
        sample_rate: Hz.
        columns: Columns of a segment.

    Raises:
        GeometryError: it is no whole number; the nearest rates, and columns at this rate, are named.
    """
    samples = frames / as_fps(fps) * sample_rate
    hop = samples / columns
    if hop.denominator == 1:
        return int(hop)
    unit = (as_fps(fps) * columns / frames).numerator
    low = sample_rate // unit * unit
    rates = f"a sound of {' or '.join(str(rate) for rate in (low, low + unit) if rate)} Hz"
    fitting = [each for each in range(1, 4 * columns) if samples.denominator == 1 and not samples % each]
    nearest = sorted(sorted(fitting, key=lambda each: abs(each - columns))[:2])
    extent = f"{frames} frames at {float(as_fps(fps)):g} fps, {sample_rate} Hz"
    raise GeometryError(
        "a segment is no whole number of columns of sound",
        got=f"{float(samples):g} samples ({extent}), {columns} columns",
        expected=f"{rates}, or {' or '.join(map(str, nearest))} columns" if nearest else rates,
    )


def frame_times(num_frames: int, fps: Fraction) -> list[float]:
    """Start time of every frame, in seconds."""
    return [float(index / fps) for index in range(num_frames)]


def frames_at(start: Fraction, count: int, fps: Fraction, source_fps: Fraction, *, nearest: bool = True) -> list[int]:
    """Which frames of a source stand at the times of frames of another rate.

    Args:
        start: Time of the first wanted frame in the source, seconds.
        count: Wanted frames.
        fps: Their rate.
        source_fps: The source's rate.
        nearest: Take the frame that begins nearest to each time (half way: the later one); False takes the one that is
            on screen then, which is late by up to a frame.

    Returns:
        Numbers of frames; those beyond the source's end are not held back.
    """
    shift = Fraction(1, 2) if nearest else Fraction(0)
    return [math.floor((start + index / fps) * source_fps + shift) for index in range(count)]


def usual_interval(times: Sequence[Fraction]) -> Fraction:
    """What lies between one time and the next, in the middle of all; 0 for a single one."""
    intervals = sorted(after - before for before, after in pairwise(times))
    return intervals[len(intervals) // 2] if intervals else Fraction(0)


def frames_among(
    times: Sequence[Fraction], start: Fraction, count: int, fps: Fraction, *, interval: Fraction | None = None
) -> list[int]:
    """Which frames of a source with times of its own stand at the times of frames of a steady rate.

    That which is on screen half a usual frame later: at a steady rate the nearest one, as :func:`frames_at` has it; and
    a frame that stands for long stays until the next one begins.

    Args:
        times: When each frame begins, in order, seconds; at least one.
        start: Time of the first wanted frame.
        count: Wanted frames.
        fps: Their rate.
        interval: What usually lies between two frames of the source, where that is known; it takes a look at all.
    """
    if interval is None:
        interval = usual_interval(times)
    half = interval / 2
    return [max(0, bisect_right(times, start + index / fps + half) - 1) for index in range(count)]


def tail_start(timeline: Timeline, seconds: Fraction, wanted: Fraction | float) -> Fraction:
    """Where the end of a clip begins that is to be continued.

    The end is as near to ``wanted`` seconds as whole latents of the video codec allow, and less than the timeline, so
    that something is left to make.

    Args:
        timeline: What the model makes; it begins with that end.
        seconds: Length of the clip, exact.
        wanted: Length of the end, seconds.

    Raises:
        GeometryError: latents that hold a clip as a whole.
    """
    timeline.require_parts()
    stride = timeline.geometry.temporal_stride
    most = min(timeline.num_frames - stride, math.floor(seconds * timeline.fps))
    num_frames = round((min(Fraction(wanted) * timeline.fps, most) - 1) / stride) * stride + 1
    return max(Fraction(0), seconds - max(1, num_frames) / timeline.fps)


def whole_latents(timeline: Timeline, num_frames: int, num_samples: int) -> tuple[int, int]:
    """Latents of picture and sound that hold nothing but the first ``num_frames`` and ``num_samples`` of a clip.

    Raises:
        GeometryError: latents that hold a clip as a whole, and not all of it is known.
    """
    if 0 < num_frames < timeline.num_frames or 0 < num_samples < timeline.num_samples:
        timeline.require_parts()
    stride, video = timeline.geometry.temporal_stride, timeline.video_latent_shape[1]
    frames = 0 if num_frames < 1 else (num_frames - 1) // stride + 1
    whole = num_samples >= timeline.num_samples
    sounds = timeline.audio_latent_shape[1] if whole else num_samples // timeline.geometry.audio_hop
    return min(video, frames), min(timeline.audio_latent_shape[1], sounds)
