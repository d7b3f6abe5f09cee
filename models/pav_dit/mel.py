"""Frame-wise mel images of a sound, and the sound of such images (PAV-DiT, section 3.1).

One STFT runs over the whole sound and its mel spectrogram is cut into one image a segment: that is the same as cutting
first, but the windows reach over the borders, so that there are no seams and one phase fits all. The inverse needs no
neural vocoder. Filters and Griffin-Lim are torchaudio's; the way back through the filters is ours, since torchaudio's
least squares gives negative magnitudes, which it sets to zero.

Legend: C channels, T segments, N bands, K columns of an image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.clock import segment_hop
from ...core.errors import GeometryError, InputError
from ...core.optional import require
from ...core.types import require_finite

# Of the published road; the solution is close after 20, and 32 is torchaudio's own number.
FILTER_STEPS, PHASE_STEPS, MOMENTUM = 30, 32, 0.99
LONGEST_WINDOW = 1 << 16


@dataclass(frozen=True)
class MelImages:
    """How a sound becomes images.

    A value is ``(log(magnitude + floor) − centre) / spread``. A full-scale tone has magnitude 0.5, silence is
    ``log(floor)``; with the defaults that is 0.55 and −0.87, and the loudest noise stays below 1. A smaller floor would
    let silence outweigh everything else in a loss of absolute differences.

    Args:
        hop: Samples of a column; :meth:`fitting` finds it.
        columns: K of an image.
        bands: N.
        window: Samples of the STFT.
        sample_rate: Hz.
        floor: What is added to magnitudes.
        centre: See above, in natural logarithms.
        spread: See above.

    Raises:
        GeometryError: columns further apart than half a window, or more bands than the window tells apart.
    """

    hop: int = 200
    columns: int = 24
    bands: int = 64
    window: int = 1024
    sample_rate: int = 24_000
    floor: float = 1e-4
    centre: float = -4.0
    spread: float = 6.0

    def __post_init__(self) -> None:
        if not (0 < self.bands <= self.window // 2 <= LONGEST_WINDOW // 2 and 0 < self.columns <= LONGEST_WINDOW):
            got = f"{self.bands} bands and {self.columns} columns of windows of {self.window} samples"
            raise GeometryError("these are no images of a sound", got=got, expected="fewer bands than half a window")
        if not 0 < 2 * self.hop <= self.window:
            got = f"{self.hop} samples a column"
            raise GeometryError("columns lie too far apart", got=got, expected=f"1 to {self.window // 2}")
        edges, step = self._edges_hz(), self.sample_rate / self.window
        bands = zip(edges, edges[2:], strict=False)
        inside = (math.ceil(high / step) - 1 - math.floor(low / step) for low, high in bands)
        if min(inside) < 1:
            got, expected = f"{self.bands} bands of {self.window} samples", "fewer bands or a longer window"
            raise GeometryError("there are bands in which no frequency lies", got=got, expected=expected)

    @classmethod
    def fitting(cls, fps: Fraction, *, frames: int, sample_rate: int = 24_000, columns: int = 24, bands: int = 64,
                window: int = 1024) -> MelImages:  # fmt: skip
        """Images of which each lasts as long as some frames.

        Args:
            fps: Frame rate of the picture.
            frames: Frames of a segment.
            sample_rate: Hz.
            columns: K of an image.
            bands: N.
            window: Samples of the STFT.

        Raises:
            GeometryError: a segment is no whole number of columns; the nearest rates and columns are named.
        """
        hop = segment_hop(fps, frames=frames, sample_rate=sample_rate, columns=columns)
        return cls(hop, columns, bands, window, sample_rate)

    @property
    def segment(self) -> int:
        """Samples of an image."""
        return self.hop * self.columns

    def images(self, waveform: Tensor) -> Tensor:
        """``(C, T, N, K)`` of a sound ``(C, samples)``, which is filled up with silence to whole images.

        Column k of the whole is centred at sample ``k · hop``.

        Raises:
            InputError: no sound of one or more channels.
            NonFiniteError: NaN or infinity in it.
        """
        if waveform.ndim != 2 or not waveform.shape[0] or not waveform.shape[1]:
            raise InputError("the sound is not a waveform", got=tuple(waveform.shape), expected="(channels, samples)")
        require_finite("the sound", waveform)
        whole = F.pad(waveform.float().cpu(), (0, -waveform.shape[1] % self.segment))
        # The last column belongs to the sample behind the end, thus to no image.
        mel = torch.einsum("cfk,fn->cnk", self._spectrum(whole)[..., :-1].abs(), self.filters())
        values = ((mel + self.floor).log() - self.centre) / self.spread
        return values.unflatten(-1, (-1, self.columns)).movedim(-2, 1).contiguous()

    def sound(self, images: Tensor) -> Tensor:
        """The sound ``(C, T · segment)`` of images ``(C, T, N, K)``.

        The phase is found once, for the mean of the channels, and serves all: so the image of the sound in space stays.

        Raises:
            InputError: images of another form.
            NonFiniteError: NaN or infinity in them.
        """
        if images.ndim != 4 or images.shape[2:] != (self.bands, self.columns):
            got, expected = tuple(images.shape), f"(channels, segments, {self.bands}, {self.columns})"
            raise InputError("these are no mel images of this model", got=got, expected=expected)
        require_finite("the mel images", images)
        values = images.float().cpu().movedim(1, -2).flatten(-2)
        mel = ((values * self.spread + self.centre).exp() - self.floor).clamp(min=0)
        magnitudes = self._magnitudes(F.pad(mel, (0, 1), mode="replicate"))
        length = images.shape[1] * self.segment
        phase = self._spectrum(self._one_sound(magnitudes.mean(0), length)[None])
        phase = phase / phase.abs().clamp(min=1e-12)
        return torch.istft(
            magnitudes * phase, self.window, self.hop, window=self._weights(normalised=True), length=length
        )

    def filters(self) -> Tensor:
        """How much of each frequency is in each band, ``(window / 2 + 1, N)``."""
        make = require("torchaudio.functional", "the sound of PAV-DiT").melscale_fbanks
        top = self.sample_rate / 2
        return make(self.window // 2 + 1, 0.0, top, self.bands, self.sample_rate, norm=None, mel_scale="htk")

    def _edges_hz(self) -> list[float]:
        """Where bands begin and end: band k reaches from edge k to edge k + 2; even steps of HTK's mel."""
        top = math.log1p(self.sample_rate / 2 / 700)
        return [700 * math.expm1(top * index / (self.bands + 1)) for index in range(self.bands + 2)]

    def _weights(self, *, normalised: bool) -> Tensor:
        """Hann; normalised, a tone of amplitude 1 has magnitude 0.5 whatever the window's length."""
        window = torch.hann_window(self.window)
        return window / window.sum() if normalised else window

    def _spectrum(self, waveform: Tensor) -> Tensor:
        """``(C, window / 2 + 1, samples / hop + 1)``, complex; beyond its ends the sound is silent."""
        window = self._weights(normalised=True)
        return torch.stft(waveform, self.window, self.hop, window=window, pad_mode="constant", return_complex=True)

    def _magnitudes(self, mel: Tensor) -> Tensor:
        """Magnitudes ``(C, window / 2 + 1, ·)`` that are never negative and whose bands are ``mel``.

        Starts from the pseudo-inverse and multiplies by ``Aᵀb / AᵀAx`` (Lee and Seung's rule for least squares).
        """
        filters = self.filters()
        found = torch.einsum("nf,cnk->cfk", torch.linalg.pinv(filters), mel).clamp(min=0)
        # A zero could never leave by multiplication, so each frequency starts with a little of what its bands hold.
        found = found + 0.01 * torch.einsum("fn,cnk->cfk", filters, mel)
        wanted = torch.einsum("fn,cnk->cfk", filters, mel)
        for _ in range(FILTER_STEPS):
            has = torch.einsum("fn,cnk->cfk", filters, torch.einsum("fn,cfk->cnk", filters, found))
            found = found * wanted / has.clamp(min=1e-12)
        return found

    def _one_sound(self, magnitudes: Tensor, length: int) -> Tensor:
        """Griffin-Lim, from phases of zero so that the same images always sound the same."""
        griffinlim = require("torchaudio.functional", "the sound of PAV-DiT").griffinlim
        # torchaudio's own STFT in it has the window of its argument, hence magnitudes of the same scale.
        scale = self._weights(normalised=False).sum()
        return griffinlim(
            magnitudes * scale, self._weights(normalised=False), self.window, self.hop, self.window, 1.0, PHASE_STEPS,
            MOMENTUM, length, False,
        )  # fmt: skip
