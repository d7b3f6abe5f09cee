"""Bring a user's clip to what a model works on: its rate, size and length; and say what was done on the way.

The fitted clip is a copy for the encoders. What goes into the file is the user's own picture and sound (:mod:`.own`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.clock import Timeline, frames_at, samples_for
from ..core.errors import InputError, require_choice
from ..core.progress import ask_to_stop
from ..core.types import AudioClip, AVClip, VideoClip
from .audio import FADE_SECONDS, fit_length, resample, to_channels
from .fit_report import Area, FitReport, PictureFit, SoundFit
from .video import require_display_range

RESIZE, SHORT = ("bicubic", "bilinear"), ("pad", "loop")


@dataclass(frozen=True)
class FitStyle:
    """How a clip is brought to a timeline; the defaults are for a user's clip.

    Pictures are cropped to the wanted shape and never framed by bars: no tower was trained on bars, and bridges would
    hear them. The crop costs nothing that anybody sees, because the user's own picture goes into the file.

    Args:
        nearest_frames: Take the source frame that begins nearest to each wanted time; False takes the one on screen
            then, up to a frame late.
        resize: ``bicubic``, or ``bilinear`` (scaled first and cropped then); both average where they shrink.
        short: What ends early is held and silent (``pad``) or repeated (``loop``).
        fade_seconds: Fade before that silence, so that it does not begin with a click.
    """

    nearest_frames: bool = True
    resize: str = "bicubic"
    short: str = "pad"
    fade_seconds: float = FADE_SECONDS

    def __post_init__(self) -> None:
        require_choice("resize", self.resize, RESIZE)
        require_choice("way to fill what ends early", self.short, SHORT)


USER = FitStyle()


def fit_clip(
    clip: AVClip, timeline: Timeline, *, start: Fraction = Fraction(0), channels: int = 2, style: FitStyle = USER
) -> tuple[AVClip, FitReport]:
    """A part of a clip at a model's rate, size and length, both modalities from the same moment, to the sample.

    Pictures are taken by time, so that a cut stays where it is at any pair of rates; they are never mixed. Sound is
    resampled, brought to the codec's channels, and cut or followed by silence; it is never stretched. A clip of one
    frame is a still and stands for the whole time. A modality that the clip lacks stays absent.

    Args:
        clip: Any rate, size and length; picture and sound may differ in length.
        timeline: What to fit to.
        start: Where the part begins in the clip, seconds, exact: for a window :attr:`~..core.windows.Window.start`.
        channels: Of the audio codec, 1 or 2.
        style: How; training has a style of its own.

    Returns:
        The fitted clip: ``(num_frames, height, width, 3)`` at ``timeline.fps``, and ``(channels, num_samples)`` at the
        codec's rate, float32 on the CPU; and what was cut, resampled and cropped.

    Raises:
        InputError: pictures outside 0..1, or a start below zero.
        NonFiniteError: NaN or infinity in them.
    """
    if start < 0:
        raise InputError("a part of a clip begins before it", got=f"{float(start):g} s", expected="0 s or later")
    start = Fraction(start)
    video, picture = (None, None) if clip.video is None else _fit_picture(clip.video, timeline, start, style)
    audio, sound = (None, None) if clip.audio is None else fit_sound(clip.audio, timeline, start, channels, style)
    return AVClip(video, audio), FitReport(float(start), picture, sound)


def _fit_picture(
    video: VideoClip, timeline: Timeline, start: Fraction, style: FitStyle
) -> tuple[VideoClip, PictureFit]:
    total, (height, width) = video.frames.shape[0], video.frames.shape[1:3]
    size = (timeline.width, timeline.height)
    picked = _picked(video, timeline, start, style)
    sources = sorted(set(picked))
    frames, area = _RESIZE[style.resize](video.frames, sources, size)
    places = {source: place for place, source in enumerate(sources)}
    fitted = frames if picked == sources else frames[[places[source] for source in picked]]
    missing = min(timeline.seconds, timeline.seconds + start - video.seconds)
    return VideoClip(fitted, timeline.fps), PictureFit(
        num_frames=total,
        fps=video.fps,
        wanted_fps=timeline.fps,
        size=(width, height),
        wanted_size=size,
        area=area,
        seconds=float(video.seconds),
        used_seconds=float(timeline.seconds),
        missing_seconds=0.0 if total == 1 else max(0.0, float(missing)),
        known_frames=_num_known(video, timeline, start),
        short=style.short,
    )


def _picked(video: VideoClip, timeline: Timeline, start: Fraction, style: FitStyle) -> list[int]:
    """The source's frame for each wanted one."""
    total, rates = video.frames.shape[0], (timeline.fps, video.fps)
    num_frames = max(1, int(video.seconds * timeline.fps))
    first = start * timeline.fps
    if style.short == "loop" or not style.nearest_frames:
        # In wanted frames: a clip that is repeated begins anew on one of them.
        places = [first + index for index in range(timeline.num_frames)]
        held = [place % num_frames if style.short == "loop" else min(place, num_frames - 1) for place in places]
        found = [frames_at(place / timeline.fps, 1, *rates, nearest=style.nearest_frames)[0] for place in held]
    else:
        found = frames_at(start, timeline.num_frames, *rates)
    return [min(total - 1, index) for index in found]


