"""Fusion Block: all tokens of both towers attend to each other under one time axis (AV-Link eq. 3–4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import InputError
from ..attention import DEFAULT_KERNEL, AttentionKernel
from ..rope import Rope, rotate_interleaved
from ..towers.base import TokenGrid
from . import BRIDGES
from .base import MLP_RATIO, NORM_EPS, SIDES, Bridge, BridgeInputs, BridgeMLP, modulate
from .config import BridgeConfig

STREAMS = dict(zip(SIDES, (1, 2), strict=True))


@dataclass(frozen=True)
class FusionBlockConfig(BridgeConfig):
    """Sizes of a block; the defaults are AV-Link's width, heads and positions between Wan 1.3B and Stable Audio.

    Args:
        mlp_width: Hidden width of both MLPs; 0 for four times ``qk_width``.
        time_rank: Width of what both times are read into before they modulate.
        reinject: Whether a given side hears the side that is made (AV-Link 3.3); without, its stream stays as its
            tower made it. Where nothing is given both sides hear.
        moments: Whether queries and keys have constant parts, by which heads may begin (``look_at_one_moment``).
    """

    qk_width: int = 1024
    v_width: int = 1024
    num_heads: int = 16
    rope: str = "token_clock"
    mlp_width: int = field(default=0, metadata={"least": 0})
    time_rank: int = 256
    reinject: bool = True
    moments: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("reinject", "moments"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(
                    f"the bridge's {name} is not usable", got=getattr(self, name), expected="true or false"
                )


class HeadNorm(nn.RMSNorm):
    """RMSNorm over the channels of a head, with one scale a channel for all heads, in the type of what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        """``(B, L, N, D)`` in and out; autocast leaves float32 scales beside half-precision streams."""
        return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps).to(x.dtype)


