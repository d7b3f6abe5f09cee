"""Full attention over both streams' tokens together (BridgeDiT eq. 7)."""

from __future__ import annotations

import torch
from torch import Tensor

from ..rope import Rope
from . import BRIDGES
from .base import AttentionBridge


@BRIDGES.register("full")
class FullAttentionBridge(AttentionBridge):
    """Queries, keys and values of [video; audio] in one attention; each stream keeps its own projections.

    Reading ``official``: the released code scales twice, so the softmax sees q·k/D. Reading ``paper``: 1/√D.
    The official name of this kind is ``full_attn``.
    """

    def cross(self, video: Tensor, audio: Tensor, video_rope: Rope, audio_rope: Rope) -> tuple[Tensor, Tensor]:
        """Every token attends to every token."""
        attn = self.attn
        streams = ((1, video, video_rope), (2, audio, audio_rope))
        query = torch.cat([attn.project("q", stream, x, rope) for stream, x, rope in streams], dim=1)
        key = torch.cat([attn.project("k", stream, x, rope) for stream, x, rope in streams], dim=1)
        value = torch.cat([attn.project("v", stream, x) for stream, x, _ in streams], dim=1)
        scale = 1.0 / self.config.head_width if self.config.reading == "official" else None
        out = attn.attend(query, key, value, scale=scale)
        out_video, out_audio = out.split([video.shape[1], audio.shape[1]], dim=1)
        return attn.o_proj_1(out_video), attn.o_proj_2(out_audio)