def _num_known(video: VideoClip, timeline: Timeline, start: Fraction) -> int:
    """How many of the wanted frames the source has; a still is one."""
    total = video.frames.shape[0]
    if total == 1:
        return 1
    return sum(index < total for index in frames_at(start, timeline.num_frames, timeline.fps, video.fps))


def _scaled_then_cropped(frames: Tensor, sources: list[int], size: tuple[int, int]) -> tuple[Tensor, Area]:
    """Scale until the picture covers the wanted size, then cut its middle."""
    (width, height), (rows, columns) = size, frames.shape[1:3]
    chosen = frames[sources]
    if (columns, rows) == (width, height):
        return chosen, (0, 0, columns, rows)
    scale = max(width / columns, height / rows)
    scaled_size = (max(height, round(rows * scale)), max(width, round(columns * scale)))
    scaled = F.interpolate(chosen.permute(0, 3, 1, 2), scaled_size, mode="bilinear", antialias=True)
    top, left = (scaled_size[0] - height) // 2, (scaled_size[1] - width) // 2
    cropped = scaled[:, :, top : top + height, left : left + width].permute(0, 2, 3, 1).clamp(0, 1)
    return cropped, middle_of(columns, rows, width, height)


def _cropped_then_scaled(frames: Tensor, sources: list[int], size: tuple[int, int]) -> tuple[Tensor, Area]:
    """Cut the middle of the wanted shape and scale it, frame by frame: a user's clip may be 4K and fill the memory."""
    (width, height), (rows, columns) = size, frames.shape[1:3]
    area = middle_of(columns, rows, width, height)
    fitted = torch.empty(len(sources), height, width, 3)
    for place, source in enumerate(sources):
        ask_to_stop()
        fitted[place] = crop_and_scale(frames[source], area, size)
    return fitted, area


def crop_and_scale(picture: Tensor, area: Area, size: tuple[int, int]) -> Tensor:
    """A part of a picture at another size, float32 on the CPU in 0..1.

    Args:
        picture: ``(H, W, 3)``; its range is looked at here, since clamping would hide pictures in 0..255.
        area: Left, top, width and height of the part, pixels.
        size: Wanted width and height.

    Raises:
        InputError, NonFiniteError: values that are no picture's.
    """
    picture = picture.detach().to("cpu", torch.float32)
    require_display_range(picture)
    left, top, width, height = area
    part = picture[top : top + height, left : left + width]
    if (width, height) != size:
        planes = part.permute(2, 0, 1)[None]
        part = F.interpolate(planes, size[::-1], mode="bicubic", antialias=True)[0].permute(1, 2, 0)
    return part.clamp(0, 1)


def middle_of(width: int, height: int, wanted_width: int, wanted_height: int) -> Area:
    """The largest part of a picture with the wanted shape, in its middle: left, top, width and height in pixels."""
    if width * wanted_height >= height * wanted_width:
        part = max(1, min(width, math.floor(Fraction(height * wanted_width, wanted_height) + Fraction(1, 2))))
        return (width - part) // 2, 0, part, height
    part = max(1, min(height, math.floor(Fraction(width * wanted_height, wanted_width) + Fraction(1, 2))))
    return 0, (height - part) // 2, width, part


_RESIZE: dict[str, Callable[[Tensor, list[int], tuple[int, int]], tuple[Tensor, Area]]] = {
    "bicubic": _cropped_then_scaled,
    "bilinear": _scaled_then_cropped,
}


def fit_sound(
    audio: AudioClip, timeline: Timeline, start: Fraction, channels: int, style: FitStyle
) -> tuple[AudioClip, SoundFit]:
    """The sound of :func:`fit_clip`, by itself."""
    rate, wanted = timeline.geometry.sample_rate, timeline.num_samples
    sound = to_channels(resample(audio, rate), channels).waveform
    first = samples_for(start, rate)
    window = sound[:, first : first + wanted].to("cpu", torch.float32)
    available = window.shape[1]
    if style.short == "loop" and available:
        fitted = window.repeat(1, -(-wanted // available))[:, :wanted].contiguous()
    elif available:
        fitted = fit_length(AudioClip(window, rate), wanted, fade_seconds=style.fade_seconds).waveform.contiguous()
    else:
        fitted = window.new_zeros(channels, wanted)
    return AudioClip(fitted, rate), SoundFit(
        sample_rate=audio.sample_rate,
        wanted_rate=rate,
        channels=audio.waveform.shape[0],
        wanted_channels=channels,
        seconds=float(audio.seconds),
        used_seconds=float(timeline.seconds),
        missing_seconds=(wanted - available) / rate,
        known_samples=available,
        short=style.short,
    )
