"""What the pocket model's sound latents mean: a liftered mel cepstrum of every latent frame, and its balance.

A small codec that has to find its own code of 64 numbers for 4 096 samples needs days on a CPU. Here the encoder is
told what to say and the decoder learns to speak it, as a vocoder does; both learn from the first step, and towers get
latents in which level, spectrum and onset stand apart. The cosine transform runs over frequency (cepstrum; Davis and
Mermelstein 1980) and over the moments within a frame, of which fast changes keep few coefficients.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from ..core.errors import GeometryError

BANDS, LOW_HZ, HIGH_HZ = 48, 40.0, 20_000.0
WINDOW = 1024
# Added to magnitudes, of which a full-scale sine has 1; quieter than this is silence.
FLOOR = 3e-4
# Cepstral coefficients kept of each cosine over the moments of a frame: 63, and the balance.
KEPT = (47, 8, 4, 4)
SCALE = 4.0
# Of the first coefficient in silence, before scaling: it makes the world's mean about zero.
SILENCE_LEVEL = 10.0
QUIET_POWER = 1e-4


def require_fit(channels: int, sound_channels: int) -> None:
    """Refuse a codec whose latents cannot hold the codes.

    Raises:
        GeometryError: not 64 latent channels, or not stereo.
    """
    if (channels, sound_channels) != (sum(KEPT) + 1, 2):
        raise GeometryError(
            "cepstral codes do not fit this audio codec",
            got=f"{channels} latent channels, {sound_channels} sound channels",
            expected=f"{sum(KEPT) + 1} and 2, as Stable Audio's",
            remedy="Set objective.codes=learned and data.sound_latents=encoded.",
        )


def sound_codes(sound: Tensor, *, hop: int, sample_rate: int) -> Tensor:
    """Codes of a waveform.

    Args:
        sound: ``(B, 2, samples)``, whole latent frames long.
        hop: Samples of a latent frame, such as 2 048.
        sample_rate: Hz.

    Returns:
        ``(B, 64, samples / hop)`` of about unit deviation: 63 coefficients and left-right balance in -1..1.
    """
    step = hop // len(KEPT)
    edges = (WINDOW - step) // 2
    window = torch.hann_window(WINDOW, device=sound.device)
    padded = functional.pad(sound.float(), (edges, edges)).flatten(0, 1)
    spectrum = torch.stft(padded, WINDOW, step, window=window, center=False, return_complex=True) / (window.sum() / 2)
    power = (spectrum.real.square() + spectrum.imag.square()).unflatten(0, sound.shape[:2])
    filters = _filters(sample_rate).to(sound.device)
    mel = ((power.mean(1).transpose(1, 2) @ filters).sqrt() / FLOOR).log1p().unflatten(1, (-1, len(KEPT)))
    lifter = (1 + torch.arange(BANDS, device=sound.device)).sqrt()
    cepstrum = torch.einsum(
        "ij,btjn,kn->btik", _cosines(len(KEPT)).to(mel), mel, _cosines(BANDS).to(mel) * lifter[:, None]
    )
    kept = torch.cat([cepstrum[:, :, row, :count] for row, count in enumerate(KEPT)], dim=-1)
    kept[..., 0] -= SILENCE_LEVEL
    left, right = power.sum(2).unflatten(-1, (-1, len(KEPT))).sum(-1).unbind(1)
    balance = (left - right) / (left + right + QUIET_POWER)
    return torch.cat([kept / SCALE, balance[..., None]], dim=-1).transpose(1, 2)


@lru_cache(maxsize=4)
def _filters(sample_rate: int) -> Tensor:
    """``(frequencies, bands)``; each band's weights sum to one."""
    from torchaudio.functional import melscale_fbanks

    filters = melscale_fbanks(WINDOW // 2 + 1, LOW_HZ, HIGH_HZ, BANDS, sample_rate, norm=None, mel_scale="htk")
    return filters / filters.sum(0)


@lru_cache(maxsize=4)
def _cosines(size: int) -> Tensor:
    """Orthonormal DCT-II, ``(size, size)``."""
    from torchaudio.functional import create_dct

    return create_dct(size, size, norm="ortho").T
