"""SyncFlow's modality adaptor: picture features along time, brought to the sound's width, before the sound attends."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from ..towers.base import TokenGrid
from . import BRIDGES
from ._into_audio import HeadedAttention, IntoAudioBridge
from .base import NORM_EPS
from .config import BridgeConfig


@BRIDGES.register("modality_adaptor")
class ModalityAdaptorBridge(IntoAudioBridge):
    """``read(f) = Linear(LN(f + o(attention(q(f), k(f), v(f)))))``, the attention over the frames at each place.

    SyncFlow's Linear(LayerNorm(SelfAttention)) (section 3.2), with what it leaves open decided as the reference does:
    along time at each place, since over all tokens it costs as much as a block of the tower, and with a residual, since
    a new attention is an average over all times in which the moment is lost. It has no positions of its own: the
    tower's features have them, and the sound's attention is rotated.
    """

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__(config)
        self.along_time = HeadedAttention(config, config.video_width, config.video_width)
        self.norm = nn.LayerNorm(config.video_width, eps=NORM_EPS)
        self.to_audio = nn.Linear(config.video_width, config.audio_width)

    @staticmethod
    def source_width(config: BridgeConfig) -> int:
        """The sound's own."""
        return config.audio_width

    @classmethod
    def video_width_of(cls, block: Mapping[str, Tensor]) -> int:
        """By the attention along time."""
        return block["along_time.q_proj.weight"].shape[1]

    def read(self, features: Tensor, grid: TokenGrid) -> Tensor:
        """The adaptor; tokens without a time attend to nothing."""
        steps = features[:, grid.num_prefix :]
        attended = self._along_time(steps, grid)
        return self.to_audio(self.norm(features + F.pad(attended, (0, 0, grid.num_prefix, 0))))

    def _along_time(self, steps: Tensor, grid: TokenGrid) -> Tensor:
        """Every place on its own: ``(B, T·S, C)`` in and out, as one batch of B·S sequences of T."""
        attention, shape = self.along_time, (grid.num_steps, grid.tokens_per_step)
        query, key, value = (
            attention.heads(project(steps)).unflatten(1, shape).transpose(1, 2).flatten(0, 1)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        attended = attention.kernel(query, key, value).flatten(2)
        return attention.o_proj(attended.unflatten(0, (-1, grid.tokens_per_step)).transpose(1, 2).flatten(1, 2))
