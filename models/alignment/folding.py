"""Between the latents of a clip and one vector a moment; the moments of picture and sound lie at the same times.

A moment is ``segment`` latent frames of the picture, the last perhaps fewer, and the audio latents beside them. When
these are follows from the numbers of latents (:meth:`~..core.clock.LatentGeometry.times_from_counts`), so that latents
of an unknown frame rate can be folded too.
"""

from __future__ import annotations

from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.clock import LatentGeometry


def moments(num_frames: int, segment: int) -> list[tuple[int, int]]:
    """First and behind the last latent frame of every moment.

    Args:
        num_frames: Latent frames of the picture.
        segment: Latent frames of a moment; that many or more make the whole clip one.
    """
    return [(start, min(start + segment, num_frames)) for start in range(0, num_frames, segment)]


def middles(num_frames: int, segment: int, geometry: LatentGeometry) -> Tensor:
    """When the middle of each moment is ``(N,)``, as a share of the clip in 0..1."""
    steps = geometry.times_from_counts(num_frames, 1).video
    whole = steps.edge(num_frames)
    return torch.tensor([float((steps.edge(a) + steps.edge(b)) / 2 / whole) for a, b in moments(num_frames, segment)])


def edges(num_frames: int, segment: int, geometry: LatentGeometry, side: str) -> tuple[Fraction, ...]:
    """Where moments begin, as shares of a side's latent steps in 0..1, and where the last one ends: ``N + 1``.

    Args:
        num_frames: Latent frames of the picture.
        segment: Latent frames of a moment.
        geometry: How many frames a latent frame is.
        side: ``video``, whose first step is shorter than the others, or ``audio``, whose steps are even.
    """
    starts = [*(first for first, _ in moments(num_frames, segment)), num_frames]
    if side == "video":
        return tuple(Fraction(start, num_frames) for start in starts)
    steps = geometry.times_from_counts(num_frames, 1).video
    return tuple(Fraction(steps.edge(start) / steps.edge(num_frames)) for start in starts)


def sound_spans(num_frames: int, num_latents: int, segment: int, geometry: LatentGeometry) -> list[tuple[int, int]]:
    """First and behind the last audio latent of every moment; each has at least one.

    Args:
        num_frames: Latent frames of the picture.
        num_latents: Audio latents.
        segment: Latent frames of a moment.
        geometry: How many frames a latent frame is.
    """
    steps = geometry.times_from_counts(num_frames, num_latents).video
    whole = steps.edge(num_frames)
    spans = []
    for first, behind in moments(num_frames, segment):
        start = min(round(steps.edge(first) / whole * num_latents), num_latents - 1)
        spans.append((start, max(start + 1, round(steps.edge(behind) / whole * num_latents))))
    return spans


def fold_video(latents: Tensor, *, grid: int, segment: int) -> Tensor:
    """``(B, C, T, H, W)`` to ``(B, N, C·P²)``: means over P×P parts of the picture and over a moment's frames."""
    cells = F.adaptive_avg_pool3d(latents, (None, grid, grid))
    means = [cells[:, :, a:b].mean(2) for a, b in moments(latents.shape[2], segment)]
    return torch.stack(means, 1).flatten(2)


def unfold_video(vectors: Tensor, *, grid: int, segment: int, shape: tuple[int, int, int]) -> Tensor:
    """The latents ``(B, C, T, H, W)`` that are constant in each part of each moment.

    Args:
        vectors: ``(B, N, C·P²)``.
        grid: P.
        segment: Latent frames of a moment.
        shape: T, H and W.
    """
    frames, height, width = shape
    cells = vectors.unflatten(2, (-1, grid, grid)).transpose(1, 2)
    rows, columns = (torch.arange(size, device=vectors.device) * grid // size for size in (height, width))
    large = cells[..., rows, :][..., columns]
    return large.repeat_interleave(segment, 2)[:, :, :frames]


def fold_audio(latents: Tensor, *, num_frames: int, positions: int, segment: int, geometry: LatentGeometry) -> Tensor:
    """``(B, C, L)`` to ``(B, N, C·K)``: means over K parts of each moment.

    Args:
        latents: Of the sound.
        num_frames: Latent frames of the picture beside it.
        positions: K.
        segment: Latent frames of a moment.
        geometry: How many frames a latent frame is.
    """
    spans = sound_spans(num_frames, latents.shape[2], segment, geometry)
    return torch.stack([F.adaptive_avg_pool1d(latents[..., a:b], positions) for a, b in spans], 1).flatten(2)


def unfold_audio(
    vectors: Tensor, *, num_frames: int, num_latents: int, positions: int, segment: int, geometry: LatentGeometry
) -> Tensor:
    """The latents ``(B, C, L)`` that are constant in each part of each moment; arguments as :func:`fold_audio`."""
    parts = vectors.unflatten(2, (-1, positions))
    made = []
    for number, (start, behind) in enumerate(sound_spans(num_frames, num_latents, segment, geometry)):
        index = torch.arange(behind - start, device=vectors.device) * positions // (behind - start)
        made.append(parts[:, number][..., index])
    return torch.cat(made, 2)[..., :num_latents]
