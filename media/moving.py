"""The moving picture of a user's file: which stream it is and when its frames are shown, without decoding one."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av

from ..core.clock import usual_interval
from ..core.errors import InputError
from .source import LOWEST_FPS, MOST_SECONDS, opened, rate_of, reading

_ATTACHED = "a picture that is attached to a sound"


@dataclass(frozen=True)
class MovingPicture:
    """The moving picture of a file, as far as it is known without decoding it.

    Args:
        codec: FFmpeg's name, for example "h264".
        fps: Average rate.
        times: When each frame that is shown begins, in units of ``time_base``, in order.
        seconds: From the first frame's beginning to the last one's end.
        time_base: Seconds a unit.
        timed: Whether each packet says when it is shown; else it is shown when it is decoded.
        num_hidden: Frames that are decoded for others and not shown: an edit list has cut them off.
    """

    codec: str
    fps: Fraction
    times: tuple[int, ...]
    seconds: Fraction
    time_base: Fraction
    timed: bool
    num_hidden: int = 0

    @property
    def num_frames(self) -> int:
        """Frames that are shown."""
        return len(self.times)

    @property
    def first(self) -> int:
        """Time of the first frame, in units of ``time_base``."""
        return self.times[0]

    @cached_property
    def begins(self) -> tuple[Fraction, ...]:
        """When each frame begins after the first one, in seconds; exact where a steady rate is only rounded."""
        noted = tuple((time - self.first) * self.time_base for time in self.times)
        steady = tuple(index / self.fps for index in range(self.num_frames))
        rounded = max(abs(one - other) for one, other in zip(noted, steady, strict=True))
        return steady if rounded * self.fps <= Fraction(1, 4) else noted

    @cached_property
    def usual_interval(self) -> Fraction:
        """Seconds from one frame to the next, in the middle of all; 0 for a single frame."""
        return usual_interval(self.begins)

    @property
    def is_steady(self) -> bool:
        """Whether frames follow each other at one interval; Matroska rounds it to milliseconds."""
        intervals = [after - before for before, after in pairwise(self.begins)]
        return not intervals or max(intervals) - min(intervals) <= max(intervals) / 4


class _Packet(NamedTuple):
    """When a packet is decoded and shown, in units of its stream's time base."""

    pts: int | None
    dts: int | None
    duration: int | None
    is_discard: bool

    @classmethod
    def of(cls, packet: av.Packet) -> _Packet:
        """Of one of FFmpeg's."""
        return cls(packet.pts, packet.dts, packet.duration, packet.is_discard)


def picture_of(path: str | Path) -> MovingPicture:
    """Look at a file's picture: its length is what a sound for it must have.

    Raises:
        InputError: no media file, a truncated one, or one without a moving picture whose times are known.
    """
    path = Path(path)
    with opened(path) as source, reading(path):
        stream = moving_picture(path, source)
        # What is in the packets is left where it is: it is as large as the file.
        packets = [_Packet.of(packet) for packet in source.demux(stream) if packet.size]
        if len(packets) == 1 and packets[0].pts is None:
            packets = [packets[0]._replace(pts=0)]  # a still
        context, unit = stream.codec_context, Fraction(stream.time_base)
        timed = all(packet.pts is not None for packet in packets)
        shown = [packet for packet in packets if not packet.is_discard]
        if not shown or not (timed or _shown_as_decoded(context, packets)):
            raise InputError(
                "the frames of this file do not say when they are shown",
                got=path,
                expected="for example an mp4, mkv or webm file",
                remedy="Convert the file to mp4 first.",
            )
        fps = rate_of(path, stream)
        lasting = {packet.pts if timed else packet.dts: packet.duration or round(1 / fps / unit) for packet in shown}
        times = tuple(sorted(lasting))
        end = max(time + duration for time, duration in lasting.items())
        _require_seconds(path, (end - times[0]) * unit, len(times))
        return MovingPicture(
            codec=context.codec.canonical_name,
            fps=fps,
            times=times,
            seconds=(end - times[0]) * unit,
            time_base=unit,
            timed=timed,
            num_hidden=len(packets) - len(shown),
        )


def moving_pictures(source: av.container.InputContainer) -> list[av.VideoStream]:
    """Streams of pictures without those that are merely attached to a sound, such as a song's cover."""
    shown = [stream for stream in source.streams.video if not stream.disposition & stream.disposition.attached_pic]
    return [stream for stream in shown if stream.codec_context is not None]


def moving_picture(path: Path, source: av.container.InputContainer) -> av.VideoStream:
    """The first stream of pictures that is not merely attached to a sound.

    Raises:
        InputError: there is none.
    """
    moving = moving_pictures(source)
    if not moving or source.format.name == "tty":
        found = _ATTACHED if source.streams.video else "no picture"
        raise InputError("there is no moving picture in this file", got=f"{path} ({found})", expected="a video file")
    return moving[0]


def _shown_as_decoded(context: av.VideoCodecContext, packets: list[_Packet]) -> bool:
    return not context.has_b_frames and all(packet.dts is not None for packet in packets)


def _require_seconds(path: Path, seconds: Fraction, num_frames: int) -> None:
    most = min(MOST_SECONDS, num_frames / LOWEST_FPS)
    if not 0 < seconds <= most:
        raise InputError(
            "the frames of this file are shown at times that no film has",
            got=f"{path} with {num_frames} frames in {float(seconds):.6g} s",
            expected=f"more than 0 and at most {most} s",
            remedy="Convert the file to mp4 first.",
        )
