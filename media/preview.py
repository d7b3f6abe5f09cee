"""A cheap look at latents while they are sampled: all pictures, small, and the sound as a spectrogram; no decoder.

Codecs are nearly linear where it matters here: a latent pixel's channels give the mean colour of its patch, a latent
token's channels give the loudness of its frequency bands. Both maps are fitted once per loaded codec, by ridge
regression on what that codec makes of a few synthetic pictures and sounds, so that they suit any codec. Afterwards a
preview is one matrix product.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..core.progress import SILENT, Progress
from ..core.types import JointLatents
from .plot import coloured

NUM_BANDS = 40
LOWEST_HZ = 60.0
RANGE_DB = 70.0
_RIDGE = 0.01
# There are more audio channels than tokens to fit them by, so each may do little.
_RIDGE_LEVELS = 1.0
_FIT_PIXELS, _FIT_TOKENS = 96, 40
_FLOOR_POWER = 1e-7
_TILE_PIXELS = 96  # the shorter side of a picture, at least
_LONGEST_PIXELS = 1024  # its longer side, unless its latent is longer; a JPEG has 65535 at most
_STRIP_PIXELS = 56
_MAX_TILES = 48


class VideoCodec(Protocol):
    """What the fit needs of a video codec."""

    temporal_stride: int
    spatial_stride: int

    def encode(self, frames: Tensor, *, progress: Progress) -> Tensor:
        """Frames ``(F, H, W, 3)`` to latents ``(1, C, T, h, w)``."""
        ...

    def decode(self, latents: Tensor, *, progress: Progress) -> Tensor:
        """And back."""
        ...


class AudioCodec(Protocol):
    """What the fit needs of an audio codec."""

    channels: int
    hop: int
    sample_rate: int

    def encode(self, waveform: Tensor, *, progress: Progress) -> Tensor:
        """Waveform ``(channels, samples)`` to latents ``(1, C, L)``."""
        ...

    def decode(self, latents: Tensor, *, progress: Progress) -> Tensor:
        """And back."""
        ...


@dataclass(frozen=True)
class AffineMap:
    """``x ↦ x·weight + bias`` over the channels of latents.

    Args:
        weight: ``(C, K)``.
        bias: ``(K,)``.
    """

    weight: Tensor
    bias: Tensor

    @classmethod
    def fit(cls, inputs: Tensor, targets: Tensor, ridge: float = _RIDGE) -> AffineMap:
        """Ridge regression with standardised inputs ``(N, C)`` on targets ``(N, K)``."""
        centre, spread = inputs.mean(0), inputs.std(0).clamp_min(1e-6)
        scaled, middle = (inputs - centre) / spread, targets.mean(0)
        gram = scaled.T @ scaled + ridge * len(scaled) * torch.eye(scaled.shape[1])
        weight = torch.linalg.solve(gram, scaled.T @ (targets - middle)) / spread[:, None]
        return cls(weight, middle - centre @ weight)

    def __call__(self, latents: Tensor) -> Tensor:
        """``(1, C, …)`` to ``(…, K)``, float32."""
        return latents[0].float().movedim(0, -1) @ self.weight + self.bias


@dataclass(frozen=True)
class PreviewMaps:
    """From latents to colours and to band levels; a side without a codec is None.

    Args:
        colours: Channels of a video latent to RGB in 0..1.
        levels: Channels of an audio latent to decibels of :data:`NUM_BANDS` bands, low to high.
        token_seconds: How long one audio latent token lasts.
    """

    colours: AffineMap | None = None
    levels: AffineMap | None = None
    token_seconds: float | None = None

    def render(self, latents: JointLatents) -> Preview | None:
        """The estimate of the first clip of a batch, to look at; None when the maps know nothing of these latents."""
        frames = spectrogram = seconds = None
        if latents.video is not None and self.colours is not None:
            frames = self.colours(latents.video[:1]).clamp(0, 1).mul(255).round().to(torch.uint8)
        if latents.audio is not None and self.levels is not None:
            decibels = self.levels(latents.audio[:1]).T
            spectrogram = ((decibels - decibels.max()) / RANGE_DB + 1).clamp(0, 1)
            seconds = self.token_seconds and self.token_seconds * spectrogram.shape[1]
        return None if frames is None and spectrogram is None else Preview(frames, spectrogram, seconds)

    def watch(self, progress: Progress) -> Progress:
        """The same progress, but its previews are :class:`Preview` pictures instead of latents, or nothing."""
        blind = self.colours is None and self.levels is None

        def report(stage: str, done: int, total: int, preview: Callable[[], Any] | None = None) -> None:
            shown = None if preview is None or blind else lambda: self.render(preview())
            progress.report(stage, done, total, shown)

        return replace(progress, report=report)


@dataclass(frozen=True)
class Preview:
    """One estimate, small.

    Args:
        frames: ``(T, h, w, 3)`` uint8, one a latent frame and one pixel a latent pixel, or None.
        spectrogram: ``(bands, L)`` in 0..1, low bands first, or None.
        seconds: How long it plays, where that is known.
    """

    frames: Tensor | None
    spectrogram: Tensor | None
    seconds: float | None = None

    def sheet(self) -> Sheet:
        """All pictures on one, row by row, above the spectrogram of the whole clip."""
        tiles = [] if self.frames is None else self._tiles()
        columns = max(1, math.ceil(math.sqrt(len(tiles))))
        rows = math.ceil(len(tiles) / columns)
        tile_width, tile_height = tiles[0].size if tiles else (4 * _TILE_PIXELS, 0)
        strip = 0 if self.spectrogram is None else _STRIP_PIXELS
        picture = Image.new("RGB", (columns * tile_width, rows * tile_height + strip))
        for index, tile in enumerate(tiles):
            picture.paste(tile, (index % columns * tile_width, index // columns * tile_height))
        if self.spectrogram is not None:
            colours = Image.fromarray(coloured(self.spectrogram.flip(0)).numpy())
            picture.paste(colours.resize((picture.width, strip), Image.Resampling.BILINEAR), (0, rows * tile_height))
        return Sheet(picture, len(tiles), columns, (tile_width, tile_height), strip, self.seconds)

    def _tiles(self) -> list[Image.Image]:
        """At most 48 pictures, evenly spaced in time."""
        num_frames, height, width = self.frames.shape[:3]
        scale = max(1, min(math.ceil(_TILE_PIXELS / min(height, width)), _LONGEST_PIXELS // max(height, width)))
        count = min(num_frames, _MAX_TILES)
        chosen = [self.frames[index * num_frames // count] for index in range(count)]
        size = (width * scale, height * scale)
        return [Image.fromarray(frame.numpy()).resize(size, Image.Resampling.BILINEAR) for frame in chosen]


@dataclass(frozen=True)
class Sheet:
    """A still picture that holds a whole animation, as any viewer can show it and a page can play it.

    Args:
        picture: ``count`` tiles row by row, and a strip of the full width below them.
        count: How many pictures; 0 without a video.
        columns: Tiles a row.
        tile: Width and height of one in pixels.
        strip: Height of the spectrogram in pixels; 0 without sound.
        seconds: How long it plays, where that is known.
    """

    picture: Image.Image
    count: int
    columns: int
    tile: tuple[int, int]
    strip: int
    seconds: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The layout without the picture."""
        layout = {"count": self.count, "columns": self.columns, "tile": list(self.tile), "strip": self.strip}
        return {**layout, "seconds": self.seconds}


