"""Pictures as numbers: 0..1 floats to 8 bit and back, RGB to BT.709 YUV and back, rounded to nearest everywhere."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace
from torch import Tensor

from ..core.errors import InputError
from ..core.types import VideoClip, require_finite

# Resamplers and upscalers overshoot 0..1 a little; that is clamped and counted. Frames in -1..1 or 0..255 lie beyond.
MAX_OVERSHOOT = 0.25
YUV = "yuv420p"

# FFmpeg's own numbers: PyAV has had names for them since its versions 17 and 18 only.
BT709 = 1  # AVCOL_PRI_BT709 and AVCOL_TRC_BT709
# SWS_BICUBIC, SWS_FULL_CHR_H_INT, SWS_FULL_CHR_H_INP, SWS_ACCURATE_RND. Without accurate rounding and full chroma,
# swscale darkens every code by 1 to 2 (measured over random colours).
_EXACT = 0x4 | 0x2000 | 0x4000 | 0x40000
# Newer encoders take them from the frame, older ones from their context alone.
_TAGS = {"dst_color_trc": BT709, "dst_color_primaries": BT709} if int(av.__version__.partition(".")[0]) >= 17 else {}
_MATRICES = {int(space) for space in Colorspace}


def check_frames(frames: Tensor) -> int:
    """Refuse frames that an 8-bit picture cannot show.

    Args:
        frames: ``(F, H, W, 3)``, nominally 0..1.

    Returns:
        How many values lie outside 0..1 by overshoot (at most 0.25) and will be written as 0 or 1.

    Raises:
        NonFiniteError: NaN or infinity.
        InputError: odd width or height, or values outside 0..1 by more than overshoot.
    """
    height, width = frames.shape[1:3]
    if width % 2 or height % 2 or not width or not height:
        raise InputError(
            "the picture's width and height must be even",
            got=f"{width}×{height}",
            expected=f"for example {max(2, width // 2 * 2)}×{max(2, height // 2 * 2)}",
            remedy="Video stores colour for blocks of 2×2 pixels; crop or pad the frames by one pixel.",
        )
    low, high = require_display_range(frames)
    if low >= 0 and high <= 1:
        return 0
    return int(((frames < 0) | (frames > 1)).sum())


def require_display_range(frames: Tensor) -> tuple[float, float]:
    """Refuse frames that are not in 0..1, overshoot aside; returns their least and greatest value.

    Args:
        frames: Any shape.

    Raises:
        NonFiniteError: NaN or infinity.
        InputError: values outside 0..1 by more than overshoot.
    """
    require_finite("the frames tensor", frames, "The decoder overflowed; try dtype float32 or bfloat16 for it.")
    low, high = (float(value) for value in torch.aminmax(frames))
    if low < -MAX_OVERSHOOT or high > 1 + MAX_OVERSHOOT:
        raise InputError(
            "the frames hold values outside 0..1",
            got=f"{low:.4g} to {high:.4g}",
            expected="0 (black) to 1 (white)",
            remedy="Scale or clamp them before writing; 0..255 must be divided by 255, -1..1 mapped by (x + 1) / 2.",
        )
    return low, high


def to_uint8(frames: Tensor) -> Tensor:
    """0..1 to 0..255, rounded to nearest; overshoot outside 0..1 becomes 0 or 255. Any shape, any float type."""
    return frames.detach().to("cpu", torch.float32).clamp(0, 1).mul(255).round().to(torch.uint8)


def to_float(pictures: Tensor) -> Tensor:
    """0..255 uint8 to 0..1 float32."""
    return pictures.to(torch.float32).div_(255)


def coded_frame(video: VideoClip, index: int, pixel_format: str = YUV) -> av.VideoFrame:
    """Frame ``index`` for an encoder, stamped with its time in units of 1 / fps.

    Args:
        video: Pictures.
        index: Which.
        pixel_format: "yuv420p", and then it is BT.709 in limited range; or a format of RGB, which loses nothing.
    """
    picture = to_uint8(video.frames[index]).contiguous().numpy()
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    frame = _as_yuv(frame) if pixel_format == YUV else frame.reformat(format=pixel_format)
    frame.pts, frame.time_base = index, 1 / Fraction(video.fps)
    return frame


def _as_yuv(frame: av.VideoFrame) -> av.VideoFrame:
    return frame.reformat(
        format=YUV,
        src_colorspace=Colorspace.ITU709,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation=_EXACT,
        **_TAGS,
    )


def rgb_picture(frame: av.VideoFrame) -> np.ndarray:
    """A decoded frame as ``(H, W, 3)`` uint8 RGB, by the matrix and range that the file names.

    A file that names no matrix is read as players read it: BT.601 below 720 lines, BT.709 from there on.
    """
    if frame.format.is_rgb:
        return frame.to_ndarray(format="rgb24")
    guess = Colorspace.ITU601 if frame.height < 720 else Colorspace.ITU709
    return frame.reformat(
        format="rgb24",
        src_colorspace=frame.colorspace if int(frame.colorspace) in _MATRICES else guess,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=frame.color_range or ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=_EXACT,
    ).to_ndarray()
