"""What bridges share that only bring the picture to the sound (SyncFlow): one cross-attention, and a token of the time.

Legend: B batch, T latent frames, S places in a latent frame, L tokens, C stream width, K query/key width, N heads.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import InputError
from ..attention import DEFAULT_KERNEL, AttentionKernel
from ..rope import Rope, rotate_interleaved
from ..towers.base import TokenGrid
from .base import NORM_EPS, Bridge, BridgeInputs
from .config import BridgeConfig


def normed(x: Tensor) -> Tensor:
    """LayerNorm over channels without affine: raw streams and time embeddings differ a hundredfold in size."""
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)


class HeadedAttention(nn.Module):
    """Attention of one sequence on another: ``{q,k,v,o}_proj``, all with bias; q, k and v start Xavier-uniform.

    Args:
        config: Widths of queries and values, and heads.
        width: Of what asks, and of what comes out.
        source_width: Of what is asked.
    """

    def __init__(self, config: BridgeConfig, width: int, source_width: int) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.kernel: AttentionKernel = DEFAULT_KERNEL
        self.q_proj = nn.Linear(width, config.qk_width)
        self.k_proj = nn.Linear(source_width, config.qk_width)
        self.v_proj = nn.Linear(source_width, config.v_width)
        self.o_proj = nn.Linear(config.v_width, width)
        for layer in (self.q_proj, self.k_proj, self.v_proj, self.o_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def heads(self, projected: Tensor) -> Tensor:
        """``(…, N·D)`` to ``(…, N, D)``."""
        return projected.unflatten(-1, (self.num_heads, -1))


class IntoAudioBridge(Bridge):
    """The sound attends to the picture and to one token of the time; the picture passes as the same tensor.

    SyncFlow has this cross-attention inside each audio block; here it stands behind a block, with projections of its
    own and an output that starts at zero (reference, section 5, 10). Per block, with LN0 a LayerNorm without affine::

        source = [read(LN0(video)); Linear(LN0(audio_time))]
        audio ← audio + o(attention(rotated q(LN0(audio)), rotated k(source), v(source)))

    The token of the time has no place and is not rotated. Both readings are the same.

    Args:
        config: Sizes, and the positions by which the sound finds its moment.
    """

    listeners: ClassVar[frozenset[str]] = frozenset({"audio"})
    usual_rope: ClassVar[str] = "time_aligned"

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__(config)
        self.cross = HeadedAttention(config, config.audio_width, self.source_width(config))
        nn.init.zeros_(self.cross.o_proj.weight)
        self.audio_time_token = nn.Linear(config.audio_time_width, self.source_width(config))

    @staticmethod
    @abstractmethod
    def source_width(config: BridgeConfig) -> int:
        """Channels of what the sound attends to."""

    @abstractmethod
    def read(self, features: Tensor, grid: TokenGrid) -> Tensor:
        """What the sound attends to, ``(B, L1, source_width)``.

        Args:
            features: The video stream after LN0, ``(B, L1, C1)``.
            grid: Where its tokens lie.
        """

    @classmethod
    def sizes_of(cls, block: Mapping[str, Tensor]) -> dict[str, int]:
        """All but the number of heads; nothing depends on the video's time, which is as wide as its tower."""
        qk_width, audio_width = block["cross.q_proj.weight"].shape
        video_width = cls.video_width_of(block)
        return {
            "video_width": video_width,
            "audio_width": audio_width,
            "qk_width": qk_width,
            "v_width": block["cross.v_proj.weight"].shape[0],
            "video_time_width": video_width,
            "audio_time_width": block["audio_time_token.weight"].shape[1],
        }

    @classmethod
    @abstractmethod
    def video_width_of(cls, block: Mapping[str, Tensor]) -> int:
        """C of the video tower, by the tensors of a block."""

    @torch.no_grad()
    def look_at_one_moment(self, strength: float, video: TokenGrid, audio: TokenGrid) -> None:
        """Queries and keys of the cross-attention begin with a constant part that is highest at one time."""
        biases = self.moment_parts(strength, video, audio)
        self.cross.k_proj.bias.copy_(biases[0])
        self.cross.q_proj.bias.copy_(biases[1])

    def forward(self, inputs: BridgeInputs) -> tuple[Tensor, Tensor]:
        """The picture untouched, the sound with what it heard of it."""
        if inputs.video_grid is None:
            raise InputError(
                "these bridges need to know where picture tokens lie in time",
                got=f"{type(self).__name__} without video_grid",
                expected="video_grid, the latent frames and the places in each",
            )
        seen = self.read(normed(inputs.video), inputs.video_grid)
        time = self.audio_time_token(normed(inputs.audio_time)).unsqueeze(1).expand(seen.shape[0], -1, -1)
        return inputs.video, inputs.audio + self._attend(inputs.audio, seen, time, inputs)

    def _attend(self, audio: Tensor, seen: Tensor, time: Tensor, inputs: BridgeInputs) -> Tensor:
        cross, source = self.cross, torch.cat([seen, time], dim=1)
        query = rotate_interleaved(cross.heads(cross.q_proj(normed(audio))), *inputs.audio_rope)
        key = rotate_interleaved(cross.heads(cross.k_proj(source)), *_with_unrotated(inputs.video_rope))
        return cross.o_proj(cross.kernel(query, key, cross.heads(cross.v_proj(source))).flatten(2))


def _with_unrotated(rope: Rope) -> Rope:
    """A table for one more token at the end, which it does not turn."""
    cos, sin = rope
    return torch.cat([cos, torch.ones_like(cos[:1])]), torch.cat([sin, torch.zeros_like(sin[:1])])
