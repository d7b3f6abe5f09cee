"""A picture of a clip on one time axis: frames above, waveform and spectrogram below, so that sync can be seen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..core.errors import InputError
from ..core.types import AudioClip, AVClip, VideoClip, require_finite
from .files import new_file
from .tags import encode_tags
from .video import to_uint8

_BACKGROUND, _PANEL, _INK, _FAINT = (250, 250, 248), (255, 255, 255), (40, 40, 46), (214, 214, 210)
_WAVE, _PEAK, _MARKER, _MOTION = (31, 98, 166), (150, 188, 224), (214, 60, 48), (240, 150, 40)
# Spectrogram colours from quiet to loud: dark blue, violet, orange, pale yellow.
_COLOURS = torch.tensor(
    [(16, 16, 40), (84, 32, 112), (200, 66, 82), (248, 160, 62), (254, 246, 190)], dtype=torch.float32
)
_LEFT, _RIGHT, _TOP, _GAP, _AXIS = 58, 16, 36, 8, 30
_WAVE_HEIGHT, _SPECTROGRAM_HEIGHT = 120, 110
_RANGE_DB = 80.0
_LOWEST_HZ = 40.0
_STEPS_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600)


def time_axis_picture(
    clip: AVClip,
    path: str | PathLike[str],
    *,
    width: int = 1200,
    markers_seconds: Sequence[float] | None = None,
    peaks_seconds: Sequence[float] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Draw frames, waveform and spectrogram above one axis in seconds, and save a PNG.

    Each thumbnail is the frame that shows at the time under the thumbnail's left edge. The waveform's dark band is the
    RMS, the light one the peaks; the spectrogram covers 80 dB below its loudest point, on a logarithmic axis in Hz.

    Args:
        clip: Picture, sound or both.
        path: A name ending in .png.
        width: Pixels, at least 320.
        markers_seconds: Times to mark by vertical lines, for example onsets.
        peaks_seconds: Times to mark by arrows under the frames, for example of the motion's peaks.
        metadata: Tags as in a clip: a text each, anything but text as JSON.

    Raises:
        InputError: a width below 320, another suffix, a marker that is not a time in the clip, or a tag that cannot
            be kept.
        NonFiniteError: NaN or infinity in the clip.
        OutputError: the place cannot be written.
    """
    if width < 320:
        raise InputError("the plot is too narrow", got=width, expected="at least 320 pixels")
    if Path(path).suffix.lower() != ".png":
        raise InputError("the plot is a PNG picture", got=repr(Path(path).name), expected="a name ending in .png")
    if clip.audio is not None and clip.audio.waveform.shape[-1] == 0:
        raise InputError("the sound is empty", got="0 samples", expected="at least one sample")
    seconds = max(float(part.seconds) for part in (clip.video, clip.audio) if part is not None)
    markers, peaks = (list(times or ()) for times in (markers_seconds, peaks_seconds))
    for marker in (*markers, *peaks):
        if not 0 <= marker <= seconds:
            raise InputError("a marker lies outside the clip", got=f"{marker} s", expected=f"0 to {seconds:.3f} s")
    plot_width = width - _LEFT - _RIGHT
    panels: list[tuple[str, Image.Image]] = []
    if clip.video is not None:
        panels.append(("picture", _film_strip(clip.video, seconds, plot_width)))
    if clip.audio is not None:
        require_finite("the waveform", clip.audio.waveform)
        panels.append(("sound", _waveform(clip.audio, seconds, plot_width)))
        panels.append(("Hz", _spectrogram(clip.audio, seconds, plot_width)))
    canvas = _assemble(clip, panels, width, seconds, markers)
    if peaks and clip.video is not None:
        _draw_peaks(canvas, [_LEFT + time / seconds * plot_width for time in peaks], _TOP + panels[0][1].height)
    texts = PngInfo()
    for name, text in encode_tags(metadata).items():
        texts.add_text(name, text)
    with new_file(path) as part:
        canvas.save(part, format="PNG", pnginfo=texts)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _film_strip(video: VideoClip, seconds: float, width: int) -> Image.Image:
    """Thumbnails side by side, at most one per frame; time runs to the right as on the axis."""
    require_finite("the frames tensor", video.frames)
    num_frames, height, frame_width = video.frames.shape[:3]
    strip_width = max(1, round(width * float(video.seconds) / seconds))
    # about 76 pixels high; fewer and larger thumbnails when there are few frames
    count = max(1, min(num_frames, strip_width, round(strip_width / (76 * frame_width / height))))
    thumb_width = math.ceil(strip_width / count)
    thumb_height = max(1, min(160, round(thumb_width * height / frame_width)))
    thumb_width = min(thumb_width, max(1, round(thumb_height * frame_width / height)))
    strip = Image.new("RGB", (width, thumb_height), _BACKGROUND)
    draw = ImageDraw.Draw(strip)
    for index in range(count):
        left = round(strip_width * index / count)
        thumbnail = Image.fromarray(to_uint8(video.frames[index * num_frames // count]).numpy())
        strip.paste(thumbnail.resize((thumb_width, thumb_height), Image.Resampling.LANCZOS), (left, 0))
        draw.line([(left, 0), (left, thumb_height)], fill=_PANEL)
    draw.rectangle([strip_width, 0, width, thumb_height], fill=_BACKGROUND)
    return strip


def _column_edges(audio: AudioClip, seconds: float, width: int) -> np.ndarray:
    """First sample of each pixel column, and one beyond the last."""
    return np.floor(np.arange(width + 1) * (seconds / width) * audio.sample_rate).astype(int)


def _waveform(audio: AudioClip, seconds: float, width: int) -> Image.Image:
    """Peaks and RMS per pixel column, over all channels; the scale is -1..1, or wider when the sound is."""
    samples = audio.waveform.detach().to("cpu", torch.float32).numpy()
    reach = max(1.0, float(np.abs(samples).max()))
    panel = Image.new("RGB", (width, _WAVE_HEIGHT), _PANEL)
    draw, middle = ImageDraw.Draw(panel), (_WAVE_HEIGHT - 1) / 2

    def row(value: float) -> float:
        return middle - value / reach * middle

    for value in (-1.0, -0.5, 0.5, 1.0):
        draw.line([(0, row(value)), (width, row(value))], fill=_FAINT)
    edges = _column_edges(audio, seconds, width)
    for column in range(width):
        block = samples[:, edges[column] : max(edges[column + 1], edges[column] + 1)]
        if block.size:
            rms = math.sqrt(float(np.mean(block**2)))
            draw.line([(column, row(float(block.max()))), (column, row(float(block.min())))], fill=_PEAK)
            draw.line([(column, row(rms)), (column, row(-rms))], fill=_WAVE)
    return panel


def _spectrogram(audio: AudioClip, seconds: float, width: int) -> Image.Image:
    """Power of the channel mean in decibels, logarithmic in frequency from 40 Hz to half the sample rate."""
    mono = audio.waveform.detach().to("cpu", torch.float32).mean(0)
    window = 2 ** round(math.log2(max(64, audio.sample_rate * 0.04)))
    centres = torch.from_numpy(_column_edges(audio, seconds, width)[:-1])
    hop = max(1, round(audio.sample_rate * seconds / width / 2))
    power = torch.stft(
        mono, window, hop, window=torch.hann_window(window), center=True, pad_mode="constant", return_complex=True
    )
    decibels = 10 * torch.log10(power.abs().square() + 1e-12)
    level = ((decibels - decibels.max()) / _RANGE_DB + 1).clamp(0, 1)
    columns = (centres / hop).round().long()
    heard = columns < level.shape[1]
    rows = torch.exp(torch.linspace(math.log(audio.sample_rate / 2), math.log(_LOWEST_HZ), _SPECTROGRAM_HEIGHT))
    bins = rows / (audio.sample_rate / window)
    low = bins.floor().long().clamp(max=level.shape[0] - 2)
    weight = (bins - low).clamp(0, 1)[:, None]
    shown = level[:, columns.clamp(max=level.shape[1] - 1)]
    shown = (shown[low] * (1 - weight) + shown[low + 1] * weight) * heard
    return Image.fromarray(coloured(shown).numpy())


def coloured(level: Tensor) -> Tensor:
    """Levels in 0..1 (quiet to loud) to RGB uint8 along the spectrogram's colour scale, in a new last dimension."""
    position = level * (len(_COLOURS) - 1)
    low = position.floor().long().clamp(max=len(_COLOURS) - 2)
    weight = (position - low)[..., None]
    return (_COLOURS[low] * (1 - weight) + _COLOURS[low + 1] * weight).round().to(torch.uint8)


def _assemble(
    clip: AVClip, panels: list[tuple[str, Image.Image]], width: int, seconds: float, markers: list[float]
) -> Image.Image:
    """Panels under a heading, a time axis below, grid lines and markers through all of them."""
    height = _TOP + sum(panel.height + _GAP for _, panel in panels) + _AXIS
    canvas = Image.new("RGB", (width, height), _BACKGROUND)
    draw, plot_width = ImageDraw.Draw(canvas), width - _LEFT - _RIGHT
    draw.text((_LEFT, 6), _heading(clip), fill=_INK, font=_font(13))
    step = next((s for s in _STEPS_SECONDS if s / seconds * plot_width >= 64), _STEPS_SECONDS[-1])
    ticks = [index * step for index in range(math.floor(seconds / step + 1e-9) + 1)]
    top = _TOP
    for name, panel in panels:
        canvas.paste(panel, (_LEFT, top))
        _label(draw, name, clip, top, panel.height)
        draw.rectangle([_LEFT - 1, top - 1, _LEFT + plot_width, top + panel.height], outline=_FAINT)
        top += panel.height + _GAP
    axis = top - _GAP + 2
    draw.line([(_LEFT, axis), (_LEFT + plot_width, axis)], fill=_INK)
    decimals = max(0, -math.floor(math.log10(step))) if step < 1 else 0
    for tick in ticks:
        x = _LEFT + tick / seconds * plot_width
        draw.line([(x, axis), (x, axis + 5)], fill=_INK)
        text = f"{tick:.{decimals}f}" + (" s" if tick == 0 else "")
        draw.text((x, axis + 7), text, fill=_INK, font=_font(12), anchor="ma")
    for marker in markers:
        x = _LEFT + marker / seconds * plot_width
        draw.line([(x, _TOP), (x, axis)], fill=_MARKER, width=2)
        draw.polygon([(x - 5, _TOP - 7), (x + 5, _TOP - 7), (x, _TOP + 1)], fill=_MARKER)
    return canvas


def _draw_peaks(canvas: Image.Image, columns: Sequence[float], bottom: int) -> None:
    """Arrows that stand below the film strip and point at it."""
    draw = ImageDraw.Draw(canvas)
    for x in columns:
        draw.polygon([(x - 5, bottom + _GAP - 1), (x + 5, bottom + _GAP - 1), (x, bottom - 3)], fill=_MOTION)


def _heading(clip: AVClip) -> str:
    parts = []
    if clip.video is not None:
        num_frames, height, width = clip.video.frames.shape[:3]
        count = "1 frame" if num_frames == 1 else f"{num_frames} frames"
        length = f"{float(clip.video.seconds):.3f} s"
        parts.append(f"{count}, {width} x {height} at {clip.video.fps} fps, {length}")
    if clip.audio is not None:
        num_channels, num_samples = clip.audio.waveform.shape
        channels = "mono" if num_channels == 1 else "stereo"
        parts.append(
            f"{num_samples} samples {channels} at {clip.audio.sample_rate} Hz, {float(clip.audio.seconds):.3f} s"
        )
    return "    ".join(parts)


def _label(draw: ImageDraw.ImageDraw, name: str, clip: AVClip, top: int, height: int) -> None:
    """What a panel shows, or its scale, left of it."""
    font, right = _font(12), _LEFT - 6
    if name == "Hz":
        highest = clip.audio.sample_rate / 2
        for hertz in (100, 1000, 10_000):
            if hertz < highest:
                share = math.log(highest / hertz) / math.log(highest / _LOWEST_HZ)
                text = f"{hertz // 1000} kHz" if hertz >= 1000 else f"{hertz} Hz"
                draw.text((right, top + share * height), text, fill=_INK, font=font, anchor="rm")
    elif name == "sound":
        reach = max(1.0, float(clip.audio.waveform.abs().max()))
        for value in (-1, 0, 1):
            draw.text(
                (right, top + (0.5 - value / reach * 0.44) * height),
                f"{value:+d}" if value else "0",
                fill=_INK,
                font=font,
                anchor="rm",
            )
    else:
        draw.text((right, top + height / 2), name, fill=_INK, font=font, anchor="rm")
