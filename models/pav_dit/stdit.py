"""The transformer of PAV-DiT: the six planes of picture and sound as six frames of one clip (STDiT3, PAV-DiT eq. 9).

Blocks alternate: a *spatial* one attends within each plane, a *temporal* one across the planes at each place, which is
where picture and sound meet. Differences from Open-Sora's STDiT3: planes have an embedding, since spatial blocks could
not tell them apart; what was padded is no key of any attention; there are no outputs for a variance, which rectified
flow leaves unused; picture and sound each have their own time, which is the same in all usual runs; we predict ε − x0,
theirs the negative.

Legend: B batch, P planes, C latent channels, R S rows and columns of the stack, N tokens of a plane, D width, M text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import get_1d_sincos_pos_embed_from_grid, get_timestep_embedding
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.errors import InputError, require_choice
from ...core.pair import Pair
from ...core.types import Modality
from ..rope import Rope, flat_rope
from .layers import Attention, checkpointed, zero_
from .planes import PlaneGrid

PUBLISHED: dict[str, Any] = {
    "grid": (16, 32, 32),
    "latent_channels": 4,
    "width": 1152,
    "depth": 16,
    "heads": 16,
    "text_width": 4096,
    "fps": 10.0,
}
POCKET: dict[str, Any] = {
    "grid": (11, 8, 8),
    "latent_channels": 16,
    "width": 192,
    "depth": 4,
    "heads": 6,
    "text_width": 128,
    "fps": 15.0,
}
SIDES = ("video", "audio")
SIGNS = ("noise_minus_data", "data_minus_noise")
SINES = 256  # of times and rates


@dataclass(frozen=True)
class Seen:
    """What is there to be seen, for all blocks of one forward.

    Args:
        tokens: Which tokens are there, ``(B or 1, P, N, 1)`` bool; None where all are.
        within: Keys of each plane ``(B · P, 1, 1, N)`` bool, or None.
        across: Keys of each place over the planes ``(B · N, 1, 1, P)`` bool, or None.
        read: Which tokens of the text are there, ``(B, 1, 1, M)`` bool.
    """

    tokens: Tensor | None
    within: Tensor | None
    across: Tensor | None
    read: Tensor

    @classmethod
    def of(cls, there: Tensor | None, read: Tensor) -> Seen:
        """Of tokens ``(B or 1, P, N)`` bool, or None where all are there."""
        if there is None:
            return cls(None, None, None, read)
        every = there.expand(len(read), -1, -1)
        return cls(there[..., None], _keys(every), _keys(every.mT), read)


class PlaneBlock(nn.Module):
    """Attention within planes or across them, attention to the text, a hidden layer; modulated by the time.

    Args:
        width: D.
        heads: Of both attentions.
        across: Whether it attends across planes; such a block starts as the identity.
    """

    def __init__(self, width: int, heads: int, *, across: bool) -> None:
        super().__init__()
        self.across = across
        self.norm_attention, self.norm_mlp = (nn.LayerNorm(width, elementwise_affine=False, eps=1e-6) for _ in range(2))
        self.attention = Attention(width, heads, width // heads, bias=True, norm=True)
        self.text = Attention(width, heads, width // heads, bias=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))
        self.table = nn.Parameter(torch.randn(6, width) / width**0.5)

    def forward(self, x: Tensor, times: Tensor, text: Tensor, seen: Seen, rope: Rope | None = None) -> Tensor:
        """``(B, P, N, D)``; zero where there is nothing.

        Args:
            x: Tokens.
            times: What the time says to each plane, ``(B, P, 6, D)``.
            text: ``(B, M, D)``.
            seen: What is there.
            rope: Tables of the planes' places in the stack, for a block across them.
        """
        batch, planes, tokens, _ = x.shape
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = (self.table + times).to(x.dtype)[:, :, :, None].unbind(2)
        near = self.norm_attention(x) * (1 + scale) + shift
        lines = near.transpose(1, 2) if self.across else near
        keys = seen.across if self.across else seen.within
        attended = self.attention(lines.flatten(0, 1), rope=rope, mask=keys).unflatten(0, (batch, -1))
        x = x + gate * (attended.transpose(1, 2) if self.across else attended)
        x = x + self.text(x.flatten(1, 2), text, mask=seen.read).unflatten(1, (planes, tokens))
        x = x + gate_mlp * self.mlp(self.norm_mlp(x) * (1 + scale_mlp) + shift_mlp)
        return x if seen.tokens is None else torch.where(seen.tokens, x, 0)


class PavDitTransformer(ModelMixin, ConfigMixin):
    """Velocities ε − x0 of the packed planes of picture and sound.

    Args:
        grid: T, h and w of the volume that the planes sum up.
        latent_channels: C.
        width: D.
        depth: Pairs of a spatial and a temporal block.
        heads: Of all attentions.
        text_width: Of the texts.
        patch: Rows and columns of a token.
        fps: Frame rate that the model is told where nobody says another.
        predicts: ``noise_minus_data``, or ``data_minus_noise`` as Open-Sora's models, which is then turned.

    Raises:
        InputError: an unknown sign, or heads that do not divide the width evenly.
    """

    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        grid: Sequence[int] = (11, 8, 8),
        latent_channels: int = 16,
        width: int = 192,
        depth: int = 4,
        heads: int = 6,
        text_width: int = 96,
        patch: int = 2,
        fps: float = 15.0,
        predicts: str = SIGNS[0],
    ) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        require_choice("prediction", predicts, SIGNS)
        if width % (2 * heads) or width % 4:
            got, expected = f"{heads} heads of {width}", "heads of an even width, and a width that 4 divides"
            raise InputError("the heads do not fit the width", got=got, expected=expected)
        self.grid = PlaneGrid(*grid)
        self.enter = nn.Conv2d(latent_channels, width, patch, stride=patch)
        self.plane_embedding = nn.Parameter(0.02 * torch.randn(6, width))
        self.side_embedding = nn.Parameter(0.02 * torch.randn(2, width))
        self.time, self.rate = (_two_layers(SINES, width, nn.SiLU()) for _ in range(2))
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.caption = _two_layers(text_width, width, nn.GELU("tanh"))
        self.spatial = nn.ModuleList(PlaneBlock(width, heads, across=False) for _ in range(depth))
        self.temporal = nn.ModuleList(PlaneBlock(width, heads, across=True) for _ in range(depth))
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.table = nn.Parameter(torch.randn(2, width) / width**0.5)
        self.leave = nn.Linear(width, patch**2 * latent_channels)
        self._start()

    def forward(
        self, video: Modality | None, audio: Modality | None, *, fps: float | None = None, rows: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """Velocities shaped like the latents ``(B, C, 1, 1, L)`` and ``(B, C, L)``; None for one that is absent.

        Args:
            video: Picture; None leaves its planes and its caption out.
            audio: Sound.
            fps: Frame rate; None for the configuration's.
            rows: Which rows of the batch have the picture, and which the sound, ``(B, 2)`` bool, at least one of both;
                a side that a row has not is left out of it and comes back as zero. None where all have both.

        Raises:
            InputError: neither is there.
            GeometryError: latents of another grid.
        """
        present = Pair(video, audio).present
        if not present:
            raise InputError("there is nothing to denoise", got="no latents", expected="a picture, a sound or both")
        patch = self.config.patch
        planes = [self.grid.stack(self.grid.unpack(one.latents.flatten(2)), patch) for one in present.values()]
        used = [3 * SIDES.index(side) + plane for side in present for plane in range(3)]
        there = self.grid.mask(patch, planes[0].device).repeat(len(present), 1, 1)[None]
        text, read = self._texts(present)
        if rows is not None:
            has = torch.stack([rows[:, SIDES.index(side)] for side in present], dim=1)
            there = there & has.repeat_interleave(3, dim=1)[..., None, None]
            lengths = torch.tensor([one.text.shape[1] for one in present.values()], device=has.device)
            read = read & has.repeat_interleave(lengths, dim=1, output_size=read.shape[-1])[:, None, None]
        is_whole = rows is None and set(self.grid.sizes) == {self.grid.padded(patch)}
        times = torch.stack([one.timestep.expand(len(one.latents)) for one in present.values()], dim=1)
        given = {"there": None if is_whole else there, "used": used, "read": read, "fps": fps}
        made = self.denoise_planes(torch.cat(planes, dim=1), times.repeat_interleave(3, 1), text, **given)
        parts = zip(present.items(), made.split(3, dim=1), strict=True)
        packed = {
            side: self.grid.pack(self.grid.unstack(part)).reshape(one.latents.shape) for (side, one), part in parts
        }
        return packed.get("video"), packed.get("audio")

    def denoise_planes(
        self, stack: Tensor, times: Tensor, text: Tensor, *, there: Tensor | None, used: Sequence[int], read: Tensor,
        fps: float | None = None,
    ) -> Tensor:  # fmt: skip
        """Velocities ``(B, P, C, R, S)`` of stacked planes; zero where there is no place.

        Args:
            stack: ``(B, P, C, R, S)``; what stands where there is no place does not count.
            times: Of each plane, 0…1000, ``(B, P)``.
            text: ``(B, M, D)``, what :attr:`caption` makes of the texts.
            there: Places that are there, ``(B or 1, P, R, S)`` bool; None where all are.
            used: Which of the six planes these are.
            read: Tokens of the text that are there, ``(B, 1, 1, M)`` bool.
            fps: Frame rate; None for the configuration's.
        """
        batch, num_planes, channels, rows, columns = stack.shape
        patch, width = self.config.patch, self.config.width
        occupied = None
        if there is not None:
            stack = torch.where(there[:, :, None], stack, 0)
            occupied = (F.max_pool2d(there.float(), patch) > 0).flatten(2)
        tokens = self.enter(stack.flatten(0, 1)).flatten(2).mT
        positions = _positions(width, rows // patch, columns // patch, stack.device)
        x = tokens.unflatten(0, (batch, num_planes)) + positions.to(tokens.dtype)
        x = x + self.plane_embedding[list(used), None]
        seen = Seen.of(occupied, read)
        x = x if seen.tokens is None else torch.where(seen.tokens, x, 0)
        moment = self.time(_sines(times, x.dtype))
        rate = times.new_full((1,), self.config.fps if fps is None else fps)
        moment = moment + self.rate(_sines(rate, x.dtype))
        modulation = self.modulation(moment).unflatten(-1, (6, width))
        rope = tuple(table[list(used)].to(x.device) for table in flat_rope(width // self.config.heads, 6))
        for spatial, temporal in zip(self.spatial, self.temporal, strict=True):
            x = checkpointed(self, spatial, x, modulation, text, seen)
            x = checkpointed(self, temporal, x, modulation, text, seen, rope)
        shift, scale = (self.table + moment[:, :, None]).to(x.dtype)[:, :, :, None].unbind(2)
        x = self.leave(self.norm_out(x) * (1 + scale) + shift)
        x = x.unflatten(2, (rows // patch, columns // patch)).unflatten(-1, (channels, patch, patch))
        made = x.permute(0, 1, 4, 2, 5, 3, 6).reshape(stack.shape)
        made = made if self.config.predicts == SIGNS[0] else -made
        return made if there is None else torch.where(there[:, :, None], made, 0)

    def _texts(self, present: dict[str, Modality]) -> tuple[Tensor, Tensor]:
        """Captions of all sides as one sequence ``(B, M, D)``, and which of its tokens are there ``(B, 1, 1, M)``."""
        embedded, read = [], []
        for side, one in present.items():
            embedded.append(self.caption(one.text) + self.side_embedding[SIDES.index(side)])
            # Rows behind a text's end are zero; the first one stays even of an empty text, so that there is a key.
            first = torch.arange(one.text.shape[1], device=one.text.device) == 0
            read.append((one.text != 0).any(-1) | first)
        return torch.cat(embedded, dim=1), torch.cat(read, dim=1)[:, None, None]

    def _start(self) -> None:
        """Open-Sora's: temporal blocks are the identity; spatial blocks and the head are not zero."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        nn.init.xavier_uniform_(self.enter.weight.flatten(1))
        nn.init.zeros_(self.enter.bias)
        for layer in (*self.time, *self.rate, *self.modulation, *self.caption):
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
        for block in self.temporal:
            for layer in (block.attention.to_out, block.text.to_out, block.mlp[-1]):
                zero_(layer)


def _two_layers(wide: int, width: int, between: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(wide, width), between, nn.Linear(width, width))


def _sines(values: Tensor, dtype: torch.dtype) -> Tensor:
    """``(…, 256)``, cosines first."""
    sines = get_timestep_embedding(values.flatten(), SINES, flip_sin_to_cos=True, downscale_freq_shift=0)
    return sines.unflatten(0, values.shape).to(dtype)


def _positions(width: int, rows: int, columns: int, device: torch.device) -> Tensor:
    """Sines of row and column, half of the width each, ``(rows · columns, D)``."""
    sines = (get_1d_sincos_pos_embed_from_grid(width // 2, torch.arange(n, device=device), output_type="pt")
             for n in (rows, columns))  # fmt: skip
    down, right = sines
    grid = down[:, None].expand(-1, columns, -1), right.expand(rows, -1, -1)
    return torch.cat(grid, dim=-1).flatten(0, 1)


def _keys(lines: Tensor) -> Tensor:
    """Keys ``(B · lines, 1, 1, length)`` of what is there in each line ``(B, lines, length)``."""
    # A line without any token may see itself: what comes of it is left out, and no softmax is over nothing.
    return (lines | ~lines.any(-1, keepdim=True)).flatten(0, 1)[:, None, None]
