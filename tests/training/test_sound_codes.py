"""Cepstral codes: what they say about level, moment and side, and that a codec learns from them."""

from __future__ import annotations

import math

import pytest
import torch
from sounding_video.core.errors import GeometryError
from sounding_video.training.assembly import build_workbench
from sounding_video.training.sound_codes import KEPT, SILENCE_LEVEL, sound_codes

HOP, RATE = 2048, 44_100


def codes(sound: torch.Tensor) -> torch.Tensor:
    return sound_codes(sound, hop=HOP, sample_rate=RATE)


def tone(hertz: float, level: float = 0.3, frames: int = 6) -> torch.Tensor:
    wave = level * torch.sin(2 * math.pi * hertz / RATE * torch.arange(frames * HOP))
    return torch.stack([wave, wave])[None]


def test_silence_is_one_constant_frame() -> None:
    silent = codes(torch.zeros(1, 2, 5 * HOP))
    assert silent.shape == (1, 64, 5)
    assert torch.equal(silent[0, 1:], torch.zeros(63, 5))
    assert float(silent[0, 0, 0]) == pytest.approx(-SILENCE_LEVEL / 4)


def test_level_raises_the_first_coefficient_and_pitch_changes_the_shape() -> None:
    quiet, loud, high = codes(tone(400, 0.05)), codes(tone(400, 0.5)), codes(tone(4000, 0.5))
    assert float((loud - quiet)[0, 0, 2:4].min()) > 0.2
    assert float((high - loud)[0, 1:40, 2:4].abs().mean()) > 0.3


def test_a_moment_within_a_frame_can_be_told() -> None:
    """Two clicks in the same frame, 11 ms apart, differ in the coefficients of the frame's own time."""
    clicks = torch.zeros(2, 2, 4 * HOP)
    clicks[0, :, 2 * HOP + 200], clicks[1, :, 2 * HOP + 200 + 2 * HOP // 4] = 0.9, 0.9
    early, late = codes(clicks)[:, sum(KEPT[:1]) : sum(KEPT), 2]
    assert float((early - late).abs().max()) > 0.3


def test_the_last_channel_says_the_side() -> None:
    left = tone(500)
    left[:, 1] = 0
    assert float(codes(left)[0, -1].min()) > 0.95
    assert float(codes(left.flip(1))[0, -1].max()) < -0.95
    assert float(codes(tone(500))[0, -1].abs().max()) < 1e-3


def test_another_codec_is_refused(small_run, small_models_dir) -> None:
    with pytest.raises(GeometryError, match="64 and 2"):
        build_workbench(small_run("pocket_oobleck", "objective.codes=cepstral"), small_models_dir)
