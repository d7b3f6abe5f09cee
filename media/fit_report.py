"""What was done to a user's clip to fit it to a model, as values and as sentences."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

Area = tuple[int, int, int, int]
# Lengths that differ by less are told of nobody: a sample at the end, half a frame of rounding.
_TOLD_SECONDS = 0.0005
OPEN = "open"


@dataclass(frozen=True)
class PictureFit:
    """What was done to the picture.

    Args:
        num_frames: Of the clip.
        fps: Of the clip.
        wanted_fps: Of the model.
        size: Width and height of the clip, pixels.
        wanted_size: Of the model.
        area: The part of the clip's picture that was used: left, top, width, height in its own pixels.
        seconds: Length of the clip's picture.
        used_seconds: Length of the part.
        missing_seconds: How much of the part lies beyond the picture's end; 0 for a still.
        known_frames: Frames of the part, at the model's rate, that the clip has; 1 for a still.
        short: Whether that is held (``pad``), repeated (``loop``) or left to the sampler (``open``).
    """

    num_frames: int
    fps: Fraction
    wanted_fps: Fraction
    size: tuple[int, int]
    wanted_size: tuple[int, int]
    area: Area
    seconds: float
    used_seconds: float
    missing_seconds: float
    known_frames: int
    short: str = "pad"

    def sentences(self, start: float, *, length: bool = True) -> list[str]:
        """What happened, in the order in which it was done; with or without how much of its time is used."""
        return [*(self._length(start) if length or self.num_frames == 1 else ()), *self._rate(), *self._size()]

    def _length(self, start: float) -> list[str]:
        if self.num_frames == 1:
            stands = (
                "it is the first frame" if self.short == OPEN else f"it stands for the whole {self.used_seconds:.3f} s"
            )
            return [f"The picture is a still; {stands}."]
        told = _cut("picture", self.seconds, start, self.used_seconds, self.missing_seconds)
        if self.missing_seconds > _TOLD_SECONDS:
            filled = {"loop": "it is repeated", OPEN: "what follows is made"}.get(self.short, "its last frame is held")
            told.append(f"The picture ends {self.missing_seconds:.3f} s early; {filled}.")
        return told

    def _rate(self) -> list[str]:
        if self.num_frames == 1 or self.fps == self.wanted_fps:
            return []
        had, has = (f"{float(rate):.5g}" for rate in (self.fps, self.wanted_fps))
        if self.fps < self.wanted_fps:
            return [f"The picture has {had} frames a second; they were repeated to make {has}."]
        return [f"The picture has {had} frames a second; the {has} nearest in time were taken."]

    def _size(self) -> list[str]:
        width, height = self.size
        part_width, part_height = self.area[2:]
        told = []
        if (part_width, part_height) != self.size:
            lost = 1 - part_width * part_height / (width * height)
            told.append(
                f"The picture was cropped from {width}×{height} to its middle {part_width}×{part_height}; "
                f"{_share(lost)} of it is not seen by the model."
            )
        if (part_width, part_height) != self.wanted_size:
            wide, high = self.wanted_size
            told.append(f"The picture was scaled from {part_width}×{part_height} to {wide}×{high}.")
        return told


@dataclass(frozen=True)
class SoundFit:
    """What was done to the sound.

    Args:
        sample_rate: Of the clip, Hz.
        wanted_rate: Of the codec, Hz.
        channels: Of the clip.
        wanted_channels: Of the codec.
        seconds: Length of the clip's sound.
        used_seconds: Length of the part.
        missing_seconds: How much of the part lies beyond the sound's end.
        known_samples: Samples of the part, at the codec's rate, that the clip has.
        short: Whether that is silent (``pad``), repeated (``loop``) or left to the sampler (``open``).
    """

    sample_rate: int
    wanted_rate: int
    channels: int
    wanted_channels: int
    seconds: float
    used_seconds: float
    missing_seconds: float
    known_samples: int
    short: str = "pad"

    def sentences(self, start: float, *, length: bool = True) -> list[str]:
        """What happened, in the order in which it was done; with or without how much of its time is used."""
        told = _cut("sound", self.seconds, start, self.used_seconds, self.missing_seconds) if length else []
        if length and self.missing_seconds > _TOLD_SECONDS:
            filled = {"loop": "it is repeated", OPEN: "what follows is made"}.get(self.short, "silence follows")
            told.append(f"The sound ends {self.missing_seconds:.3f} s early; {filled}.")
        if self.sample_rate != self.wanted_rate:
            told.append(f"The sound was resampled from {self.sample_rate} to {self.wanted_rate} Hz.")
        if self.channels != self.wanted_channels:
            how = "copied to both channels" if self.wanted_channels == 2 else "mixed to one channel"
            told.append(f"The sound was {how}.")
        return told


@dataclass(frozen=True)
class FitReport:
    """Everything that was changed about a clip; a modality that the clip lacks is None.

    Args:
        start: Where the used part begins in the clip, seconds.
        picture: Of the picture.
        sound: Of the sound.
    """

    start: float = 0.0
    picture: PictureFit | None = None
    sound: SoundFit | None = None

    def sentences(self, *, length: bool = True) -> list[str]:
        """Every change as a sentence for the user; empty when the clip fitted as it was.

        Args:
            length: Also how much of its time is used.
        """
        parts = [part for part in (self.picture, self.sound) if part]
        return [sentence for part in parts for sentence in part.sentences(self.start, length=length)]

    def left_open(self) -> FitReport:
        """The same where what the clip lacks is left to the sampler."""
        return FitReport(self.start, *(part and replace(part, short=OPEN) for part in (self.picture, self.sound)))

    def as_json(self) -> dict[str, Any]:
        """Plain values: rates of frames as text such as "15" or "30000/1001", and the sentences."""
        values = asdict(self)
        if self.picture is not None:
            values["picture"] |= {name: str(getattr(self.picture, name)) for name in ("fps", "wanted_fps")}
        return values | {"sentences": self.sentences()}


def _cut(what: str, seconds: float, start: float, used: float, missing: float) -> list[str]:
    """A sentence where only a part of something is used."""
    left_out = seconds - (used - missing)
    if left_out < _TOLD_SECONDS:
        return []
    place = "the first" if not start else f"from {start:.3f} s on"
    return [f"The {what} lasts {seconds:.3f} s; {place} {used - missing:.3f} s are used."]


def _share(value: float) -> str:
    return f"{value:.0%}" if value >= 0.01 else "less than 1%"
