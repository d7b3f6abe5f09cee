"""Where sounds begin: the one onset detector, for the player, for pictures on a time axis and for AV-Align.

It is librosa's (``onset_strength`` and ``onset_detect`` with their defaults), by which AV-Align is defined, computed
here so that it needs no further package: spectral flux of a mel spectrogram in decibels (Böck and Widmer, 2013), and
peaks that stand above their neighbourhood (Böck, Krebs and Schedl, 2012). A test compares the two.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from ..core.types import AudioClip, require_finite

HOP = 512
_WINDOW, _BANDS = 2048, 128
_FLOOR, _RANGE_DB = 1e-10, 80.0
_MAX_SECONDS, _MEAN_SECONDS, _WAIT_SECONDS = 0.03, 0.1, 0.03
_ABOVE_MEAN = 0.07


def onset_strength(audio: AudioClip) -> np.ndarray:
    """Onset envelope of channel 0 at the sound's own rate, one value every 512 samples.

    The mean growth of 128 mel bands in decibels from one window to the next, moved so that it stands at the window's
    end.

    Raises:
        NonFiniteError: NaN or infinity in the sound.
    """
    require_finite("the waveform", audio.waveform)
    samples = audio.waveform[0].detach().to("cpu", torch.float32)
    power = torch.stft(
        samples,
        _WINDOW,
        HOP,
        window=torch.hann_window(_WINDOW),
        center=True,
        pad_mode="constant",
        return_complex=True,
    ).abs()
    bands = _mel_filters(audio.sample_rate) @ power.numpy() ** 2
    level = 10 * np.log10(np.maximum(_FLOOR, bands))
    level = np.maximum(level, level.max() - _RANGE_DB)
    flux = np.maximum(0, np.diff(level, axis=1)).mean(0)
    # growth into frame i + 1, and half a window more, which the centred windows look ahead
    delay = 1 + _WINDOW // (2 * HOP)
    return np.pad(flux, (delay, 0))[: level.shape[1]].astype(np.float32)


def onset_times(envelope: np.ndarray, sample_rate: int, *, above_mean: float = _ABOVE_MEAN) -> list[float]:
    """Seconds of the peaks in an onset envelope; none in one that is the same throughout.

    A peak is the highest of the 30 ms up to it, stands 0.07 of the envelope's range above the mean of the 100 ms on
    either side (or another share), and comes at least 30 ms after the one before.

    Args:
        envelope: One value every 512 samples.
        sample_rate: Of the sound, in Hz.
        above_mean: That share; librosa's ``delta``.
    """
    if not len(envelope) or not np.ptp(envelope):
        return []
    level = envelope - envelope.min()
    level = level / (level.max() + np.finfo(level.dtype).tiny)
    before, around, wait = (
        math.ceil(int(seconds * sample_rate / HOP)) for seconds in (_MAX_SECONDS, _MEAN_SECONDS, _WAIT_SECONDS)
    )
    found: list[int] = []
    for index, value in enumerate(level):
        if found and index - found[-1] <= wait:
            continue
        if value < level[max(0, index - before) : index + 1].max():
            continue
        if value >= level[max(0, index - around) : index + around + 1].mean() + above_mean:
            found.append(index)
    return [index * HOP / sample_rate for index in found]


def onsets(audio: AudioClip) -> list[float]:
    """Seconds where a sound begins.

    Raises:
        NonFiniteError: NaN or infinity in the sound.
    """
    return onset_times(onset_strength(audio), audio.sample_rate)


def _mel_filters(sample_rate: int) -> np.ndarray:
    """Triangles ``(bands, bins)`` on Slaney's mel scale up to half the sample rate, each of the same area.

    torchaudio makes them in float32, where weights at the edges are off by up to 2 %; recorded onsets must not move.
    """
    bins = np.linspace(0, sample_rate / 2, 1 + _WINDOW // 2)
    corners = _hertz(np.linspace(0, _mel(sample_rate / 2), _BANDS + 2))
    rising = (bins - corners[:-2, None]) / np.diff(corners)[:-1, None]
    falling = (corners[2:, None] - bins) / np.diff(corners)[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * (2 / (corners[2:] - corners[:-2]))[:, None]).astype(np.float32)


# Slaney's Auditory Toolbox: 3 mels in 200 Hz up to 1000 Hz, then 27 mels to a factor of 6.4.
_LINEAR, _KNEE_HERTZ = 200 / 3, 1000.0
_KNEE, _STEP = _KNEE_HERTZ / _LINEAR, math.log(6.4) / 27


def _mel(hertz: float) -> float:
    return hertz / _LINEAR if hertz < _KNEE_HERTZ else _KNEE + math.log(hertz / _KNEE_HERTZ) / _STEP


def _hertz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < _KNEE, mel * _LINEAR, _KNEE_HERTZ * np.exp(_STEP * (mel - _KNEE)))
