"""What every bridge is: two streams in, two streams out, one frozen configuration, official parameter names.

Stream 1 is video, stream 2 is audio, as in the published parameter names.
Legend: B batch, L tokens, N heads, C stream width, K query/key width, T time-embedding width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import IncompatibleWeightsError, InputError
from ..attention import DEFAULT_KERNEL, AttentionKernel
from ..rope import Rope, rotate_interleaved
from ..towers.base import TokenGrid
from ._moments import moment_biases
from .config import BridgeConfig

SIDES = ("video", "audio")
NORM_EPS = 1e-6
MLP_RATIO = 4


@dataclass(frozen=True)
class BridgeInputs:
    """What a bridge block receives.

    Args:
        video: Residual stream ``(B, L1, C1)``.
        audio: Residual stream ``(B, L2, C2)``, global token first.
        video_time: ``(B or 1, T1)``.
        audio_time: ``(B or 1, T2)``.
        video_rope: cos, sin ``(L1, K/N)``.
        audio_rope: cos, sin ``(L2, K/N)``.
        video_grid: Where the video tokens lie in time.
        audio_grid: Where the audio tokens lie in time.
        given: Sides that are known as a whole while the other one is made from them.
        wanted: Sides whose new streams are used. Behind the last bridge nobody reads the stream of a given side, so a
            kind may leave out what would change it; the other side's stream must not depend on that.
    """

    video: Tensor
    audio: Tensor
    video_time: Tensor
    audio_time: Tensor
    video_rope: Rope
    audio_rope: Rope
    video_grid: TokenGrid | None = None
    audio_grid: TokenGrid | None = None
    given: frozenset[str] = frozenset()
    wanted: frozenset[str] = frozenset(SIDES)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without affine (eps 1e-6), then ``·(1+scale) + shift``; modulation ``(B or 1, C)``."""
    normed = F.layer_norm(x, (x.shape[-1],), eps=NORM_EPS)
    return normed * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


