import math
from fractions import Fraction

import pytest
import torch
from sounding_video.core.types import AudioClip, AVClip, VideoClip


@pytest.fixture(scope="session")
def make_clip():
    """A clip of flat random colours with clicks in the sound at chosen samples."""

    def make(num_frames=4, fps=Fraction(15), sample_rate=44_100, *, size=(32, 48), clicks=(), channels=2, extra=0):
        generator = torch.Generator().manual_seed(num_frames * 1000 + sample_rate)
        height, width = size
        frames = (
            torch.rand((num_frames, 1, 1, 3), generator=generator).expand(num_frames, height, width, 3).contiguous()
        )
        num_samples = math.floor(num_frames / Fraction(fps) * sample_rate + Fraction(1, 2)) + extra
        waveform = torch.zeros(channels, num_samples)
        for click in clicks:
            waveform[:, click] = 0.9
        return AVClip(VideoClip(frames, fps), AudioClip(waveform, sample_rate))

    return make


@pytest.fixture(scope="session")
def find_clicks():
    """Where the loudest separate peaks of a waveform are, in time order."""

    def find(waveform, count):
        level, found = waveform[0].abs().clone(), []
        for _ in range(count):
            at = int(level.argmax())
            found.append(at)
            level[max(0, at - 60) : at + 60] = 0
        return sorted(found)

    return find
