"""The frozen values that cross between stages. Either modality may be absent (None) everywhere.

Legend: B batch, F frames, T latent time, H W latent or pixel space, C channels, L tokens or audio latents, D width.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import torch
from torch import Tensor

from .clock import as_fps, samples_for
from .errors import InputError, NonFiniteError


def _expect_dims(name: str, tensor: Tensor, legend: str) -> None:
    if not isinstance(tensor, Tensor) or tensor.ndim != len(legend.split()):
        got = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
        raise InputError(f"{name} has the wrong shape", got=got, expected=f"a tensor ({legend})")


def require_finite(name: str, tensor: Tensor, remedy: str = "") -> None:
    """Raise :class:`NonFiniteError` when a tensor holds NaN or infinity; the message counts them."""
    # The extremes are NaN where anything is, and need no second tensor of the same size.
    if tensor.numel() and not bool(torch.isfinite(torch.stack(tensor.aminmax())).all()):
        bad = int((~torch.isfinite(tensor)).sum())
        raise NonFiniteError(
            f"{name} contains NaN or infinity",
            got=f"{bad} of {tensor.numel()} values",
            expected="finite numbers",
            remedy=remedy,
        )


@dataclass(frozen=True)
class Captions:
    """What the towers read: one text for the picture, one for the sound."""

    video: str
    audio: str


@dataclass(frozen=True)
class FrameShifts:
    """What is added to a tower's stream, moment by moment; moments lie side by side over the clip.

    Args:
        positive: ``(B, N, D)``.
        negative: The same in passes with the negative text.
        edges: Where moments begin, and where the last one ends, as shares of the latent steps in 0..1: ``N + 1``.
        num_steps: Latent steps that it was made for; None for any number.
    """

    positive: Tensor
    negative: Tensor
    edges: tuple[Fraction, ...]
    num_steps: int | None = None

    def __post_init__(self) -> None:
        _expect_dims("what is added to the stream", self.positive, "B N D")
        if self.negative.shape != self.positive.shape or len(self.edges) != self.positive.shape[1] + 1:
            raise InputError(
                "what is added to the stream does not fit together",
                got=f"{tuple(self.positive.shape)}, {tuple(self.negative.shape)} and {len(self.edges)} edges",
                expected="two tensors of one shape, and an edge more than moments",
            )

    def over(self, num_steps: int) -> FrameShifts:
        """A vector a latent step: that of the moment in which the step's middle lies.

        Raises:
            InputError: it was made for another number of steps.
        """
        if self.num_steps not in (None, num_steps):
            raise InputError(
                "what is told of the other side was made for another length",
                got=f"{num_steps} latent steps",
                expected=f"{self.num_steps}",
                remedy="Condition anew, on the latent that is to be made.",
            )
        last = self.positive.shape[1] - 1
        middles = (Fraction(2 * step + 1, 2 * num_steps) for step in range(num_steps))
        moments = [min(bisect_right(self.edges, middle) - 1, last) for middle in middles]
        even = tuple(Fraction(step, num_steps) for step in range(num_steps + 1))
        return FrameShifts(self.positive[:, moments], self.negative[:, moments], even, num_steps)


@dataclass(frozen=True)
class ModalityConditioning:
    """Text for one tower, encoded.

    Args:
        positive: ``(B, L, D)``.
        negative: ``(B, L, D)`` or None when guidance is off for this modality.
        duration: Stable Audio's global states ``(B, 1, D)``, None for video.
        frames: What is added to the tower's stream, moment by moment; None for nothing.
        is_told: Whether the tower is told of the other side, by ``frames`` or by tokens behind the text.
    """

    positive: Tensor
    negative: Tensor | None = None
    duration: Tensor | None = None
    frames: FrameShifts | None = None
    is_told: bool = False

    def __post_init__(self) -> None:
        _expect_dims("the positive text embedding", self.positive, "B L D")
        if self.negative is not None and self.negative.shape != self.positive.shape:
            raise InputError(
                "the negative text embedding does not match the positive one",
                got=tuple(self.negative.shape),
                expected=str(tuple(self.positive.shape)),
            )


@dataclass(frozen=True)
class Conditioning:
    """Encoded text per modality.

    Args:
        video: None for a modality that is not generated.
        audio: Likewise.
        later: What holds instead from a second of the clip on, in order; only windows of a longer clip read it.
        seconds: Length that the audio tower is told, where that is known.
    """

    video: ModalityConditioning | None = None
    audio: ModalityConditioning | None = None
    later: tuple[tuple[Fraction, Conditioning], ...] = ()
    seconds: float | None = None

    def at(self, seconds: Fraction) -> Conditioning:
        """What holds at a time of the clip."""
        return next((each for start, each in reversed(self.later) if start <= seconds), self)


@dataclass(frozen=True)
class Pass:
    """One guidance pass through the model at one step.

    Args:
        name: What caches and hooks know it by.
        text: Which caption the towers read, ``positive`` or ``negative``.
        alone: Whether each modality runs without the other.
    """

    name: str
    text: str = "positive"
    alone: bool = False


POSITIVE, NEGATIVE = Pass("positive"), Pass("negative", "negative")


class Heard(Protocol):
    """What bridges add to one side's stream: noted where they run, said again where the other side is absent."""

    def note(self, bridge: int, change: Tensor) -> None:
        """Bridge number ``bridge`` added this ``(B, L, D)``."""
        ...

    def change(self, bridge: int) -> Tensor | None:
        """What it adds ``(B, L, D)``; None for nothing."""
        ...

    def part(self, start: int, stop: int) -> Heard:
        """The same for some of the passes whose rows it holds."""
        ...


@dataclass(frozen=True)
class Modality:
    """What one tower sees at one denoising step.

    Args:
        latents: Video ``(B, C, T, H, W)`` or audio ``(B, C, L)``, already scaled for the model.
        timestep: ``(B,)``, or ``(1,)`` to share one over the batch. Video 0..1000, audio 0..1.
        text: ``(B, L, D)``.
        duration: ``(B, 1, D)`` for audio, else None.
        passes: The guidance passes whose rows the batch holds, in this order, each with as many rows.
        given: Whether it is known as a whole while the other one is made: nobody asks what the tower says of it.
        heard: With the other side: told what each bridge adds to this one. Without it: says that in the bridges' place.
        first_block: Whether only what the first block adds to the stream ``(B, L, D)`` is wanted, not a prediction.
        frames: What is added to the stream at each latent step ``(B, S, D)``; None for nothing.
    """

    latents: Tensor
    timestep: Tensor
    text: Tensor
    duration: Tensor | None = None
    passes: tuple[Pass, ...] = (POSITIVE,)
    given: bool = False
    heard: Heard | None = None
    first_block: bool = False
    frames: Tensor | None = None


@dataclass(frozen=True)
class JointLatents:
    """Latents of both modalities in the towers' own (normalised) space.

    Args:
        video: ``(B, C, T, H, W)`` or None.
        audio: ``(B, C, L)`` or None.
    """

    video: Tensor | None = None
    audio: Tensor | None = None

    def __post_init__(self) -> None:
        if self.video is not None:
            _expect_dims("the video latent", self.video, "B C T H W")
        if self.audio is not None:
            _expect_dims("the audio latent", self.audio, "B C L")
        if self.video is None and self.audio is None:
            raise InputError(
                "there is nothing to generate: both latents are absent",
                expected="a video latent, an audio latent or both",
            )


@dataclass(frozen=True)
class VideoClip:
    """Decoded pictures.

    Args:
        frames: ``(F, H, W, 3)`` float in 0..1.
        fps: Exact frame rate.
    """

    frames: Tensor
    fps: Fraction

    def __post_init__(self) -> None:
        _expect_dims("the frames tensor", self.frames, "F H W C")
        if self.frames.shape[-1] != 3 or self.frames.shape[0] < 1:
            raise InputError(
                "frames must be at least one RGB picture", got=tuple(self.frames.shape), expected="(F, H, W, 3)"
            )
        if not self.frames.is_floating_point():
            raise InputError(
                "frames must be floating point numbers in 0..1",
                got=self.frames.dtype,
                expected="for example torch.float32",
            )
        object.__setattr__(self, "fps", as_fps(self.fps))

    @property
    def seconds(self) -> Fraction:
        """Length of the picture."""
        return self.frames.shape[0] / self.fps


@dataclass(frozen=True)
class AudioClip:
    """Decoded sound.

    Args:
        waveform: ``(C, samples)`` float, one or two channels, nominally -1..1. Values beyond are kept; the muxer
            lowers the level and says so, it never clips in silence.
        sample_rate: Hz.
    """

    waveform: Tensor
    sample_rate: int

    def __post_init__(self) -> None:
        _expect_dims("the waveform", self.waveform, "C samples")
        if self.waveform.shape[0] not in (1, 2):
            raise InputError(
                "the sound must be mono or stereo", got=f"{self.waveform.shape[0]} channels", expected="1 or 2 channels"
            )
        if not self.waveform.is_floating_point():
            raise InputError(
                "the waveform must be floating point", got=self.waveform.dtype, expected="for example torch.float32"
            )
        if (
            isinstance(self.sample_rate, bool)
            or not isinstance(self.sample_rate, int)
            or not 1 <= self.sample_rate <= 768_000
        ):
            raise InputError(
                "the sample rate is not usable",
                got=self.sample_rate,
                expected="a whole number of Hz, for example 44100",
            )

    @property
    def seconds(self) -> Fraction:
        """Length of the sound."""
        return Fraction(self.waveform.shape[-1], self.sample_rate)


@dataclass(frozen=True)
class AVClip:
    """Picture and sound that belong together; either may be absent, not both."""

    video: VideoClip | None = None
    audio: AudioClip | None = None

    def __post_init__(self) -> None:
        if self.video is None and self.audio is None:
            raise InputError("a clip needs a picture, a sound or both", expected="at least one of video and audio")

    @property
    def num_samples(self) -> int | None:
        """Samples the sound must have to last exactly as long as the picture; None without both."""
        if self.video is None or self.audio is None:
            return None
        return samples_for(self.video.seconds, self.audio.sample_rate)

    @property
    def seconds(self) -> Fraction:
        """How long the picture lasts, or else the sound."""
        return (self.video or self.audio).seconds
