"""Small real files of the kinds that users have: other codecs and containers, rotated, of variable rate, HDR, late."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from sounding_video.media.writers.pyav import repeatable_options

WIDTH, HEIGHT = 64, 48


def write_file(
    path: Path,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    times: Sequence[int] | None = None,
    num_frames: int = 12,
    rotation: int = 0,
    hdr: bool = False,
    sound: str = "",
    sound_late: float = 0.0,
    pixel_shape: Fraction | None = None,
    **options: str,
) -> Path:
    """Write a file whose frame i is noise of seed i.

    Args:
        path: The suffix chooses the container.
        codec: FFmpeg's encoder.
        pixels: Pixel format.
        times: When each frame is shown, milliseconds; by default 15 a second.
        num_frames: Without ``times``.
        rotation: Degrees, as phones note it.
        hdr: Note BT.2020 and PQ.
        sound: FFmpeg's encoder of a second of a tone; empty for none.
        sound_late: Seconds by which it begins after the picture.
        pixel_shape: Width of a pixel by its height.
        options: Of the encoder.
    """
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=15, options={**repeatable_options(codec), **options})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        unit = Fraction(1, 1000) if times else Fraction(1, 15)
        stream.codec_context.time_base = stream.time_base = unit
        if pixel_shape:
            stream.codec_context.sample_aspect_ratio = pixel_shape
        if rotation:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("PyAV writes no rotation before 18")
            stream.set_display_rotation(rotation)
        if hdr:
            context = stream.codec_context
            context.color_primaries, context.color_trc, context.colorspace = 9, 16, 9
        track = output.add_stream(sound, rate=48_000, layout="stereo") if sound else None
        for index, time in enumerate(times or range(num_frames)):
            picture = np.random.default_rng(index).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = time, unit
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if track is not None:
            tone = np.sin(np.arange(48_000) * 0.05).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48_000, round(48_000 * sound_late), Fraction(1, 48_000)
            output.mux([*track.encode(frame), *track.encode(None)])
    return path


def write_sound_with_cover(path: Path) -> Path:
    """A sound file with a picture that is only attached to it, as music players make them."""
    with av.open(str(path), "w") as output:
        track = output.add_stream("aac", rate=48_000, layout="mono")
        cover = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        cover.disposition = cover.disposition.attached_pic.value
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuvj420p")
        frame.pts, frame.time_base = 0, Fraction(1)
        output.mux([*cover.encode(frame), *cover.encode(None)])
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.float32), format="fltp", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = 48_000, 0, Fraction(1, 48_000)
        output.mux([*track.encode(sound), *track.encode(None)])
    return path
