"""Varied sounds: the same for the same generator, another pitch and colour, as long and no louder than full scale."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from sounding_video.core.errors import InputError
from sounding_video.training.assembly import build_workbench
from sounding_video.training.batches import Batches
from sounding_video.training.sound_variation import OCTAVES, vary_sound
from torch import Tensor

RATE, LENGTH = 44_100, 18_432


def tone(hertz: float, level: float = 0.5) -> Tensor:
    times = torch.arange(LENGTH) / RATE
    return (level * torch.sin(2 * math.pi * hertz * times)).repeat(2, 1)


def pitch(sound: Tensor) -> float:
    """Hz of the loudest frequency of the left channel."""
    spectrum = torch.fft.rfft(sound[0] * torch.hann_window(LENGTH)).abs()
    return float(spectrum.argmax()) * RATE / LENGTH


def test_every_speed_within_reach_comes_up_and_none_beyond() -> None:
    octaves = [
        math.log2(pitch(vary_sound(tone(1_000), RATE, torch.Generator().manual_seed(seed))) / 1_000)
        for seed in range(200)
    ]
    assert min(octaves) == pytest.approx(-OCTAVES, abs=0.05)
    assert max(octaves) == pytest.approx(OCTAVES, abs=0.05)


def test_a_generator_decides_everything() -> None:
    first, again, other = (vary_sound(tone(440), RATE, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert first.shape == (2, LENGTH)
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


def test_the_equaliser_colours_noise_and_keeps_both_channels_alike() -> None:
    noise = torch.randn(1, LENGTH, generator=torch.Generator().manual_seed(0)).repeat(2, 1) * 0.1
    tilts = []
    for seed in range(60):
        varied = vary_sound(noise, RATE, torch.Generator().manual_seed(seed))
        assert torch.equal(varied[0], varied[1])
        spectrum = torch.fft.rfft(varied[0]).abs().square()
        hertz = torch.fft.rfftfreq(LENGTH, 1 / RATE)
        low, high = (spectrum[(hertz > a) & (hertz < 1.2 * a)].mean() for a in (150, 6_000))
        tilts.append(10 * math.log10(high / low))
    spread = float(torch.tensor(tilts).std())
    assert 5 < spread < 20  # two gains of 7 dB differ by 10 dB


def test_nothing_is_louder_than_full_scale_and_silence_stays_silent() -> None:
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        assert float(vary_sound(tone(300, level=0.99), RATE, generator).abs().max()) <= 1 + 1e-6
    assert not vary_sound(torch.zeros(2, LENGTH), RATE, torch.Generator().manual_seed(0)).any()


def test_a_share_of_the_windows_of_a_sound_codec_run_is_varied(small_run, tmp_path) -> None:
    def sounds(share: float) -> Tensor:
        config = small_run("pocket_oobleck", f"data.varied_share={share}")
        return Batches(config, build_workbench(config, Path(config.models.root)), tmp_path).at(0, 24).tensors["audio"]

    plain, some, all_of_them = sounds(0), sounds(0.5), sounds(1)
    audible = plain.abs().amax((1, 2)) > 1e-3
    same = torch.tensor([torch.equal(a, b) for a, b in zip(plain, some, strict=True)])
    assert audible.sum() >= 6
    assert 0.2 < float(same[audible].float().mean()) < 0.8
    varied = [not torch.equal(a, b) for a, b in zip(plain[audible], all_of_them[audible], strict=True)]
    assert all(varied)
    with pytest.raises(InputError, match=r"data\.varied_share"):
        small_run("pocket_oobleck", "data.varied_share=1.5")
