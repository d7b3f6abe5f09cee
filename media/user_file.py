"""A user's file, fitted to a model part by part: only the frames that are needed are decoded, one is kept at a time.

Frames are taken by the times that the file gives them, so clips of variable rate (phones, screen recordings) keep time;
they are turned upright, and pixels that are not square are made so. The sound begins with the first frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.clock import Timeline, frames_among, samples_for
from ..core.errors import InputError
from ..core.progress import ask_to_stop
from ..core.types import AudioClip, AVClip, VideoClip
from .channels import mix_down
from .fit import USER, crop_and_scale, fit_sound, middle_of
from .fit_report import Area, FitReport, PictureFit
from .moving import MovingPicture, moving_picture, moving_pictures, picture_of
from .source import MOST_SECONDS, SoundBlocks, opened, placed, reading, upright
from .video import rgb_picture, to_float
from .whole import require_modest_size

# Decoding from the beginning is sure; looking for a key frame pays where the part lies further in.
_SEEK_SECONDS = 5
# Encoders' delays are told with less accuracy than this.
_TOGETHER_SECONDS = 0.002
# Transfer characteristics of HDR (ITU-T H.273).
LIGHT = {16: "PQ", 18: "HLG"}


@dataclass(frozen=True, eq=False)
class UserFile:
    """What is known of a file before a frame of it is fitted.

    Args:
        path: The file.
        picture: Its moving picture or still, or None.
        size: Width and height as it is played: upright, of square pixels; None without a picture.
        turn: Quarter turns against the clock that put it upright.
        flipped: Whether left and right are exchanged then.
        sound: Its sound from the first frame on, mono or stereo, or None.
        notes: What a user should know, a sentence each.
    """

    path: Path
    picture: MovingPicture | None
    size: tuple[int, int] | None
    turn: int
    sound: AudioClip | None
    notes: tuple[str, ...] = ()
    flipped: bool = False

    @property
    def seconds(self) -> Fraction:
        """Length of the picture, or of the sound where there is none."""
        return self.sound.seconds if self.picture is None else self.picture.seconds


def open_user_file(path: str | Path, *, sound: bool = True) -> UserFile:
    """Look at a file, and decode its sound and its first frame.

    Args:
        path: A video, a sound or a picture; a picture that is attached to a sound is passed over.
        sound: Whether the sound of a file with a picture is wanted; it is kept as a whole.

    Raises:
        InputError: no media file, a damaged one, or one with neither picture nor sound.
    """
    path = Path(path)
    with opened(path) as source:
        is_sound = not moving_pictures(source)
        if is_sound and not source.streams.audio:
            raise InputError(
                "there is neither picture nor sound in this file", got=path, expected="a video, a sound or a picture"
            )
    picture = None if is_sound else picture_of(path)
    size, turn, flipped, notes = (None, 0, False, []) if picture is None else _as_played(path, picture)
    heard, told = _sound(path, picture) if sound or picture is None else (None, [])
    if picture is None and heard is None:
        raise InputError("nothing in this file can be decoded", got=path, expected="a video, a sound or a picture")
    return UserFile(path, picture, size, turn, heard, (*notes, *told), flipped)


def fit_file(
    file: UserFile, timeline: Timeline, *, start: Fraction = Fraction(0), channels: int = 2
) -> tuple[AVClip, FitReport]:
    """A part of a file as :func:`~.fit.fit_clip` gives it of a clip in memory.

    Args:
        file: From :func:`open_user_file`.
        timeline: What to fit to.
        start: Where the part begins, seconds after the first frame, exact.
        channels: Of the audio codec.

    Raises:
        InputError: the file is damaged, or a start below zero.
    """
    if start < 0:
        raise InputError("a part of a clip begins before it", got=f"{float(start):g} s", expected="0 s or later")
    start = Fraction(start)
    video, picture = (None, None) if file.picture is None else _fit_picture(file, timeline, start)
    audio, sound = (None, None) if file.sound is None else fit_sound(file.sound, timeline, start, channels, USER)
    return AVClip(video, audio), FitReport(float(start), picture, sound)


def _fit_picture(file: UserFile, timeline: Timeline, start: Fraction) -> tuple[VideoClip, PictureFit]:
    picture, size = file.picture, (timeline.width, timeline.height)
    rest = {"interval": picture.usual_interval}
    wanted = frames_among(picture.begins, start, timeline.num_frames, timeline.fps, **rest)
    area = middle_of(*file.size, *size)
    frames = torch.empty(timeline.num_frames, timeline.height, timeline.width, 3)
    places: dict[int, list[int]] = {}
    for place, index in enumerate(wanted):
        places.setdefault(index, []).append(place)
    waiting = sorted(places)
    for index, frame in _decoded(file, waiting[0]):
        ask_to_stop()
        if index < waiting[0]:
            continue
        pixels = _upright(frame, file)
        fitted = crop_and_scale(pixels, _in_pixels(area, file.size, pixels), size)
        # A frame that the decoder left out is shown as the next one.
        while waiting and waiting[0] <= index:
            frames[places[waiting.pop(0)]] = fitted
        if not waiting:
            break
    if waiting:
        raise InputError(
            "the file ends before its frames do, or is damaged",
            got=f"{file.path}: frame {waiting[0]} of {picture.num_frames} is missing",
            expected="a file that is whole",
        )
    still, missing = picture.num_frames == 1, min(timeline.seconds, timeline.seconds + start - picture.seconds)
    known = sum(start + place / timeline.fps < picture.seconds for place in range(timeline.num_frames))
    return VideoClip(frames, timeline.fps), PictureFit(
        num_frames=picture.num_frames,
        fps=picture.fps,
        wanted_fps=timeline.fps,
        size=file.size,
        wanted_size=size,
        area=area,
        seconds=float(picture.seconds),
        used_seconds=float(timeline.seconds),
        missing_seconds=0.0 if still else max(0.0, float(missing)),
        known_frames=1 if still else known,
    )


def _decoded(file: UserFile, first: int) -> Iterator[tuple[int, av.VideoFrame]]:
    """Frames with their numbers, from ``first`` or an earlier one on."""
    picture = file.picture
    with reading(file.path):
        if picture.timed and picture.begins[first] > _SEEK_SECONDS:
            numbers = {time: index for index, time in enumerate(picture.times)}
            with opened(file.path) as source:
                stream = moving_picture(file.path, source)
                source.seek(picture.times[first], stream=stream)
                frames = source.decode(stream)
                head = next(frames, None)
                if head is not None and numbers.get(head.pts, first + 1) <= first:
                    for frame in chain([head], frames):
                        if frame.pts in numbers:
                            yield numbers[frame.pts], frame
                    return
        with opened(file.path) as source:
            stream = moving_picture(file.path, source)
            stream.thread_type = "AUTO"
            yield from enumerate(source.decode(stream))


def _upright(frame: av.VideoFrame, file: UserFile) -> Tensor:
    """``(H, W, 3)`` in 0..1."""
    return to_float(torch.from_numpy(placed(rgb_picture(frame), file.turn, file.flipped).copy()))


def _in_pixels(area: Area, size: tuple[int, int], pixels: Tensor) -> Area:
    """A part of the played picture in the stored one's pixels, which need not be square."""
    rows, columns = pixels.shape[:2]
    if (columns, rows) == size:
        return area
    across, down = Fraction(columns, size[0]), Fraction(rows, size[1])
    left, top, width, height = area
    return round(left * across), round(top * down), max(1, round(width * across)), max(1, round(height * down))