class FusionAttention(nn.Module):
    """Projections of both streams to a common width, and one attention over the tokens of both.

    Queries and keys are normalised a head (RMSNorm, one scale a channel), then get their constant parts, if any, and
    then turn by their positions; values do not turn. Each stream's queries are attended by themselves, over the keys
    and values of both: the same numbers as in one softmax over all, and a stream can be left out.

    Args:
        config: Sizes.
    """

    def __init__(self, config: FusionBlockConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.kernel: AttentionKernel = DEFAULT_KERNEL
        for stream, width in ((1, config.video_width), (2, config.audio_width)):
            for letter, target in (("q", config.qk_width), ("k", config.qk_width), ("v", config.v_width)):
                layer = nn.Linear(width, target)
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
                self.add_module(f"{letter}_proj_{stream}", layer)
            for letter in "qk":
                self.add_module(f"{letter}_norm_{stream}", HeadNorm(config.head_width, eps=NORM_EPS))
                moment = nn.Parameter(torch.zeros(config.qk_width)) if config.moments else None
                self.register_parameter(f"{letter}_moment_{stream}", moment)

    def forward(
        self, video: Tensor, audio: Tensor, video_rope: Rope, audio_rope: Rope, wanted: frozenset[str]
    ) -> dict[str, Tensor]:
        """What the wanted sides' tokens hear, ``(B, L, v_width)``, from modulated inputs ``(B, L, C)``."""
        streams = {"video": (video, video_rope), "audio": (audio, audio_rope)}
        keys = torch.cat([self._turned("k", side, *streams[side]) for side in SIDES], dim=1)
        values = torch.cat([self._heads("v", side, streams[side][0]) for side in SIDES], dim=1)
        return {
            side: self.kernel(self._turned("q", side, *streams[side]), keys, values).flatten(2)
            for side in SIDES
            if side in wanted
        }

    def _heads(self, letter: str, side: str, x: Tensor) -> Tensor:
        """``(B, L, C)`` to ``(B, L, N, D)``."""
        return getattr(self, f"{letter}_proj_{STREAMS[side]}")(x).unflatten(-1, (self.num_heads, -1))

    def _turned(self, letter: str, side: str, x: Tensor, rope: Rope) -> Tensor:
        """Normalised, with its constant part, and rotated."""
        heads = self._heads(letter, side, x)
        normed = getattr(self, f"{letter}_norm_{STREAMS[side]}")(heads)
        moment = getattr(self, f"{letter}_moment_{STREAMS[side]}")
        if moment is not None:
            normed = normed + moment.to(normed.dtype).unflatten(0, (self.num_heads, -1))
        return rotate_interleaved(normed, *rope)


@BRIDGES.register("fusion_block")
class FusionBlock(Bridge):
    """One attention over both streams, one residual branch a stream, and both times in each stream's modulation.

    Per stream s::

        e = SiLU(W_t [time_v ; time_a] + b_t)
        shift, scale, gate = M_s e + m_s
        x_s ← x_s + gate · MLP_s(attention_s(LN(x_s)·(1+scale)+shift))

    The MLP brings the common width back to the stream's and is the attention's output projection (AVLINK 1.4). A new
    block is the identity by its gates, which are zero while ``fc2`` is not; :meth:`open_gates` turns that round. Both
    readings are the same. A side that is not wanted is heard and does not hear.
    """

    Config = FusionBlockConfig
    usual_rope = "token_clock"

    def __init__(self, config: FusionBlockConfig) -> None:
        super().__init__(config)
        self.attn = FusionAttention(config)
        hidden = config.mlp_width or MLP_RATIO * config.qk_width
        self.time_in = nn.Linear(config.video_time_width + config.audio_time_width, config.time_rank)
        for side, stream in STREAMS.items():
            width = getattr(config, f"{side}_width")
            mlp = BridgeMLP(config.v_width, hidden, width)
            mlp.fc2.reset_parameters()
            modulation = nn.Linear(config.time_rank, 3 * width)
            nn.init.zeros_(modulation.weight)
            nn.init.zeros_(modulation.bias)
            self.add_module(f"mlp_{stream}", mlp)
            self.add_module(f"adaln_modulation_{stream}", modulation)

    @classmethod
    def sizes_of(cls, block: Mapping[str, Tensor]) -> dict[str, Any]:
        """All but what the block does: ``time_in`` tells both time widths together, which are those of the streams."""
        qk_width, video_width = block["attn.q_proj_1.weight"].shape
        audio_width = block["attn.q_proj_2.weight"].shape[1]
        time_rank, both_times = block["time_in.weight"].shape
        hidden, v_width = block["mlp_1.fc1.weight"].shape[0], block["attn.v_proj_1.weight"].shape[0]
        head_width = block["attn.q_norm_1.weight"].numel()
        if both_times != video_width + audio_width or head_width % 2 or qk_width % head_width:
            return super().sizes_of(block)
        return {
            "video_width": video_width,
            "audio_width": audio_width,
            "qk_width": qk_width,
            "v_width": v_width,
            "num_heads": qk_width // head_width,
            "video_time_width": video_width,
            "audio_time_width": audio_width,
            "mlp_width": 0 if hidden == MLP_RATIO * qk_width else hidden,
            "time_rank": time_rank,
            "moments": "attn.q_moment_1" in block,
        }

    @torch.no_grad()
    def open_gates(self, bias: float) -> None:
        """The gates begin at ``bias`` and ``fc2`` at zero; at 0 nothing changes, as both together would never learn."""
        if bias == 0:
            return
        for stream in STREAMS.values():
            getattr(self, f"adaln_modulation_{stream}").bias.chunk(3)[2].fill_(bias)
            fc2 = getattr(self, f"mlp_{stream}").fc2
            nn.init.zeros_(fc2.weight)
            nn.init.zeros_(fc2.bias)

    @torch.no_grad()
    def look_at_one_moment(self, strength: float, video: TokenGrid, audio: TokenGrid) -> None:
        """Constant parts behind the norms, which would take them out of a bias again."""
        parts = self.moment_parts(strength, video, audio)
        self.config = replace(self.config, moments=True)
        for stream, part in enumerate(parts, start=1):
            for letter in "qk":
                like = getattr(self.attn, f"{letter}_proj_{stream}").bias
                setattr(self.attn, f"{letter}_moment_{stream}", nn.Parameter(part.to(like, copy=True)))

    def forward(self, inputs: BridgeInputs) -> tuple[Tensor, Tensor]:
        """Streams that are not written come back as they came."""
        written = inputs.wanted if self.config.reinject else inputs.wanted - inputs.given
        times = F.silu(self.time_in(_side_by_side(inputs.video_time, inputs.audio_time)))
        parts = {
            side: getattr(self, f"adaln_modulation_{stream}")(times).chunk(3, dim=1) for side, stream in STREAMS.items()
        }
        heard = self.attn(
            modulate(inputs.video, *parts["video"][:2]),
            modulate(inputs.audio, *parts["audio"][:2]),
            inputs.video_rope,
            inputs.audio_rope,
            written,
        )
        streams = {"video": inputs.video, "audio": inputs.audio}
        for side, attended in heard.items():
            out = getattr(self, f"mlp_{STREAMS[side]}")(attended)
            streams[side] = streams[side] + parts[side][2].unsqueeze(1) * out
        return streams["video"], streams["audio"]


def _side_by_side(video: Tensor, audio: Tensor) -> Tensor:
    """Two embeddings ``(B or 1, T)`` as one."""
    rows = max(len(video), len(audio))
    return torch.cat([video.expand(rows, -1), audio.expand(rows, -1)], dim=1)
