"""The three planes into which a volume of time, rows and columns is summarised, and the forms in which they travel.

Planes are, in this order everywhere: the *still* one (rows × columns, summed up over time), and two of *motion*,
(time × columns) and (time × rows). The rows of both motion planes are time, so that one place of all planes of picture
and sound is one moment. *Packed*, the planes lie row by row one after the other and nothing is padded: so they travel
through the sampler. *Stacked*, they are padded at the bottom and the right to one size: so the transformer sees them.

Legend: B batch, C channels, T h w time, rows and columns, L = h·w + T·w + T·h places, P planes, R S padded rows and
columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.errors import GeometryError

PLANES = ("still", "columns", "rows")


@dataclass(frozen=True)
class PlaneGrid:
    """The extent of the volume.

    Args:
        time: T, segments.
        rows: h.
        columns: w.

    Raises:
        GeometryError: an extent that is not positive.
    """

    time: int
    rows: int
    columns: int

    def __post_init__(self) -> None:
        if min(self.time, self.rows, self.columns) < 1:
            got = f"{self.time}×{self.rows}×{self.columns}"
            raise GeometryError("the volume has no extent", got=got, expected="time, rows and columns of at least 1")

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of each plane."""
        return (self.rows, self.columns), (self.time, self.columns), (self.time, self.rows)

    @property
    def places(self) -> tuple[int, ...]:
        """Places of each plane."""
        return tuple(rows * columns for rows, columns in self.sizes)

    @property
    def length(self) -> int:
        """L, the places of all planes."""
        return sum(self.places)

    def pack(self, planes: Sequence[Tensor]) -> Tensor:
        """``(B, C, L)`` of three planes ``(B, C, rows, columns)``.

        Raises:
            GeometryError: a plane of another size, for example one that is turned.
        """
        if tuple(tuple(plane.shape[2:]) for plane in planes) != self.sizes:
            got = ", ".join("×".join(map(str, plane.shape[2:])) for plane in planes)
            expected = ", ".join(f"{rows}×{columns}" for rows, columns in self.sizes)
            raise GeometryError("these are not the planes of this volume", got=got, expected=f"{expected} ({self})")
        return torch.cat([plane.flatten(2) for plane in planes], dim=2)

    def unpack(self, packed: Tensor) -> tuple[Tensor, ...]:
        """The three planes of ``(B, C, L)``.

        Raises:
            GeometryError: another L.
        """
        self.require(packed)
        parts = packed.split(self.places, dim=2)
        return tuple(part.unflatten(2, size) for part, size in zip(parts, self.sizes, strict=True))

    def require(self, packed: Tensor, channels: int | None = None) -> None:
        """Refuse what are no packed planes of this volume.

        Args:
            packed: ``(B, C, L)``.
            channels: C, where it is known.

        Raises:
            GeometryError: another L, another C.
        """
        if packed.ndim != 3 or packed.shape[2] != self.length or packed.shape[1] != (channels or packed.shape[1]):
            expected = f"{self}" + (f", {channels} channels" if channels else "")
            got = tuple(packed.shape)
            raise GeometryError("the latent does not hold planes of this model", got=got, expected=expected)

    def padded(self, patch: int = 1) -> tuple[int, int]:
        """R and S: those of the largest plane, rounded up to whole patches."""
        return tuple(-(-max(side) // patch) * patch for side in zip(*self.sizes, strict=True))

    def stack(self, planes: Sequence[Tensor], patch: int = 1) -> Tensor:
        """``(B, P, C, R, S)``, zero where a plane has no place."""
        rows, columns = self.padded(patch)
        grown = [F.pad(plane, (0, columns - plane.shape[3], 0, rows - plane.shape[2])) for plane in planes]
        return torch.stack(grown, dim=1)

    def unstack(self, stacked: Tensor) -> tuple[Tensor, ...]:
        """The planes of ``(B, P, C, R, S)`` without what was padded."""
        parts = zip(stacked.unbind(1), self.sizes, strict=True)
        return tuple(part[..., :rows, :columns] for part, (rows, columns) in parts)

    def mask(self, patch: int = 1, device: torch.device | None = None) -> Tensor:
        """Which places of the stack are there, ``(P, R, S)`` bool."""
        rows, columns = self.padded(patch)
        down, right = torch.arange(rows, device=device)[:, None], torch.arange(columns, device=device)
        return torch.stack([(down < size[0]) & (right < size[1]) for size in self.sizes])

    def __str__(self) -> str:
        return f"L = {self.length} for T {self.time}, h {self.rows}, w {self.columns}"


def expand(still: Tensor, columns: Tensor, rows: Tensor) -> Tensor:
    """Planes back to a volume: ``Z[t, i, j] = still[i, j] + columns[t, j] + rows[t, i]`` (eq. 7).

    Args:
        still: ``(B, D, h, w)``.
        columns: ``(B, D, T, w)``.
        rows: ``(B, D, T, h)``.

    Returns:
        ``(B, D, T, h, w)``.
    """
    return still[:, :, None] + columns[:, :, :, None] + rows[..., None]
