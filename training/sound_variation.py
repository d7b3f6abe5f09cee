"""Sounds that the data lacks: other pitches, tempi and colours of those that it has, for decoders of any sound."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

OCTAVES = 0.8  # Furthest change of speed, either way.
GAIN_DB = 7.0  # Deviation of the equaliser's gains.
GAIN_HZ = (60.0, 150.0, 400.0, 1_000.0, 2_500.0, 6_000.0, 15_000.0)


def vary_sound(sound: Tensor, sample_rate: int, generator: torch.Generator) -> Tensor:
    """Play a sound at another speed, through an equaliser of random gains; a short one starts again.

    Args:
        sound: ``(channels, samples)``.
        sample_rate: Hz.
        generator: What decides.

    Returns:
        As many samples, none beyond 1 in amount unless the sound's were.
    """
    length = sound.shape[-1]
    octaves, place = torch.rand(2, generator=generator).tolist()
    played = max(1, round(length * 2 ** (OCTAVES * (2 * octaves - 1))))
    gains = 10 ** (GAIN_DB / 20 * torch.randn(len(GAIN_HZ), generator=generator))
    spectrum = torch.fft.rfft(sound) * _equaliser(gains, length, sample_rate)
    # Fewer or more samples of one spectrum: a band-limited change of the sampling rate.
    varied = torch.fft.irfft(spectrum[..., : played // 2 + 1], played) * (played / length)
    repeats = -(-length // played)
    first = round(place * (repeats * played - length))
    varied = varied.repeat(1, repeats)[..., first : first + length]
    limit = max(1.0, float(sound.abs().max()))
    return varied * min(1.0, limit / max(float(varied.abs().max()), 1e-9))


def _equaliser(gains: Tensor, length: int, sample_rate: int) -> Tensor:
    """Gain of each frequency of a spectrum, straight over the logarithm of Hz between the given points."""
    hertz = torch.fft.rfftfreq(length, 1 / sample_rate).clamp_min(GAIN_HZ[0])
    return torch.from_numpy(np.interp(hertz.log(), np.log(GAIN_HZ), gains.log())).float().exp()
