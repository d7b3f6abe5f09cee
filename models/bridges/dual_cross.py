"""Dual Cross-Attention (DCA): each stream queries the other (BridgeDiT eq. 5–6)."""

from __future__ import annotations

from torch import Tensor

from ..rope import Rope
from . import BRIDGES
from .base import AttentionBridge


@BRIDGES.register("dual_cross")
class DualCrossBridge(AttentionBridge):
    """``a_1 = o_1(Attn(q_1, k_2, v_2))``, ``a_2 = o_2(Attn(q_2, k_1, v_1))``, scale 1/√D, no masks.

    Eq. 5–6 are the attention; the timestep modulation, rotary positions, gates and MLP around it are those of the
    released blocks, which the equations leave out. The official name of this kind is ``bicross``.
    """

    def cross(self, video: Tensor, audio: Tensor, video_rope: Rope, audio_rope: Rope) -> tuple[Tensor, Tensor]:
        """Video attends to audio, audio to video."""
        attn = self.attn
        from_audio = attn.attend(
            attn.project("q", 1, video, video_rope),
            attn.project("k", 2, audio, audio_rope),
            attn.project("v", 2, audio),
        )
        from_video = attn.attend(
            attn.project("q", 2, audio, audio_rope),
            attn.project("k", 1, video, video_rope),
            attn.project("v", 1, video),
        )
        return attn.o_proj_1(from_audio), attn.o_proj_2(from_video)
