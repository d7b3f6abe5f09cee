"""How a picture that does not fit whole is cut: the stock codec's own small tiles, or as few pieces as fit."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

OWN = "on"
_PIECES = re.compile(r"([1-9][0-9]{0,3}) tiles")
# Of the fewest pieces that may be tried, how many more come next; the codec's own tiles come last.
_MORE = (1.0, 1.5, 3.0)
_NAMES = ("min_height", "min_width", "stride_height", "stride_width")


def pieces(tiling: str) -> int | None:
    """N of ``N tiles``, which the planner asks for; None for the words that people use."""
    found = _PIECES.fullmatch(tiling)
    return None if found is None else int(found[1])


def larger_tiles(num_pixels: int, *, largest: int, least: int) -> tuple[str, ...]:
    """Ways of cutting into fewer pieces than the codec's own, the fewest first.

    Args:
        num_pixels: Of the whole picture.
        largest: Pixels of a piece that may be tried.
        least: Pixels of the codec's own tiles.
    """
    first = max(2, math.ceil(num_pixels / largest))
    counts = dict.fromkeys(math.ceil(first * more) for more in _MORE)
    return tuple(f"{count} tiles" for count in counts if num_pixels / count >= least)


@dataclass(frozen=True)
class Tiles:
    """Extents of a tile and the steps from one to the next, in latent pixels.

    Args:
        height: Rows.
        width: Columns.
        stride_height: Rows from one to the next.
        stride_width: Columns from one to the next.
    """

    height: int
    width: int
    stride_height: int
    stride_width: int

    @classmethod
    def own(cls, vae: AutoencoderKLWan) -> Tiles:
        """The codec's."""
        ratio = vae.config.scale_factor_spatial
        return cls(*(getattr(vae, f"tile_sample_{name}") // ratio for name in _NAMES))

    def cut(self, count: int, height: int, width: int) -> Tiles:
        """As many pieces, which overlap as these do, so laid that they take the least work.

        Args:
            count: Of the pieces; fewer where there are not so many rows and columns.
            height: Of the picture, in latent pixels.
            width: Likewise.
        """
        overlaps = self.height - self.stride_height, self.width - self.stride_width
        ways = []
        for rows in range(1, count + 1):
            if count % rows == 0:
                sides = zip((height, width), (rows, count // rows), overlaps, strict=True)
                (tall, down), (wide, right) = (_piece(*side) for side in sides)
                ways.append(Tiles(tall, wide, down, right))
        return min(ways, key=lambda way: (way.work(height, width), way.height * way.width))

    def work(self, height: int, width: int) -> int:
        """Latent pixels of all tiles of a picture together."""
        if height <= self.height and width <= self.width:
            return height * width
        rows = sum(min(self.height, height - start) for start in range(0, height, self.stride_height))
        columns = sum(min(self.width, width - start) for start in range(0, width, self.stride_width))
        return rows * columns

    def count(self, height: int, width: int) -> int:
        """Tiles of a picture."""
        if height <= self.height and width <= self.width:
            return 1
        return math.ceil(height / self.stride_height) * math.ceil(width / self.stride_width)


def _piece(size: int, count: int, overlap: int) -> tuple[int, int]:
    """Extent of one of so many pieces of a side, and the step to the next."""
    stride = math.ceil(size / count)
    return min(size, stride + overlap), stride


@contextmanager
def cutting(vae: AutoencoderKLWan, tiles: Tiles | None, ratio: int) -> Iterator[None]:
    """The stock codec cuts so inside the block.

    Args:
        vae: It is as before behind the block.
        tiles: None leaves the picture whole.
        ratio: Of what it cuts to latent pixels.
    """
    before = {name: getattr(vae, f"tile_sample_{name}") for name in _NAMES}
    tiled, vae.use_tiling = vae.use_tiling, tiles is not None
    if tiles is not None and tiles != Tiles.own(vae):
        sizes = tiles.height, tiles.width, tiles.stride_height, tiles.stride_width
        for name, size in zip(_NAMES, sizes, strict=True):
            setattr(vae, f"tile_sample_{name}", size * ratio)
    try:
        yield
    finally:
        vae.use_tiling = tiled
        for name, size in before.items():
            setattr(vae, f"tile_sample_{name}", size)
