"""Read a file back: what is in it, counted by decoding, and the clip itself."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from ..core.clock import as_fps
from ..core.errors import InputError
from ..core.types import AVClip, VideoClip
from .channels import mix_down
from .moving import moving_pictures
from .tags import decode_tags
from .video import rgb_picture, to_float
from .whole import require_whole

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MediaInfo:
    """What a media file holds. Fields of an absent modality are None.

    Args:
        container: "mp4", "webm", "mkv", or FFmpeg's name of another format.
        seconds: Length of the picture, or of the sound where there is no picture.
        width: Pixels.
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
    return _decode(Path(path), on_picture=None, on_sound=None)


def read_clip(path: str | Path) -> AVClip:
    """Decode a file into memory: RGB frames as float32 0..1, the waveform as float32.

    More than two channels of sound are mixed down to two, and the log says so.

    Raises:
        InputError: as :func:`probe`.
    """
    pictures: list[np.ndarray] = []
    blocks: list[np.ndarray] = []
    channels: list[str] = []

    def take_sound(frame: av.AudioFrame) -> None:
        blocks.append(as_float_planes(frame))
        channels[:] = [channel.name for channel in frame.layout.channels]

    info = _decode(
        Path(path),
        on_picture=lambda frame: pictures.append(rgb_picture(frame)),
        on_sound=take_sound,
    )
    video = audio = None
    if info.num_frames:
        video = VideoClip(to_float(torch.from_numpy(np.stack(pictures))), info.fps)
    if info.num_samples:
        audio, note = mix_down(torch.from_numpy(np.concatenate(blocks, axis=1)), info.sample_rate, channels)
        if note:
            log.warning("%s: %s", Path(path).name, note)
    return AVClip(video, audio)


def as_float_planes(frame: av.AudioFrame) -> np.ndarray:
    """One decoded block as ``(C, samples)`` float32; integers map to -1..1."""
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128) / 128
    if np.issubdtype(values.dtype, np.integer):
        return (values / -float(np.iinfo(values.dtype).min)).astype(np.float32)
    return values.astype(np.float32)


Take = Callable[[Any], None]


def _decode(path: Path, *, on_picture: Take | None, on_sound: Take | None) -> MediaInfo:
    """Decode the first moving picture and the first sound stream, hand on every frame, and count."""
    if not path.is_file():
        raise InputError(
            "there is no such file" if not path.exists() else "this is a folder, not a media file", got=path
        )
    require_whole(path)
    try:
        with av.open(str(path)) as source:
            picture = next(iter(moving_pictures(source)), None)
            sound = next(iter(source.streams.audio), None)
            # "tty" is how FFmpeg opens a plain text file: as a film of the text
            if source.format.name == "tty" or not (picture or sound):
                raise _not_media(path, "neither picture nor sound in it")
            num_frames = num_samples = 0
            for packet in source.demux([stream for stream in (picture, sound) if stream]):
                for frame in packet.decode():
                    if isinstance(frame, av.VideoFrame):
                        num_frames += 1
                        take = on_picture
                    else:
                        num_samples += frame.samples
                        take = on_sound
                    if take:
                        take(frame)
            return _describe(path, source, num_frames, num_samples)
    except av.error.FFmpegError as error:
        raise _not_media(path, error.strerror) from error


def _not_media(path: Path, reason: str) -> InputError:
    return InputError(
        "this is not a media file that can be read, or it is damaged",
        got=f"{path} ({reason})",
        expected="for example an mp4, webm or mkv file",
    )


def _describe(path: Path, source: av.container.InputContainer, num_frames: int, num_samples: int) -> MediaInfo:
    values: dict[str, Any] = {}
    if num_samples:
        sound = source.streams.audio[0]
        values |= {
            "audio_codec": sound.codec_context.codec.canonical_name,
            "sample_rate": sound.codec_context.sample_rate,
            "num_channels": sound.codec_context.layout.nb_channels,
            "num_samples": num_samples,
            "seconds": Fraction(num_samples, sound.codec_context.sample_rate),
        }
    if num_frames:
        picture = moving_pictures(source)[0]
        fps = as_fps(Fraction(picture.average_rate or picture.guessed_rate))
        values |= {
            "video_codec": picture.codec_context.codec.canonical_name,
            "width": picture.codec_context.width,
            "height": picture.codec_context.height,
            "fps": fps,
            "num_frames": num_frames,
            "seconds": num_frames / fps,
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