def fit_colours(codec: VideoCodec, progress: Progress = SILENT) -> AffineMap:
    """Fit latent channels to the mean colour of the patch that the codec decodes them to.

    Costs one encode and one decode of five pictures of 96×96 pixels (of one latent frame and the next).
    """
    pictures = _moving_fields(1 + codec.temporal_stride, _FIT_PIXELS // codec.spatial_stride * 8)
    latents = codec.encode(pictures, progress=progress)
    decoded = codec.decode(latents, progress=progress)
    targets = patch_means(decoded, codec.temporal_stride, codec.spatial_stride)
    return AffineMap.fit(latents[0].float().movedim(0, -1).flatten(0, 2), targets.flatten(0, 2))


def fit_levels(codec: AudioCodec, progress: Progress = SILENT) -> AffineMap:
    """Fit latent channels to the band levels of the sound that the codec decodes them to.

    Costs one encode and one decode of 40 latent tokens (1.9 s for Stable Audio Open).
    """
    sound = _noises_and_tones(_FIT_TOKENS * codec.hop, codec.hop, codec.sample_rate)
    latents = codec.encode(sound.expand(codec.channels, -1), progress=progress)
    decoded = codec.decode(latents, progress=progress)
    targets = band_levels(decoded, codec.sample_rate, codec.hop, latents.shape[-1])
    return AffineMap.fit(latents[0].float().T, targets.T, _RIDGE_LEVELS)


def patch_means(frames: Tensor, temporal_stride: int, spatial_stride: int) -> Tensor:
    """Mean colour per latent pixel: frames ``(F, H, W, 3)`` to ``(T, h, w, 3)``; the first frame stands alone."""
    pooled = F.avg_pool2d(frames.permute(0, 3, 1, 2), spatial_stride)
    later = pooled[1:].unflatten(0, (-1, temporal_stride)).mean(1) if len(pooled) > 1 else pooled[1:]
    return torch.cat([pooled[:1], later]).permute(0, 2, 3, 1)


def band_levels(waveform: Tensor, sample_rate: int, hop: int, num_tokens: int) -> Tensor:
    """Decibels of the channel mean in log-spaced bands: ``(channels, samples)`` to ``(bands, num_tokens)``."""
    window = max(512, 2 * hop)
    power = torch.stft(
        waveform.float().mean(0),
        window,
        hop,
        window=torch.hann_window(window),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    power = power.abs().square()[:, : num_tokens + 1]
    power = (power[:, :-1] + power[:, 1:]) / 2  # frames stand on token borders, tokens between them
    edges = torch.exp(torch.linspace(math.log(LOWEST_HZ), math.log(sample_rate / 2), NUM_BANDS + 1))
    frequencies = torch.linspace(0, sample_rate / 2, len(power))
    band = (torch.bucketize(frequencies, edges) - 1).clamp(0, NUM_BANDS - 1)
    summed = torch.zeros(NUM_BANDS, power.shape[1]).index_add_(0, band, power)
    return 10 * torch.log10(summed + _FLOOR_POWER * window)


def _moving_fields(num_frames: int, size: int) -> Tensor:
    """Pictures ``(F, size, size, 3)`` of drifting colour at several scales, some of it with hard edges."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.full((num_frames, 3, size, size), 0.5)
    blend = torch.linspace(0, 1, num_frames)[:, None, None, None]
    for cells, weight, mode in ((2, 0.45, "bilinear"), (4, 0.32, "nearest"), (8, 0.22, "bilinear"), (16, 0.14, "area")):
        first, last = torch.rand(2, 1, 3, cells, cells, generator=generator)
        drifting = first * (1 - blend) + last * blend
        pictures += weight * (F.interpolate(drifting, size=(size, size), mode=mode) - 0.5)
    return pictures.clamp(0, 1).permute(0, 2, 3, 1)


def _noises_and_tones(num_samples: int, hop: int, sample_rate: int) -> Tensor:
    """A waveform ``(samples,)`` that changes every few tokens between silence, tones, noise and struck sounds."""
    generator = torch.Generator().manual_seed(0)

    def draw() -> float:
        return torch.rand(1, generator=generator).item()

    sound, start, kind = torch.zeros(num_samples), 0, 0
    while start < num_samples:
        length = min(num_samples - start, int((1 + 2 * draw()) * hop))
        time = torch.arange(length) / sample_rate
        hertz = LOWEST_HZ * (sample_rate / 2 / LOWEST_HZ) ** draw()
        tone = torch.sin(2 * math.pi * hertz * time)
        noise = torch.randn(length, generator=generator) / 3
        piece = (tone, noise, tone / 2 + noise * torch.exp(-time * 30), torch.zeros(length))[kind % 4]
        sound[start : start + length] = piece * 0.6 * 10 ** (-2 * draw())
        start, kind = start + length, kind + 1
    return sound.clamp(-1, 1)
