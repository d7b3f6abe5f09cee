"""Additive fusion: a linear map of the other stream is added (BridgeDiT eq. 8)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.errors import InputError
from ..rope import on_clock
from ..ropes import ROPES
from ..towers.base import TokenGrid
from . import BRIDGES
from .base import NORM_EPS, Bridge, BridgeInputs, BridgeMLP, modulate, time_widths_of
from .config import BridgeConfig


@BRIDGES.register("additive")
class AdditiveBridge(Bridge):
    """Gated addition of a projected summary of the other stream, then a modulated MLP per stream.

    Reading ``official``: the summary is the mean over the other stream's tokens, without a norm. Reading ``paper``:
    ``Linear(LN(other))`` per token; eq. 8 does not say how 32 760 video tokens meet 117 audio tokens, so here tokens
    meet by time: a latent frame receives the mean of the audio tokens that sound during it, an audio token the mean
    of the latent frame it falls into. The official name of this kind is ``add``.

    **Not** the identity at start: the official projections and gates keep PyTorch's default initialisation.
    """

    identity_at_start = False

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__(config)
        self.video_to_audio_proj = nn.Linear(config.video_width, config.audio_width)
        self.audio_to_video_proj = nn.Linear(config.audio_width, config.video_width)
        self.mlp_1 = BridgeMLP(config.video_width)
        self.mlp_2 = BridgeMLP(config.audio_width)
        self.adaln_modulation_1 = nn.Sequential(nn.SiLU(), nn.Linear(config.video_time_width, 4 * config.video_width))
        self.adaln_modulation_2 = nn.Sequential(nn.SiLU(), nn.Linear(config.audio_time_width, 4 * config.audio_width))

    @classmethod
    def sizes_of(cls, block: Mapping[str, Tensor]) -> dict[str, int]:
        """There are no heads, and the widths of queries and values mean nothing."""
        audio_width, video_width = block["video_to_audio_proj.weight"].shape
        widths = {"qk_width": video_width, "v_width": video_width, "num_heads": 1}
        return {"video_width": video_width, "audio_width": audio_width, **widths, **time_widths_of(block)}

    def forward(self, inputs: BridgeInputs) -> tuple[Tensor, Tensor]:
        """Both sums use the incoming streams."""
        from_audio, from_video = self._summaries(inputs)
        parts_1 = self.adaln_modulation_1(inputs.video_time).chunk(4, dim=1)
        parts_2 = self.adaln_modulation_2(inputs.audio_time).chunk(4, dim=1)
        return (
            self._residual(inputs.video, from_audio, parts_1, self.mlp_1),
            self._residual(inputs.audio, from_video, parts_2, self.mlp_2),
        )

    def _summaries(self, inputs: BridgeInputs) -> tuple[Tensor, Tensor]:
        if self.config.reading == "official":
            from_audio = self.audio_to_video_proj(inputs.audio.mean(dim=1, keepdim=True))
            from_video = self.video_to_audio_proj(inputs.video.mean(dim=1, keepdim=True))
            return from_audio, from_video
        if inputs.video_grid is None or inputs.audio_grid is None:
            raise InputError(
                "the paper's additive bridge needs to know where tokens lie in time",
                expected="video_grid and audio_grid",
            )
        from_audio = self.audio_to_video_proj(F.layer_norm(inputs.audio, inputs.audio.shape[-1:], eps=NORM_EPS))
        from_video = self.video_to_audio_proj(F.layer_norm(inputs.video, inputs.video.shape[-1:], eps=NORM_EPS))
        video, audio = on_clock(inputs.video_grid, inputs.audio_grid)
        in_seconds = ROPES.get(self.config.rope).in_seconds
        return (
            _meet_in_time(from_audio, audio, video, in_seconds=in_seconds),
            _meet_in_time(from_video, video, audio, in_seconds=in_seconds),
        )

    @staticmethod
    def _residual(x: Tensor, other: Tensor, parts: tuple[Tensor, ...], mlp: BridgeMLP) -> Tensor:
        gate_fusion, shift_mlp, scale_mlp, gate_mlp = parts
        x = x + gate_fusion.unsqueeze(1) * other
        return x + gate_mlp.unsqueeze(1) * mlp(modulate(x, shift_mlp, scale_mlp))


def _meet_in_time(x: Tensor, source: TokenGrid, target: TokenGrid, *, in_seconds: bool) -> Tensor:
    """Average tokens ``(B, L, C)`` per moment and give every target token its moment's mean; prefixes get the mean."""
    steps = x[:, source.num_prefix :].unflatten(1, (source.num_steps, source.tokens_per_step)).mean(dim=2)
    if in_seconds:
        per_step = torch.tensor(_shares(source, target)).to(steps) @ steps
    else:
        per_step = F.adaptive_avg_pool1d(steps.transpose(1, 2), target.num_steps).transpose(1, 2)
    prefix = steps.mean(dim=1, keepdim=True).expand(-1, target.num_prefix, -1)
    return torch.cat([prefix, per_step.repeat_interleave(target.tokens_per_step, dim=1)], dim=1)


@lru_cache(maxsize=16)
def _shares(source: TokenGrid, target: TokenGrid) -> list[list[float]]:
    """How much each source step counts in each target step: a row of sum 1 a target step.

    By the seconds both last together; a target step that meets none takes the nearest. Plain numbers, since a tensor
    that is kept would carry the mode (inference, meta, fake) it was made in to calls in another one.
    """
    spans = [[(float(begin), float(end)) for begin, end in pairwise(grid.edges)] for grid in (source, target)]
    rows = []
    for begin, end in spans[1]:
        together = [max(0.0, min(end, last) - max(begin, first)) for first, last in spans[0]]
        if not any(together):
            apart = [abs(begin + end - first - last) for first, last in spans[0]]
            together[apart.index(min(apart))] = 1.0
        rows.append([share / sum(together) for share in together])
    return rows
