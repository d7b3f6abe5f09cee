"""Stable Audio Open over ``diffusers.StableAudioDiTModel``: v-prediction, timestep 0..1."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...core.errors import InputError
from ...core.types import Modality
from . import TOWERS
from .base import TokenGrid, Tower, TowerState


@TOWERS.register("stable_audio")
class StableAudioTower(Tower):
    """Audio tower. Latents ``(B, C, L)``, text ``(B, L, 768)``, duration ``(B, 1, 1536)``, prediction v.

    The steps are those of the stock forward (diffusers 0.36 to 0.42), split at the block loop. One global token
    (duration + time) stands before the latents and takes part in the bridges.
    """

    modality = "audio"
    block_names = "transformer_blocks"
    stock = "diffusers.StableAudioDiTModel"
    folder_kind, usual_codec, usual_text = "stable_audio", "oobleck", "t5"

    @property
    def width(self) -> int:
        """D of the residual stream (1536)."""
        return self.model.inner_dim

    @property
    def text_width(self) -> int:
        """That of T5 behind its projection (768)."""
        return self.model.config.cross_attention_input_dim

    @property
    def duration_width(self) -> int:
        """Start and end side by side (1536)."""
        return self.model.config.global_states_input_dim

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self._rotary: tuple[tuple[object, ...], tuple[Tensor, Tensor]] | None = None

    def rotary(self, num_tokens: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The stock pipeline's table: half of each head rotated, positions 0..tokens-1, float32.

        Made on the CPU, and kept until the length or the device changes: once a run.
        """
        key = (num_tokens, device)
        if self._rotary is None or self._rotary[0] != key:
            self._rotary = (key, self._new_rotary(num_tokens, device))
        return self._rotary[1]

    def forget_tables(self) -> None:
        """The rotary one."""
        self._rotary = None

    @torch.inference_mode(False)  # kept ones may be trained with later
    def _new_rotary(self, num_tokens: int, device: torch.device) -> tuple[Tensor, Tensor]:
        from diffusers.models.embeddings import get_1d_rotary_pos_embed

        cos, sin = get_1d_rotary_pos_embed(
            self.model.config.attention_head_dim // 2, num_tokens, use_real=True, repeat_interleave_real=False
        )
        return cos.to(device), sin.to(device)

    def enter(self, modality: Modality) -> TowerState:
        """Embed time, duration and text; prepend the global token."""
        latents, duration = modality.latents, modality.duration
        if latents.shape[1] != self.model.config.in_channels or duration is None:
            raise InputError(
                "the audio input does not fit the tower",
                got=f"latents {tuple(latents.shape)}, duration {None if duration is None else tuple(duration.shape)}",
                expected=f"latents (B, {self.model.config.in_channels}, L) and duration (B, 1, D)",
            )
        text = self.model.cross_attention_proj(modality.text)
        time_embedding = self.model.timestep_proj(self.model.time_proj(modality.timestep.to(self.model.dtype)))
        prefix = self.model.global_proj(duration) + time_embedding.unsqueeze(1)
        hidden = self.model.preprocess_conv(latents) + latents
        hidden = self.model.proj_in(hidden.transpose(1, 2))
        hidden = torch.cat([prefix, hidden], dim=-2)
        context = {"text": text, "rotary": self.rotary(hidden.shape[1], hidden.device)}
        return TowerState(hidden, time_embedding, TokenGrid(latents.shape[-1], num_prefix=prefix.shape[1]), context)

    def run_block(self, block: nn.Module, state: TowerState) -> Tensor:
        """One ``StableAudioDiTBlock``, without masks."""
        return self.call_block(block, state.hidden, None, state.context["text"], None, state.context["rotary"])

    def leave(self, state: TowerState) -> Tensor:
        """Projection, drop the global token, residual convolution."""
        hidden = self.model.proj_out(state.hidden).transpose(1, 2)[:, :, state.grid.num_prefix :]
        return self.model.postprocess_conv(hidden) + hidden
