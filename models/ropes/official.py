"""The published positions: both towers count their tokens from 0."""

from __future__ import annotations

from ..rope import Rope, flat_rope
from ..towers.base import TokenGrid
from . import ROPES
from .base import RopeKind


@ROPES.register("official")
class OfficialRope(RopeKind):
    """Flattened token index: what the published bridges were trained with. Nothing of it tells when a token is."""

    def tables(self, head_width: int, video: TokenGrid, audio: TokenGrid) -> tuple[Rope, Rope]:
        """Each tower's own."""
        return flat_rope(head_width, video.num_tokens), flat_rope(head_width, audio.num_tokens)
