"""What every tower offers: enter (embed), walk blocks a..b, leave (head), over an unchanged stock transformer.

Legend: B batch, L tokens, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...core.clock import StepTimes
from ...core.errors import InputError
from ...core.types import Modality


@dataclass(frozen=True)
class TokenGrid:
    """Where a tower's tokens lie in time.

    Args:
        num_steps: Positions along time (latent frames or audio latents).
        tokens_per_step: Tokens that share one position (the patches of a latent frame; 1 for audio).
        num_prefix: Tokens before the first position that have no time (Stable Audio's global token).
        latents_per_step: Latent steps that one position covers (a tower's patch size along time).
        times: When the latent steps lie; None where that is not known yet (:func:`~..rope.on_clock` finds it).
    """

    num_steps: int
    tokens_per_step: int = 1
    num_prefix: int = 0
    latents_per_step: int = 1
    times: StepTimes | None = None

    @property
    def num_tokens(self) -> int:
        """All tokens, prefix included."""
        return self.num_prefix + self.num_steps * self.tokens_per_step

    @property
    def edges(self) -> list[Fraction]:
        """Seconds at which positions begin, and at which the last one ends: ``num_steps + 1``.

        Raises:
            InputError: the times are not known.
        """
        if self.times is None:
            raise InputError("it is not known when these tokens sound or show", expected="a grid with times")
        return [self.times.edge(index * self.latents_per_step) for index in range(self.num_steps + 1)]


@dataclass(frozen=True)
class TowerState:
    """A forward pass between two blocks.

    Args:
        hidden: Residual stream ``(B, L, D)``.
        time_embedding: Output of the tower's time MLP before any SiLU, ``(B or 1, D)``; what bridges see.
        grid: Where the tokens lie in time.
        context: What the blocks and the head need beside the stream; opaque to others.
    """

    hidden: Tensor
    time_embedding: Tensor
    grid: TokenGrid
    context: dict[str, Any]

    def with_hidden(self, hidden: Tensor) -> TowerState:
        """The same pass with another residual stream."""
        return replace(self, hidden=hidden)


class Tower(nn.Module, ABC):
    """A stock diffusers transformer that can be run block by block.

    ``forward`` equals the stock forward bit for bit, and so does ``leave(walk(walk(enter(m), 0, k), k, n))``.

    Args:
        model: The stock module; it is neither copied nor patched.
    """

    modality: str
    block_names: str
    stock: ClassVar[str]  # the class it runs, as "package.Class"
    folder_kind: ClassVar[str]  # the kind of model folder it comes in (models/weights/listing.py)
    usual_codec: ClassVar[str]  # key of the codec of such a folder, where its configuration does not say it
    usual_text: ClassVar[str]  # likewise of the text encoder

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    @property
    def blocks(self) -> nn.ModuleList:
        """The stock module's transformer blocks."""
        return getattr(self.model, self.block_names)

    @property
    def num_blocks(self) -> int:
        """Depth."""
        return len(self.blocks)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the activations the stock module works in."""
        return self.model.dtype

    @property
    @abstractmethod
    def width(self) -> int:
        """D, the width of the residual stream."""

    @property
    def time_width(self) -> int:
        """Width of the time embedding that bridges see."""
        return self.width

    @property
    @abstractmethod
    def text_width(self) -> int:
        """Width of the caption's embedding that it reads."""

    @property
    def duration_width(self) -> int:
        """Width of the embedded duration that it reads beside; 0 where it reads none."""
        return 0

    @abstractmethod
    def enter(self, modality: Modality) -> TowerState:
        """Embed latents, timestep and text."""

    def begin(self, modality: Modality) -> TowerState:
        """:meth:`enter`, and what is added to the stream at each latent step, where there is something."""
        state = self.enter(modality)
        return state if modality.frames is None else state.with_hidden(_shifted(state, modality.frames))

    @abstractmethod
    def run_block(self, block: nn.Module, state: TowerState) -> Tensor:
        """One stock block on the residual stream."""

    def forget_tables(self) -> None:
        """Let go of what is kept between forwards of one size; most towers keep nothing."""

    @abstractmethod
    def leave(self, state: TowerState) -> Tensor:
        """Head: residual stream to the prediction, shaped like the latents."""

    def walk(self, state: TowerState, start: int, stop: int) -> TowerState:
        """Run blocks ``start`` (inclusive) to ``stop`` (exclusive)."""
        for index in range(start, stop):
            state = state.with_hidden(self.run_block(self.blocks[index], state))
        return state

    def forward(self, modality: Modality) -> Tensor:
        """The whole tower; equals the stock forward."""
        return self.leave(self.walk(self.begin(modality), 0, self.num_blocks))

    def call_block(self, block: nn.Module, *args: Any) -> Tensor:
        """Run a block, checkpointed where the stock module would (training with gradient checkpointing on).

        Stock diffusers checkpoints without re-entrance, so every trainable block learns (the published code's
        re-entrant checkpoints starve the blocks before the first bridge).
        """
        if torch.is_grad_enabled() and self.model.gradient_checkpointing:
            return self.model._gradient_checkpointing_func(block, *args)
        return block(*args)


def _shifted(state: TowerState, frames: Tensor) -> Tensor:
    """The stream with a vector a latent step ``(B, S, D)`` added to all tokens of the step; those without time stay.

    Raises:
        InputError: vectors of another number or width.
    """
    hidden, grid = state.hidden, state.grid
    wanted = (grid.num_steps * grid.latents_per_step, hidden.shape[2])
    if frames.ndim != 3 or len(frames) not in (1, len(hidden)) or frames.shape[1:] != wanted:
        raise InputError(
            "what is added to the tower's stream does not fit it",
            got=tuple(frames.shape),
            expected=f"({len(hidden)}, {wanted[0]}, {wanted[1]})",
        )
    steps = frames.unflatten(1, (grid.num_steps, -1)).mean(2).to(hidden)
    if not grid.num_prefix:
        return (hidden.unflatten(1, (grid.num_steps, -1)) + steps[:, :, None]).flatten(1, 2)
    shifts = steps.repeat_interleave(grid.tokens_per_step, 1)
    return hidden + torch.nn.functional.pad(shifts, (0, 0, grid.num_prefix, 0))
