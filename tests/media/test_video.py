"""8-bit rounding and colour, through YUV and back."""

import numpy as np
import pytest
import torch
from sounding_video.core.errors import InputError
from sounding_video.core.types import VideoClip
from sounding_video.media.video import check_frames, coded_frame, rgb_picture, to_float, to_uint8


def test_every_code_survives():
    codes = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(codes)), codes)


def test_rounds_to_nearest():
    values = torch.tensor([0.499, 0.501, 127.4, 127.6, 254.51, 255.0]) / 255
    assert to_uint8(values).tolist() == [0, 1, 127, 128, 255, 255]
    assert to_uint8(torch.tensor([-0.004, 1.004])).tolist() == [0, 255]


def test_check_frames_counts_noise():
    frames = torch.full((2, 4, 4, 3), 0.5)
    assert check_frames(frames) == 0
    frames[0, 0, 0] = torch.tensor([-0.001, 1.001, 1.0])
    assert check_frames(frames) == 2
    with pytest.raises(InputError, match=r"outside 0\.\.1: got -1 to 1.*-1\.\.1 mapped"):
        check_frames(frames.mul(2).sub(1).clamp(-1, 1))


def test_bt709_codes_are_the_standards():
    """Limited range, ITU-R BT.709: Y = 16 + 219 Y', C = 128 + 224 C', rounded to nearest."""
    generator = torch.Generator().manual_seed(0)
    for colour in torch.rand((100, 3), generator=generator).mul(255).round() / 255:
        frame = coded_frame(VideoClip(colour.expand(1, 16, 16, 3), 15), 0)
        planes = frame.to_ndarray()
        red, green, blue = colour.double().tolist()
        luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        expected = [16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748]
        assert np.abs(np.array([planes[8, 8], planes[17, 2], planes[21, 2]]) - expected).max() < 0.52
        assert np.abs(rgb_picture(frame)[8, 8] - colour.numpy() * 255).max() <= 2.5
