"""What every kind of positions offers: a rotary table for the tokens of each tower.

Legend: L tokens, D head width, N heads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from fractions import Fraction
from itertools import pairwise

from torch import Tensor

from ..rope import Rope
from ..towers.base import TokenGrid


class RopeKind(ABC):
    """How tokens of both towers get positions in a bridge."""

    # Whether a bridge that joins tokens without attention goes by their seconds, or spreads their steps evenly.
    in_seconds = False

    @abstractmethod
    def tables(self, head_width: int, video: TokenGrid, audio: TokenGrid) -> tuple[Rope, Rope]:
        """Cos and sin ``(L, D)`` of the video and of the audio tokens.

        Args:
            head_width: D.
            video: Video tokens, with their times.
            audio: Audio tokens, with their times.
        """

    def moments(self, num: int, video: TokenGrid, audio: TokenGrid) -> Tensor | None:
        """Places of ``num`` equal parts of a latent frame, relative to its tokens' position, ``(num,)``.

        None for kinds that give one moment another position in each tower; heads cannot begin by looking there.
        """
        return None


def middles(grid: TokenGrid, audio: TokenGrid) -> list[Fraction]:
    """Of each position of a tower the middle of its seconds, counted from where the sound begins.

    Args:
        grid: The tower's tokens, with their times.
        audio: The audio tower's, likewise.
    """
    return [(begin + end) / 2 - audio.times.start for begin, end in pairwise(grid.edges)]
