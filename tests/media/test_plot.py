"""The picture of a clip shows what happens when."""

import numpy as np
import pytest
import torch
from PIL import Image
from sounding_video.core.errors import InputError, NonFiniteError
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.media.plot import time_axis_picture

LEFT, RIGHT = 58, 16


def _column(seconds, length, width=1200):
    return LEFT + seconds / length * (width - LEFT - RIGHT)


def test_waveform_stands_where_the_sound_is(tmp_path):
    waveform = torch.zeros(1, 88_200)
    waveform[0, 44_100:48_510] = 0.9 * torch.sin(torch.arange(4410) * 0.3)  # 1.0 s to 1.1 s
    time_axis_picture(AVClip(None, AudioClip(waveform, 44_100)), tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB")).astype(int)
    blue = (picture == (31, 98, 166)).all(-1).sum(0)
    loud = np.flatnonzero(blue > 20)
    assert abs(loud[0] - _column(1.0, 2)) <= 2 and abs(loud[-1] - _column(1.1, 2)) <= 2


def test_thumbnails_follow_the_axis(tmp_path):
    """Frame k is grey of level k: the strip gets brighter to the right, and starts with frame 0."""
    frames = (torch.arange(16) / 15).reshape(16, 1, 1, 1).expand(16, 36, 64, 3)
    clip = AVClip(VideoClip(frames, 16), AudioClip(torch.zeros(1, 16_000), 16_000))
    time_axis_picture(clip, tmp_path / "a.png")
    row = np.asarray(Image.open(tmp_path / "a.png").convert("L")).astype(int)[60]
    levels = [row[round(_column(second, 1)) + 5] for second in (0, 0.25, 0.5, 0.75, 0.99)]
    assert levels[0] == 0 and levels == sorted(set(levels))


def test_markers_and_sizes(tmp_path, make_clip):
    clip = make_clip(10)
    time_axis_picture(clip, tmp_path / "a.png", width=640, markers_seconds=[0.25])
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert picture.shape[1] == 640
    red = np.flatnonzero((picture == (214, 60, 48)).all(-1).sum(0) > 100)
    assert abs(red.mean() - _column(0.25, 10 / 15, 640)) <= 1
    for only in (AVClip(clip.video), AVClip(None, clip.audio), make_clip(1, size=(200, 16))):
        time_axis_picture(only, tmp_path / "b.png", width=320)
        assert Image.open(tmp_path / "b.png").width == 320
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_refusals(tmp_path, make_clip):
    clip = make_clip(3)
    with pytest.raises(InputError, match="too narrow: got 100"):
        time_axis_picture(clip, tmp_path / "a.png", width=100)
    with pytest.raises(InputError, match=r"name ending in \.png"):
        time_axis_picture(clip, tmp_path / "a.gif")
    with pytest.raises(InputError, match=r"marker lies outside the clip: got 3\.0 s; expected 0 to 0\.200 s"):
        time_axis_picture(clip, tmp_path / "a.png", markers_seconds=[3.0])
    with pytest.raises(InputError, match="the sound is empty"):
        time_axis_picture(AVClip(None, AudioClip(torch.zeros(1, 0), 8000)), tmp_path / "a.png")
    with pytest.raises(NonFiniteError, match="frames tensor contains NaN"):
        time_axis_picture(AVClip(VideoClip(torch.full((1, 4, 4, 3), torch.nan), 15)), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []
