"""What the two unidirectional bridges share."""

from __future__ import annotations

from torch import Tensor

from ..rope import Rope
from .base import SIDES, AttentionBridge
from .config import BridgeConfig


class OneWayBridge(AttentionBridge):
    """One stream attends to the other; what happens to the other depends on the reading.

    ``official``: it attends to itself with the same projections and runs its MLP, as the released code does.
    ``paper``: it passes through untouched ("one half of DCA").

    A subclass says in ``listeners`` which side hears the other.

    Args:
        config: Sizes and reading.
    """

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__(config)
        (side,) = self.listeners
        self.listener = 1 + SIDES.index(side)
        if config.reading == "paper":
            self.idle_streams = frozenset({3 - self.listener})

    def cross(self, video: Tensor, audio: Tensor, video_rope: Rope, audio_rope: Rope) -> tuple[Tensor, Tensor]:
        """The listener attends to the speaker; the speaker to itself, unless it idles."""
        streams = {1: (video, video_rope), 2: (audio, audio_rope)}
        speaker = 3 - self.listener
        x, rope = streams[speaker]
        key, value = self.attn.project("k", speaker, x, rope), self.attn.project("v", speaker, x)
        out = {1: video, 2: audio}
        for stream in (self.listener, speaker):
            if stream not in self.idle_streams:
                query = self.attn.project("q", stream, *streams[stream])
                out[stream] = getattr(self.attn, f"o_proj_{stream}")(self.attn.attend(query, key, value))
        return out[1], out[2]
