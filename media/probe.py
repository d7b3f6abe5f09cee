"""Read a file back: what is in it, counted by decoding, and the clip itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from ..core.errors import InputError
from ..core.types import AVClip, VideoClip
from .channels import mix_down
from .moving import moving_pictures
from .source import EXPECTED, NOT_MEDIA, Room, SoundBlocks, opened, placed, rate_of, reading, upright
from .tags import decode_tags
from .video import rgb_picture, to_float

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MediaInfo:
    """What a media file holds. Fields of an absent modality are None.

    Args:
        container: "mp4", "webm", "mkv", or FFmpeg's name of another format.
        seconds: Length of the picture, or of the sound where there is no picture.
        width: Pixels, of the picture put upright.
        height: Pixels.
        fps: Frames per second.
        num_frames: Pictures, counted by decoding all of them.
        video_codec: FFmpeg's decoder name, for example "h264".
        audio_codec: For example "aac".
        sample_rate: Hz.
        num_channels: Channels of the sound.
        num_samples: Samples per channel, counted by decoding all of them with the container's trims applied.
        tags: Container tags, names in lower case.
    """

    container: str
    seconds: Fraction
    width: int | None = None
    height: int | None = None
    fps: Fraction | None = None
    num_frames: int | None = None
    video_codec: str | None = None
    audio_codec: str | None = None
    sample_rate: int | None = None
    num_channels: int | None = None
    num_samples: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values: seconds as a number, fps as text such as "15" or "30000/1001"."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fps = None if self.fps is None else str(self.fps)
        return values | {"seconds": float(self.seconds), "fps": fps, "tags": dict(self.tags)}


def probe(path: str | Path) -> MediaInfo:
    """Describe a media file; frames and samples are counted by decoding the whole file.

    Raises:
        InputError: no such file, not a media file, truncated or damaged.
    """
    return _decode(Path(path), on_picture=None, on_sound=None)[0]


def read_clip(path: str | Path) -> AVClip:
    """Decode a file into memory: RGB frames as float32 0..1, upright; the waveform as float32.

    More than two channels of sound are mixed down to two, and the log says so.

    Raises:
        InputError: as :func:`probe`; or a picture or sound that changes its size, rate or channels within the file.
        PlacementError: the memory cannot hold it.
    """
    path = Path(path)
    pictures, blocks = _Pictures(path), SoundBlocks(path)
    info, is_steady = _decode(path, on_picture=pictures.add, on_sound=blocks.add)
    video = audio = None
    if info.num_frames:
        video = VideoClip(pictures.frames(), info.fps)
        if not is_steady:
            log.warning("%s shows its frames at changing intervals; they are read as if at one", path.name)
    if blocks:
        audio, note = mix_down(torch.from_numpy(blocks.planes()), blocks.rate, blocks.channels)
        if note:
            log.warning("%s: %s", path.name, note)
    return AVClip(video, audio)


class _Pictures:
    """Decoded pictures ``(H, W, 3)``, upright, which keep their size to the end and for which there is room."""

    def __init__(self, path: Path) -> None:
        self.path, self.taken, self._room = path, [], Room("the pictures of this file", copies=6)

    def add(self, frame: av.VideoFrame, turned: tuple[int, bool]) -> None:
        picture = np.ascontiguousarray(placed(rgb_picture(frame), *turned))
        if self.taken and picture.shape != self.taken[0].shape:
            (rows, columns), (new_rows, new_columns) = self.taken[0].shape[:2], picture.shape[:2]
            raise InputError(
                "the picture of this file changes its size within it",
                got=f"{self.path}: {columns}×{rows}, then {new_columns}×{new_rows}",
                expected="one size",
                remedy="Convert the file first.",
            )
        self._room.take(picture.nbytes)
        self.taken.append(picture)

    def frames(self) -> torch.Tensor:
        return to_float(torch.from_numpy(np.stack(self.taken)))


TakePicture = Callable[[av.VideoFrame, tuple[int, bool]], None]
TakeSound = Callable[[av.AudioFrame], None]


@dataclass
class _Seen:
    """What the decoded frames and blocks of a file say."""

    num_frames: int = 0
    num_samples: int = 0
    size: tuple[int, int] | None = None
    sound: tuple[int, int] | None = None
    times: list[int] = field(default_factory=list)

    def picture(self, frame: av.VideoFrame, turned: tuple[int, bool]) -> None:
        self.num_frames += 1
        if self.size is None:
            self.size = (frame.height, frame.width) if turned[0] % 2 else (frame.width, frame.height)
        if frame.pts is not None:
            self.times.append(frame.pts)

    def block(self, frame: av.AudioFrame) -> None:
        self.num_samples += frame.samples
        self.sound = self.sound or (frame.sample_rate, len(frame.layout.channels))

    @property
    def is_steady(self) -> bool:
        """Whether frames follow each other at one interval, as far as the file says when they are shown."""
        intervals = [after - before for before, after in pairwise(sorted(self.times))]
        return not intervals or max(intervals) <= 2 * max(1, sorted(intervals)[len(intervals) // 2])


def _decode(path: Path, *, on_picture: TakePicture | None, on_sound: TakeSound | None) -> tuple[MediaInfo, bool]:
    """Decode the first moving picture and the first sound stream, hand on every frame, and count.

    Returns:
        What the file holds, and whether its frames follow each other at one interval.
    """
    seen = _Seen()
    with opened(path) as source:
        picture = next(iter(moving_pictures(source)), None)
        sound = next(iter(source.streams.audio), None)
        if not (picture or sound):
            raise _not_media(path, "neither picture nor sound in it")
        with reading(path, NOT_MEDIA):
            for packet in source.demux([stream for stream in (picture, sound) if stream]):
                for frame in packet.decode():
                    if isinstance(frame, av.VideoFrame):
                        turned = upright(frame, picture.codec_context.name)
                        seen.picture(frame, turned)
                        if on_picture:
                            on_picture(frame, turned)
                        continue
                    seen.block(frame)
                    if on_sound:
                        on_sound(frame)
            return _describe(path, source, seen), seen.is_steady


def _not_media(path: Path, reason: str) -> InputError:
    return InputError(NOT_MEDIA, got=f"{path} ({reason})", expected=EXPECTED)


def _describe(path: Path, source: av.container.InputContainer, seen: _Seen) -> MediaInfo:
    values: dict[str, Any] = {}
    if seen.num_samples:
        sound, (rate, channels) = source.streams.audio[0], seen.sound
        values |= {
            "audio_codec": sound.codec_context.codec.canonical_name,
            "sample_rate": rate,
            "num_channels": channels,
            "num_samples": seen.num_samples,
            "seconds": Fraction(seen.num_samples, rate),
        }
    if seen.num_frames:
        picture = moving_pictures(source)[0]
        fps = rate_of(path, picture)
        values |= {
            "video_codec": picture.codec_context.codec.canonical_name,
            "width": seen.size[0],
            "height": seen.size[1],
            "fps": fps,
            "num_frames": seen.num_frames,
            "seconds": seen.num_frames / fps,
        }
    if not values:
        raise _not_media(path, "nothing in it can be decoded")
    tags = decode_tags(source.metadata, from_comment=source.format.name == "wav")
    return MediaInfo(container=_container_name(path, source.format.name), tags=tags, **values)


def _container_name(path: Path, format_name: str) -> str:
    if format_name == "matroska,webm":
        with path.open("rb") as file:
            return "webm" if b"webm" in file.read(64) else "mkv"
    return "mp4" if "mp4" in format_name.split(",") else format_name
