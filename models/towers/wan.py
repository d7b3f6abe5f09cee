"""Wan 2.1 text-to-video over ``diffusers.WanTransformer3DModel``: flow matching, timestep 0..1000."""

from __future__ import annotations

from torch import Tensor, nn

from ...core.errors import GeometryError, InputError
from ...core.types import Modality
from . import TOWERS
from .base import TokenGrid, Tower, TowerState


@TOWERS.register("wan")
class WanTower(Tower):
    """Video tower. Latents ``(B, C, T, H, W)`` normalised, text ``(B, L, 4096)``, prediction ``noise - x0``.

    The steps are those of the stock forward (diffusers 0.36 to 0.42), split at the block loop.
    """

    modality = "video"
    block_names = "blocks"
    stock = "diffusers.WanTransformer3DModel"
    folder_kind, usual_codec, usual_text = "wan", "wan_vae", "umt5"

    @property
    def width(self) -> int:
        """D of the residual stream (1536 for 1.3B, 5120 for 14B)."""
        return self.model.config.num_attention_heads * self.model.config.attention_head_dim

    @property
    def text_width(self) -> int:
        """That of UMT5 (4096)."""
        return self.model.config.text_dim

    def enter(self, modality: Modality) -> TowerState:
        """Patchify, embed time and text, make the 3-D rotary table."""
        batch, channels, frames, height, width = modality.latents.shape
        patch_t, patch_h, patch_w = self.model.config.patch_size
        if channels != self.model.config.in_channels or frames % patch_t or height % patch_h or width % patch_w:
            raise InputError(
                "the video latent does not fit the tower",
                got=tuple(modality.latents.shape),
                expected=f"{self.model.config.in_channels} channels, T H W divisible by {self.model.config.patch_size}",
            )
        places, longest = (frames // patch_t, height // patch_h, width // patch_w), self.model.config.rope_max_seq_len
        if max(places) > longest:
            raise GeometryError(
                "the clip is longer or larger than the video tower's positions reach",
                got=f"{' x '.join(map(str, places))} positions in time, height and width",
                expected=f"at most {longest} each",
                remedy="Ask for fewer frames or a smaller size.",
            )
        rotary = self.model.rope(modality.latents)
        hidden = self.model.patch_embedding(modality.latents).flatten(2).transpose(1, 2).contiguous()
        timestep = modality.timestep.expand(batch)
        temb, timestep_proj, text, _ = self.model.condition_embedder(timestep, modality.text, None)
        context = {
            "text": text,
            "timestep_proj": timestep_proj.unflatten(1, (6, -1)),
            "rotary": rotary,
            "grid": places,
        }
        num_steps, rows, columns = context["grid"]
        return TowerState(hidden, temb, TokenGrid(num_steps, rows * columns, latents_per_step=patch_t), context)

    def run_block(self, block: nn.Module, state: TowerState) -> Tensor:
        """One ``WanTransformerBlock``."""
        context = state.context
        return self.call_block(block, state.hidden, context["text"], context["timestep_proj"], context["rotary"])

    def leave(self, state: TowerState) -> Tensor:
        """Modulated norm, projection, unpatchify."""
        temb, hidden = state.time_embedding, state.hidden
        shift, scale = (self.model.scale_shift_table.to(temb.device) + temb.unsqueeze(1)).chunk(2, dim=1)
        shift, scale = shift.to(hidden.device), scale.to(hidden.device)
        hidden = (self.model.norm_out(hidden.float()) * (1 + scale) + shift).type_as(hidden)
        hidden = self.model.proj_out(hidden)
        patch_t, patch_h, patch_w = self.model.config.patch_size
        frames, rows, columns = state.context["grid"]
        hidden = hidden.reshape(hidden.shape[0], frames, rows, columns, patch_t, patch_h, patch_w, -1)
        return hidden.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)