class BridgeMLP(nn.Module):
    """``fc2(GELU_tanh(fc1(x)))``; fc2 starts at zero.

    Args:
        width: C.
        hidden_width: 0 for 4C.
        out_width: 0 for C.
    """

    def __init__(self, width: int, hidden_width: int = 0, out_width: int = 0) -> None:
        super().__init__()
        hidden_width = hidden_width or MLP_RATIO * width
        self.fc1 = nn.Linear(width, hidden_width)
        self.fc2 = nn.Linear(hidden_width, out_width or width)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, L, C)`` to ``(B, L, out_width)``."""
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class BridgeAttention(nn.Module):
    """The projections of both streams, and attention of one stream's queries on chosen keys and values.

    Every attention-type bridge has these parameters: ``{q,k,v,o}_proj_{1,2}``, all with bias. q, k and v start
    Xavier-uniform, o at zero.

    Args:
        config: Sizes.
    """

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.kernel: AttentionKernel = DEFAULT_KERNEL
        for stream, width in ((1, config.video_width), (2, config.audio_width)):
            for letter, source, target in (
                ("q", width, config.qk_width),
                ("k", width, config.qk_width),
                ("v", width, config.v_width),
                ("o", config.v_width, width),
            ):
                layer = nn.Linear(source, target)
                nn.init.zeros_(layer.bias)
                if letter == "o":
                    nn.init.zeros_(layer.weight)
                else:
                    nn.init.xavier_uniform_(layer.weight)
                self.add_module(f"{letter}_proj_{stream}", layer)

    def project(self, letter: str, stream: int, x: Tensor, rope: Rope | None = None) -> Tensor:
        """``(B, L, C)`` to ``(B, L, N, D)``, rotated when a table is given."""
        heads = getattr(self, f"{letter}_proj_{stream}")(x).unflatten(-1, (self.num_heads, -1))
        return heads if rope is None else rotate_interleaved(heads, *rope)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, *, scale: float | None = None) -> Tensor:
        """Softmax attention in the chosen kernel, heads merged: ``(B, L, N·D)``."""
        return self.kernel(query, key, value, scale=scale).flatten(2)


class Bridge(nn.Module, ABC):
    """One bridge block between the towers.

    Args:
        config: Sizes and reading, of the kind's own ``Config``.
    """

    Config: ClassVar[type[BridgeConfig]] = BridgeConfig
    # Whether a new block changes nothing.
    identity_at_start: ClassVar[bool] = True
    # The sides to which this kind carries something of the other one.
    listeners: ClassVar[frozenset[str]] = frozenset(SIDES)
    # Positions of blocks without metadata that say them.
    usual_rope: ClassVar[str] = "official"

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__()
        self.config = config

    @abstractmethod
    def forward(self, inputs: BridgeInputs) -> tuple[Tensor, Tensor]:
        """New video and audio streams, shaped like the old ones."""

    @classmethod
    def sizes_of(cls, block: Mapping[str, Tensor]) -> dict[str, int]:
        """Fields of the configuration that the tensors of a block without metadata tell.

        Args:
            block: Tensors by the names they have in the block.

        Raises:
            IncompatibleWeightsError: this kind's tensors do not tell.
            LookupError, ValueError: the block is incomplete, or its matrices have other axes.
        """
        raise IncompatibleWeightsError(
            f"the bridge file does not say the sizes of its {cls.__name__} blocks",
            got="no metadata",
            expected="a file that save_bridges wrote",
        )

    def open_gates(self, bias: float) -> None:
        """Let a new block's gates begin near ``bias`` instead of near zero, so that gradients reach what they gate.

        Args:
            bias: Added to the biases of every gate; 1 opens them. The identity stays the identity.

        Raises:
            InputError: this kind has no gates, or is not the identity at the start: open gates would disturb towers.
        """
        raise InputError(
            "gates of this bridge cannot be opened before it has learned",
            got=type(self).__name__,
            expected="an attention kind, which starts as the identity",
            remedy="Set bridges.gate_bias=0.",
        )

    def look_at_one_moment(self, strength: float, video: TokenGrid, audio: TokenGrid) -> None:
        """Let a new block's heads begin by attending to what happens at the same time.

        Args:
            strength: How firmly, such as 2.9. The identity stays the identity.
            video: Video tokens of a training clip, with their times.
            audio: Its audio tokens, with their times.

        Raises:
            InputError: a kind without attention, or positions that give one moment two places.
        """
        raise self._without_moments()

    def moment_parts(self, strength: float, video: TokenGrid, audio: TokenGrid) -> tuple[Tensor, Tensor]:
        """Constant parts ``(K,)`` of the video's and of the audio's queries and keys that agree at one time.

        Raises:
            InputError: positions that give one moment two places.
        """
        config = self.config
        parts = moment_biases(
            config.rope, config.num_heads, config.head_width, strength=strength, video=video, audio=audio
        )
        if parts is None:
            raise self._without_moments()
        return parts

    def _without_moments(self) -> InputError:
        return InputError(
            "these bridges cannot begin by attending to one moment",
            got=f"{type(self).__name__} with rope {self.config.rope}",
            expected="an attention kind with rope clock, time_aligned or token_clock",
            remedy="Set bridges.moment_bias=0, or bridges.rope=clock.",
        )


class AttentionBridge(Bridge):
    """Timestep-modulated attention and MLP on both streams; a subclass says who attends to whom.

    Per stream s (BridgeDiT reference, section 2)::

        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = Linear(SiLU(time_s))
        x_s ← x_s + gate_a · o_s(attention(LN(x_s)·(1+scale_a)+shift_a))
        x_s ← x_s + gate_m · MLP_s(LN(x_s)·(1+scale_m)+shift_m)

    The output projections and the MLP's last layer start at zero, so a new block is the identity.

    Args:
        config: Sizes and reading.
    """

    # Streams whose attention does nothing and whose residual passes untouched (the paper's unidirectional reading).
    idle_streams: frozenset[int] = frozenset()

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__(config)
        self.attn = BridgeAttention(config)
        self.mlp_1 = BridgeMLP(config.video_width)
        self.mlp_2 = BridgeMLP(config.audio_width)
        self.adaln_modulation_1 = nn.Sequential(nn.SiLU(), nn.Linear(config.video_time_width, 6 * config.video_width))
        self.adaln_modulation_2 = nn.Sequential(nn.SiLU(), nn.Linear(config.audio_time_width, 6 * config.audio_width))

    @classmethod
    def sizes_of(cls, block: Mapping[str, Tensor]) -> dict[str, int]:
        """All but the number of heads."""
        qk_width, video_width = block["attn.q_proj_1.weight"].shape
        return {
            "video_width": video_width,
            "audio_width": block["attn.q_proj_2.weight"].shape[1],
            "qk_width": qk_width,
            "v_width": block["attn.v_proj_1.weight"].shape[0],
            **time_widths_of(block),
        }

    @torch.no_grad()
    def open_gates(self, bias: float) -> None:
        """Those of the attention and of the MLP, in both streams."""
        for modulation in (self.adaln_modulation_1, self.adaln_modulation_2):
            parts = modulation[-1].bias.chunk(6)
            for gate in (parts[2], parts[5]):
                gate += bias

    @torch.no_grad()
    def look_at_one_moment(self, strength: float, video: TokenGrid, audio: TokenGrid) -> None:
        """Queries and keys get a constant part through their biases.

        Rotated on a common time axis, the product of two such parts is highest where the times agree. A latent video
        frame lasts several audio tokens: each head places it at another part of its duration, so that together they
        see all of it. ``strength`` is the length of the constant part in each pair that turns fast enough to matter.
        """
        for stream, bias in zip((1, 2), self.moment_parts(strength, video, audio), strict=True):
            for letter in "qk":
                getattr(self.attn, f"{letter}_proj_{stream}").bias.copy_(bias)

    @abstractmethod
    def cross(self, video: Tensor, audio: Tensor, video_rope: Rope, audio_rope: Rope) -> tuple[Tensor, Tensor]:
        """Attention outputs of both streams after ``o_proj``, from modulated inputs ``(B, L, C)``."""

    def forward(self, inputs: BridgeInputs) -> tuple[Tensor, Tensor]:
        """Apply the block; streams in ``idle_streams`` come back untouched."""
        video, audio = inputs.video, inputs.audio
        parts_1 = self.adaln_modulation_1(inputs.video_time).chunk(6, dim=1)
        parts_2 = self.adaln_modulation_2(inputs.audio_time).chunk(6, dim=1)
        attended = self.cross(
            modulate(video, parts_1[0], parts_1[1]),
            modulate(audio, parts_2[0], parts_2[1]),
            inputs.video_rope,
            inputs.audio_rope,
        )
        return (
            video if 1 in self.idle_streams else self._residual(video, attended[0], parts_1, self.mlp_1),
            audio if 2 in self.idle_streams else self._residual(audio, attended[1], parts_2, self.mlp_2),
        )

    @staticmethod
    def _residual(x: Tensor, attended: Tensor, parts: tuple[Tensor, ...], mlp: BridgeMLP) -> Tensor:
        _, _, gate_attention, shift_mlp, scale_mlp, gate_mlp = parts
        x = x + gate_attention.unsqueeze(1) * attended
        return x + gate_mlp.unsqueeze(1) * mlp(modulate(x, shift_mlp, scale_mlp))


def time_widths_of(block: Mapping[str, Tensor]) -> dict[str, int]:
    """Widths of the time embeddings, by the modulations that the published kinds have."""
    names = {"video_time_width": "adaln_modulation_1.1.weight", "audio_time_width": "adaln_modulation_2.1.weight"}
    return {field: block[name].shape[1] for field, name in names.items()}
