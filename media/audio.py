"""Sound as samples: length, rate, channels, level. Nothing here stretches time or clips."""

from __future__ import annotations

import math
from fractions import Fraction

import av
import numpy as np
import torch
from torch import Tensor

from ..core.clock import samples_for
from ..core.errors import InputError
from ..core.types import AudioClip

FADE_SECONDS = 0.01
_BLOCK = 1 << 16


def fit_length(audio: AudioClip, num_samples: int, *, fade_seconds: float = FADE_SECONDS) -> AudioClip:
    """Make a sound last exactly ``num_samples``, never by stretching it.

    Too short: its last ``fade_seconds`` fade out and silence follows, so that no edge clicks. Too long: it fades out
    over the ``fade_seconds`` before the new end. Already right: returned unchanged.

    Args:
        audio: ``(C, samples)``.
        num_samples: Wanted samples per channel.
        fade_seconds: Length of the fade (raised cosine); 0 for none.

    Raises:
        InputError: the sound is empty, or a length or fade below zero.
    """
    waveform, available = audio.waveform, audio.waveform.shape[-1]
    if available == 0:
        raise InputError(
            "the sound is empty",
            got="0 samples",
            expected="at least one sample",
            remedy="Leave the sound out for a silent picture.",
        )
    if num_samples < 1:
        raise InputError("the wanted length is not usable", got=num_samples, expected="at least one sample")
    if not (math.isfinite(fade_seconds) and fade_seconds >= 0):
        raise InputError("the fade is not usable", got=fade_seconds, expected="zero or more seconds")
    if available == num_samples:
        return audio
    kept = min(available, num_samples)
    fitted = waveform.new_zeros((waveform.shape[0], num_samples))
    fitted[:, :kept] = waveform[:, :kept]
    fade_out(fitted[:, :kept], samples_for(fade_seconds, audio.sample_rate))
    return AudioClip(fitted, audio.sample_rate)


def fade_out(waveform: Tensor, num_samples: int) -> None:
    """Let the last samples of ``(C, samples)`` fall to 0, in place (raised cosine)."""
    num_fading = min(waveform.shape[1], num_samples)
    if num_fading:
        phase = torch.arange(1, num_fading + 1, dtype=torch.float64) * (math.pi / num_fading)
        # It falls to exactly 0 at the last sample.
        waveform[:, waveform.shape[1] - num_fading :] *= (0.5 + 0.5 * torch.cos(phase)).to(waveform)


def resample(audio: AudioClip, sample_rate: int, *, num_samples: int | None = None) -> AudioClip:
    """Change the sample rate with FFmpeg's swresample; sample 0 stays at time 0.

    Args:
        audio: ``(C, samples)``, any floating point type.
        sample_rate: Wanted rate in Hz.
        num_samples: Exact samples of the result. By default the nearest number for the same duration. The resampler's
            own count may differ by a sample or two of rounding; these are cut or filled with zeros.

    Returns:
        float32 on the CPU, unless the rate is already right.
    """
    if num_samples is None:
        num_samples = samples_for(audio.seconds, sample_rate)
    if audio.sample_rate == sample_rate:
        return audio
    layout = layout_of(audio.waveform)
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=sample_rate)
    planes = as_planes(audio.waveform)
    pieces = [np.zeros((planes.shape[0], 0), np.float32)]  # a sound of a sample or two may come out as nothing
    for start in range(0, planes.shape[1], _BLOCK):
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(planes[:, start : start + _BLOCK]), format="fltp", layout=layout
        )
        frame.sample_rate, frame.pts, frame.time_base = audio.sample_rate, start, Fraction(1, audio.sample_rate)
        pieces += [piece.to_ndarray() for piece in resampler.resample(frame)]
    pieces += [piece.to_ndarray() for piece in resampler.resample(None)]
    made = torch.from_numpy(np.concatenate(pieces, axis=1))[:, :num_samples]
    return AudioClip(torch.nn.functional.pad(made, (0, num_samples - made.shape[1])), sample_rate)


def to_stereo(audio: AudioClip) -> AudioClip:
    """Two channels; a mono sound goes to both at the same level."""
    if audio.waveform.shape[0] == 2:
        return audio
    return AudioClip(audio.waveform.expand(2, -1).contiguous(), audio.sample_rate)


def to_channels(audio: AudioClip, channels: int) -> AudioClip:
    """One channel or two: a mono sound goes to both at the same level, a stereo one to the middle as its mean.

    Raises:
        InputError: another number.
    """
    if channels not in (1, 2):
        raise InputError("the number of channels is not usable", got=channels, expected="1 or 2")
    if channels == 2 or audio.waveform.shape[0] == 1:
        return to_stereo(audio) if channels == 2 else audio
    return AudioClip(audio.waveform.mean(0, keepdim=True), audio.sample_rate)


def limit_peak(audio: AudioClip) -> tuple[AudioClip, float]:
    """Lower the level of the whole sound so that its peak is at most 1.0.

    Returns:
        The sound, and the gain in decibels: 0.0 when nothing was changed, else below zero.
    """
    low, high = audio.waveform.aminmax()  # of ten minutes, a copy would be 200 MB
    peak = float(torch.maximum(-low, high))
    if peak <= 1.0:
        return audio, 0.0
    return AudioClip(audio.waveform.float() / peak, audio.sample_rate), -20.0 * math.log10(peak)


def layout_of(waveform: Tensor) -> str:
    """FFmpeg's name for the channels of ``(C, samples)``."""
    return "mono" if waveform.shape[0] == 1 else "stereo"


def as_planes(waveform: Tensor) -> np.ndarray:
    """``(C, samples)`` float32 as a contiguous array."""
    return np.ascontiguousarray(waveform.detach().to("cpu", torch.float32).numpy())
