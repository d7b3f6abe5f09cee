"""Sound by its physics: struck bodies as decaying modes, bursts of filtered noise, bubbles, tones.

Modes: a struck body rings as a sum of partials whose ratios come from its shape and whose decay comes from its
material (van den Doel and Pai, "The Sounds of Physical Shapes", 1998). Everything is float64 and leaves in 16 bits, so
that the last bit of a platform's sine does not reach the file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BLOCK = 256
PEAK = 0.97  # full scale is never reached


@dataclass(frozen=True)
class Body:
    """A struck body.

    Args:
        ratios: Partials relative to the lowest.
        decay_seconds: Time in which the lowest partial falls to 1/e.
        damping: How much faster high partials die: decay ∝ ratio^-damping.
        hardness_hz: Partials above this are excited ever less; soft contacts have a low one.
        click: Share of contact noise, 0..1.
    """

    ratios: tuple[float, ...]
    decay_seconds: float
    damping: float
    hardness_hz: float
    click: float


BAR = (1.0, 2.756, 5.404, 8.933, 13.345)  # free bar, Euler-Bernoulli
MEMBRANE = (1.0, 1.594, 2.136, 2.296, 2.653, 2.918, 3.156, 3.501)  # circular, Bessel zeros over the first
PLATE = (1.0, 1.42, 2.09, 2.56, 3.24, 4.11, 5.03)
BODIES = {
    "wood": Body(BAR, 0.045, 0.5, 2200, 0.35),
    "metal": Body(BAR, 0.30, 0.45, 9000, 0.15),
    "rubber": Body((1.0, 1.52, 2.1), 0.075, 0.8, 350, 0.12),
    "glass": Body((1.0, 1.83, 2.71, 4.34), 0.16, 0.3, 12000, 0.12),
    "clay": Body((1.0, 1.71, 2.93, 4.02), 0.03, 0.4, 1500, 0.45),
    "iron": Body((1.0, 1.51, 2.42, 3.93, 5.37, 7.11), 0.38, 0.5, 9000, 0.22),
    "steel": Body((1.0, 1.59, 2.76, 4.46, 5.40, 8.21), 0.50, 0.4, 12000, 0.2),
    "bronze": Body((1.0, 1.19, 2.0, 2.74, 4.07, 5.3), 0.6, 0.6, 5000, 0.15),
    "skin": Body(MEMBRANE, 0.16, 0.7, 700, 0.15),
    "door wood": Body(PLATE, 0.055, 0.6, 900, 0.3),
    "door metal": Body(PLATE, 0.22, 0.5, 2500, 0.2),
    "door glass": Body(PLATE, 0.10, 0.3, 5000, 0.15),
}


class Stage:
    """Stereo sound being built up.

    Args:
        num_samples: Length.
        sample_rate: Hz.
        generator: For noise.
    """

    def __init__(self, num_samples: int, sample_rate: int, generator: np.random.Generator) -> None:
        self.sample_rate, self.generator = sample_rate, generator
        self.mix = np.zeros((2, num_samples))

    @property
    def num_samples(self) -> int:
        """Samples per channel."""
        return self.mix.shape[1]

    def add(self, voice: np.ndarray, time: float, *, place: float, gain: float) -> None:
        """Let a voice ``(samples,)`` sound from a moment on, from a place -1 (left) .. 1 (right), at constant power."""
        start = math.ceil(time * self.sample_rate)  # never before the event
        part = voice[: max(self.num_samples - start, 0)]
        angle = (min(max(place, -1.0), 1.0) * 0.8 + 1) * math.pi / 4
        for channel, level in zip(self.mix, (math.cos(angle), math.sin(angle)), strict=True):
            channel[start : start + len(part)] += part * (gain * level)

    def strike(self, body: Body, pitch_hz: float, time: float, *, place: float, strength: float) -> None:
        """Strike a body: louder and brighter with strength (0..1)."""
        hardness = body.hardness_hz * (0.5 + 0.5 * strength)
        self.add(self._ring(body, pitch_hz, hardness), time, place=place, gain=0.75 * strength)

    def _ring(self, body: Body, pitch_hz: float, hardness_hz: float) -> np.ndarray:
        seconds = min(body.decay_seconds * 6, 3.0)
        voice = np.zeros(max(int(seconds * self.sample_rate), 1))
        for index, ratio in enumerate(body.ratios):
            frequency = pitch_hz * ratio
            if frequency < 0.45 * self.sample_rate:
                loudness = 1 / (1 + (frequency / hardness_hz) ** 2) / (1 + 0.25 * index)
                decay = body.decay_seconds * ratio**-body.damping
                voice += loudness * partial(frequency, decay, len(voice), self.sample_rate)
        click = self.noise(0.03, low_hz=pitch_hz, high_hz=4 * hardness_hz, decay_seconds=0.006)
        length = min(len(click), len(voice))
        voice *= (1 - body.click) / max(float(np.abs(voice).max()), 1e-9)
        voice[:length] += body.click * click[:length]
        return _fade_ends(voice, attack=round(0.18 / hardness_hz * self.sample_rate))

    def noise(self, seconds: float, *, low_hz: float, high_hz: float, decay_seconds: float) -> np.ndarray:
        """A burst of band-limited noise that decays exponentially, peak 1."""
        num = max(int(seconds * self.sample_rate), 8)
        burst = self.band_noise(num, low_hz=low_hz, high_hz=high_hz)
        burst *= np.exp(np.arange(num) * (-1 / (decay_seconds * self.sample_rate)))
        return burst / max(float(np.abs(burst).max()), 1e-9)

    def band_noise(self, num: int, *, low_hz: float, high_hz: float) -> np.ndarray:
        """``num`` samples of noise between two frequencies (second-order skirts), unit variance."""
        size = 1 << (num - 1).bit_length()
        frequency = np.fft.rfftfreq(size, 1 / self.sample_rate)
        shape = 1 / ((1 + (low_hz / np.maximum(frequency, 1e-3)) ** 4) * (1 + (frequency / high_hz) ** 4))
        spectrum = np.fft.rfft(self.generator.standard_normal(size)) * np.sqrt(shape)
        noise = np.fft.irfft(spectrum, size)[:num]
        return noise / max(float(noise.std()), 1e-9)

    def as_words(self) -> np.ndarray:
        """``(2, samples)`` int16; a sum above full scale lowers the whole clip."""
        peak = float(np.abs(self.mix).max(initial=0.0))
        gain = PEAK / peak if peak > PEAK else 1.0
        return np.round(self.mix * (gain * 32767)).astype(np.int16)


def partial(frequency_hz: float, decay_seconds: float, num: int, sample_rate: int) -> np.ndarray:
    """``exp(-t/decay) · sin(2π·f·t)``, ``num`` samples.

    Powers of one complex number in two steps, z^(256k)·z^j, which needs a few hundred exponentials instead of one a
    sample.
    """
    step = complex(-1 / decay_seconds, 2 * math.pi * frequency_hz) / sample_rate
    blocks = np.exp(step * BLOCK * np.arange(-(-num // BLOCK)))
    inner = np.exp(step * np.arange(BLOCK))
    return (blocks.imag[:, None] * inner.real + blocks.real[:, None] * inner.imag).ravel()[:num]


def bubble(pitch_hz: float, num: int, sample_rate: int, *, decay_seconds: float, rise: float) -> np.ndarray:
    """A drop's bubble: a decaying sine whose pitch rises as it nears the surface (Minnaert; van den Doel 2005)."""
    time = np.arange(num) / sample_rate
    phase = 2 * math.pi * pitch_hz * (time + rise * time * time / (2 * decay_seconds))
    return _fade_ends(np.sin(phase) * np.exp(time * (-1 / decay_seconds)), attack=20)


def tone(pitch_hz: float, seconds: float, sample_rate: int, harmonics: Sequence[float]) -> np.ndarray:
    """A steady tone with soft ends; ``harmonics`` are the levels of f, 2f and so on."""
    num = int(seconds * sample_rate)
    voice = np.zeros(num)
    for index, level in enumerate(harmonics):
        voice += level * partial(pitch_hz * (index + 1), 1e6, num, sample_rate)
    return _fade_ends(voice / sum(harmonics), attack=sample_rate // 250, release=sample_rate // 50)


def _fade_ends(voice: np.ndarray, *, attack: int, release: int = 400) -> np.ndarray:
    attack, release = min(max(attack, 2), len(voice)), min(release, len(voice))
    voice[:attack] *= np.arange(attack) / attack
    voice[len(voice) - release :] *= np.arange(release, 0, -1) / release
    return voice
