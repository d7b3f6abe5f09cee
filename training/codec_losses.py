"""Reconstruction losses of the codecs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Window lengths: those of Parallel WaveGAN and shorter ones, because impacts last a few milliseconds.
STFT_WINDOWS = (2048, 1024, 512, 256, 128, 64)
# Magnitudes below this count as silence: -80 dB of a full-scale sine.
SILENCE = 1e-4
LINEAR_WEIGHT = 10.0


def edge_loss(decoded: Tensor, pictures: Tensor) -> Tensor:
    """L1 of the differences between neighbouring pixels, ``(B, 3, F, H, W)``; it keeps small things sharp."""
    across = F.l1_loss(decoded.diff(dim=-1), pictures.diff(dim=-1))
    down = F.l1_loss(decoded.diff(dim=-2), pictures.diff(dim=-2))
    return across + down


def stft_loss(decoded: Tensor, sound: Tensor) -> Tensor:
    """L1 of log magnitudes and of magnitudes, averaged over window lengths, ``(B, 2, samples)``.

    Taken of left, right, sum and difference. The usual spectral convergence (a ratio of norms) is not used: windows of
    the world are often silent, and it has no bound there.
    """
    total = decoded.new_zeros(())
    ours, theirs = (_views(x) for x in (decoded, sound))
    windows = [length for length in STFT_WINDOWS if length <= sound.shape[-1]]
    for length in windows:
        guess, truth = (_magnitudes(x, length) for x in (ours, theirs))
        total = total + F.l1_loss(guess.log(), truth.log()) + LINEAR_WEIGHT * F.l1_loss(guess, truth)
    return total / len(windows)


def _views(sound: Tensor) -> Tensor:
    left, right = sound.unbind(1)
    return torch.cat([left, right, (left + right) / 2, (left - right) / 2])


def _magnitudes(waveform: Tensor, length: int) -> Tensor:
    """A full-scale sine has magnitude 1."""
    window = torch.hann_window(length, device=waveform.device)
    spectrum = torch.stft(waveform, length, length // 4, window=window, return_complex=True) / (window.sum() / 2)
    # Clamped inside the root, whose slope at zero has no bound.
    return (spectrum.real.square() + spectrum.imag.square()).clamp_min(SILENCE**2).sqrt()
