"""Reconstruction losses of the codecs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Window lengths: a long one for pitches, a short one because impacts last a few milliseconds.
STFT_WINDOWS = (2048, 512, 128)
# Added to every magnitude: -60 dB of a full-scale sine. With less, the loss is about the silence between sounds.
SILENCE = 1e-3
# Magnitude of a quiet sound, below which errors are no longer set in relation to the truth.
QUIET = 3e-3


def edge_loss(decoded: Tensor, pictures: Tensor) -> Tensor:
    """L1 of the differences between neighbouring pixels, ``(B, 3, F, H, W)``; it keeps small things sharp."""
    across = F.l1_loss(decoded.diff(dim=-1), pictures.diff(dim=-1))
    down = F.l1_loss(decoded.diff(dim=-2), pictures.diff(dim=-2))
    return across + down


def stft_loss(decoded: Tensor, sound: Tensor) -> Tensor:
    """Log-magnitude L1 and spectral convergence, averaged over window lengths, ``(B, 2, samples)``.

    Taken of left, right and their mean (Parallel WaveGAN, arXiv 1910.11480, eq. 3 to 5). The convergence, a ratio
    of norms, calls for the few loud moments of a mostly silent clip; it is taken over the whole batch, and in relation
    to a quiet sound where the batch is silent, so that it has a bound.
    """
    total = decoded.new_zeros(())
    ours, theirs = (_views(x) for x in (decoded, sound))
    windows = [length for length in STFT_WINDOWS if length <= sound.shape[-1]]
    for length in windows:
        guess, truth = (_magnitudes(x, length) for x in (ours, theirs))
        level = truth.square().mean().sqrt().clamp_min(QUIET)
        # The root's slope at zero has no bound; one part in a thousand of the quiet sound is zero enough.
        distance = ((guess - truth).square().mean() + (1e-3 * QUIET) ** 2).sqrt() - 1e-3 * QUIET
        total = total + F.l1_loss(guess.log(), truth.log()) + distance / level
    return total / len(windows)


def _views(sound: Tensor) -> Tensor:
    left, right = sound.unbind(1)
    return torch.cat([left, right, (left + right) / 2])


def _magnitudes(waveform: Tensor, length: int) -> Tensor:
    """A full-scale sine has magnitude 1."""
    window = torch.hann_window(length, device=waveform.device)
    spectrum = torch.stft(waveform, length, length // 4, window=window, return_complex=True) / (window.sum() / 2)
    # Added, not clamped: below a clamp there is no slope, and a decoder that has gone silent would stay so.
    return (spectrum.real.square() + spectrum.imag.square() + SILENCE**2).sqrt()