def _as_played(path: Path, picture: MovingPicture) -> tuple[tuple[int, int], int, bool, list[str]]:
    """Size, quarter turns and flip of the first frame, and what is to be said of it."""
    with opened(path) as source, reading(path):
        stream = moving_picture(path, source)
        frame = next(source.decode(stream), None)
        shape = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
        if frame is None:
            raise InputError("no frame of this file can be decoded", got=path, expected="a video or a picture")
        turn, flipped = upright(frame, stream.codec_context.name)
        light = LIGHT.get(int(frame.color_trc or 0), "")
        interlaced = frame.interlaced_frame
    width, height = max(1, round(frame.width * shape)), frame.height
    require_modest_size(path, width, height)
    size = (height, width) if turn % 2 else (width, height)
    told = {
        f"The picture was turned upright by {90 * min(turn, 4 - turn)}°.": turn,
        "The picture was mirrored, as the file says.": flipped,
        f"The picture is HDR ({light}); its light was taken as it is stored, so that it looks paler here.": light,
        "The picture is interlaced; its two fields were left together.": interlaced,
        f"The picture's pixels are not square; it is played as {size[0]}×{size[1]}.": shape != 1,
        "The file shows its frames at changing intervals; each was taken by its own time.": not picture.is_steady,
    }
    return size, turn, flipped, [sentence for sentence, happened in told.items() if happened]


def _sound(path: Path, picture: MovingPicture | None) -> tuple[AudioClip | None, list[str]]:
    """The first sound of a file from its first frame on, and what is to be said of it."""
    blocks, begin = SoundBlocks(path), None
    with opened(path) as source, reading(path):
        for frame in source.decode(audio=0) if source.streams.audio else ():
            ask_to_stop()
            if begin is None and frame.pts is not None:
                begin = frame.pts * Fraction(frame.time_base)
            blocks.add(frame)
    if not blocks:
        return None, []
    audio, note = mix_down(torch.from_numpy(blocks.planes()), blocks.rate, blocks.channels)
    rate = blocks.rate
    told = [note] if note else []
    late = Fraction(0) if picture is None or begin is None else begin - picture.first * picture.time_base
    if abs(late) <= _TOGETHER_SECONDS:
        return audio, told
    if abs(late) > MOST_SECONDS:
        raise InputError(
            "sound and picture of this file do not belong together",
            got=f"{path}: the sound begins {float(late):.6g} s after the picture",
            expected="one clip",
        )
    shift = samples_for(abs(late), rate)
    told.append(f"The sound begins {float(abs(late)):.3f} s {'after' if late > 0 else 'before'} the picture.")
    waveform = F.pad(audio.waveform, (shift, 0)) if late > 0 else audio.waveform[:, shift:]
    return AudioClip(waveform.contiguous(), rate), told
