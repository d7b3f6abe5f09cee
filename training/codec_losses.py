"""Reconstruction losses of the codecs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Window lengths of the multi-resolution STFT (Yamamoto et al., Parallel WaveGAN, and shorter ones for impacts).
STFT_WINDOWS = (2048, 1024, 512, 256, 128, 64)


def edge_loss(decoded: Tensor, pictures: Tensor) -> Tensor:
    """L1 of the differences between neighbouring pixels, ``(B, 3, F, H, W)``; it keeps small things sharp."""
    across = F.l1_loss(decoded.diff(dim=-1), pictures.diff(dim=-1))
    down = F.l1_loss(decoded.diff(dim=-2), pictures.diff(dim=-2))
    return across + down


def stft_loss(decoded: Tensor, sound: Tensor) -> Tensor:
    """Spectral convergence and log-magnitude L1, averaged over window lengths, ``(B, 2, samples)``.

    Taken of left, right, sum and difference.
    """
    total = decoded.new_zeros(())
    ours, theirs = (_views(x) for x in (decoded, sound))
    windows = [length for length in STFT_WINDOWS if length <= sound.shape[-1]]
    for length in windows:
        guess, truth = (_magnitudes(x, length) for x in (ours, theirs))
        convergence = torch.linalg.norm(truth - guess) / torch.linalg.norm(truth).clamp_min(1e-3)
        total = total + convergence + F.l1_loss(guess.log(), truth.log())
    return total / len(windows)


def _views(sound: Tensor) -> Tensor:
    left, right = sound.unbind(1)
    return torch.cat([left, right, (left + right) / 2, (left - right) / 2])


def _magnitudes(waveform: Tensor, length: int) -> Tensor:
    window = torch.hann_window(length, device=waveform.device)
    spectrum = torch.stft(waveform, length, length // 4, window=window, return_complex=True)
    # Inside the root, so that silence has a gradient; -50 dB relative to a full-scale window is the floor.
    return (spectrum.real.square() + spectrum.imag.square()).clamp_min(1e-6).sqrt()
