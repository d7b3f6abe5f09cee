"""What a training step takes: weights, gradients, the optimizer's moments, the average, and what its passes keep alive.

The real step runs forward and backward on fake tensors, so that autocast, checkpointing and the backward pass count as
they are; no number is computed. The fake tensors say that they are on the CPU, whatever the run's device, since only
there autograd asks nothing of a card. As in :mod:`.tracking`, attention is a fused kernel's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ...core.errors import PlacementError
from ...core.sizes import size_text
from .plans import required_bytes
from .tracking import FusedAttention, LiveBytes

_ONE_KERNEL = hasattr(torch.ops.aten, "_fused_rms_norm")


@dataclass(frozen=True)
class TrainingNeeds:
    """Bytes of one training step.

    Args:
        weights_bytes: All modules of the step.
        gradient_bytes: Of what learns.
        optimizer_bytes: Both moments of AdamW.
        average_bytes: Averaged weights, 0 where none are kept.
        peak_bytes: The most that is alive at once, the above among it.
    """

    weights_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    average_bytes: int
    peak_bytes: int

    def describe(self) -> str:
        """In words."""
        rest = self.peak_bytes - self.weights_bytes - self.optimizer_bytes - self.average_bytes
        parts = {
            "weights": self.weights_bytes,
            "optimizer moments": self.optimizer_bytes,
            "averaged weights": self.average_bytes,
            "activations and gradients": rest,
        }
        return ", ".join(f"{size_text(size)} {name}" for name, size in parts.items() if size)


def training_needs(
    step: nn.Module,
    row: Mapping[str, Tensor],
    *,
    batch_size: int,
    device: torch.device,
    averaged: bool,
    copies: int = 1,
) -> TrainingNeeds:
    """Count a step; its modules may lie anywhere and stay as they are.

    Args:
        step: A batch of tensors in, its losses out, of which ``total`` is minimised. What learns requires a gradient.
        row: Tensors of one clip; only their shapes and types count.
        batch_size: Rows of a batch.
        device: Where it trains.
        averaged: Whether a float32 average of what learns is kept.
        copies: Of the gradients: 2 with several processes, which exchange them in buffers.
    """
    kernels = FusedAttention if device.type == "cpu" else _CardKernels
    mode, fake = LiveBytes(device_type="cpu"), FakeTensorMode(allow_non_fake_inputs=True)
    with torch.inference_mode(False), torch.enable_grad():
        with fake, mode:
            memo = _empty_tensors(step)
        twin, weights = _twin(step, memo, partial(kernels, mode)), mode.live_bytes
        with fake, kernels(mode), mode:
            learning = [parameter for parameter in twin.parameters() if parameter.requires_grad]
            held = [torch.empty_like(parameter) for parameter in learning for _ in range(copies - 1)]
            held += [torch.empty_like(p, dtype=torch.float32) for p in learning] if averaged else []
            optimizer = _with_moments(learning, device)
            batch = {name: torch.empty((batch_size, *tensor.shape), dtype=tensor.dtype) for name, tensor in row.items()}
            twin(batch)["total"].backward()
            del held, optimizer
    size = sum(parameter.nbytes for parameter in learning)
    average = sum(4 * parameter.numel() for parameter in learning) if averaged else 0
    return TrainingNeeds(weights, copies * size, 2 * size, average, mode.peak_bytes)


class _CardKernels(FusedAttention):
    """As a card runs the step: its autocast normalises in float32, the CPU's in the type that comes.

    A norm by the root mean square is one kernel there where its scale has the type of what comes (PyTorch 2.8).
    """

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function in (F.layer_norm, F.group_norm) and torch.is_autocast_enabled("cpu"):
            args = (args[0].float(), *args[1:])
        if function is F.rms_norm and _ONE_KERNEL:
            x, weight = args[0], (kwargs or {}).get("weight", args[2] if len(args) > 2 else None)
            if weight is not None and weight.dtype == x.dtype:
                return _Normed.apply(x, weight)
        return super().__torch_function__(function, types, args, kwargs)


class _Normed(torch.autograd.Function):
    """What a fused norm keeps for its backward pass: what it read, and a float32 number a row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """Nothing is computed."""
        ctx.save_for_backward(x, weight, x.new_empty(x.shape[:-1], dtype=torch.float32))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        """Both gradients at once."""
        x, weight, _ = ctx.saved_tensors
        return torch.empty_like(x), torch.empty_like(weight)


def _with_moments(learning: list[nn.Parameter], device: torch.device) -> torch.optim.Optimizer:
    """AdamW after its first step: it makes its moments then, and holds more at once than in the passes."""
    # On a card it takes all tensors together, with temporary ones as large as what learns.
    optimizer = torch.optim.AdamW(learning, foreach=device.type != "cpu")
    for parameter in learning:
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def _empty_tensors(step: nn.Module) -> dict[int, Any]:
    """Fake tensors in place of a module's own, by the identity of those, as ``deepcopy`` reads it."""
    memo: dict[int, Any] = {}
    for tensor in _tensors(step):
        empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    return memo


def _twin(step: nn.Module, memo: dict[int, Any], kernels: Callable[[], FusedAttention]) -> nn.Module:
    """A copy on other tensors."""
    twin = copy.deepcopy(step, memo)
    for module in twin.modules():
        if hasattr(module, "_gradient_checkpointing_func"):
            # Nothing draws, and the state of the random numbers is real and not to be touched. Inside a backward pass
            # the mode around it is off.
            module._gradient_checkpointing_func = partial(
                checkpoint,
                use_reentrant=False,
                preserve_rng_state=False,
                context_fn=lambda: (nullcontext(), kernels()),
            )
    return twin


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers, and weights that old-style normalisation keeps as plain attributes."""
    yield from module.parameters()
    yield from module.buffers()
    for part in module.modules():
        yield from (value for value in vars(part).values() if isinstance(value, Tensor))


def require_room(needs: TrainingNeeds, free_bytes: int, device: torch.device) -> str:
    """What is to be told before a run begins.

    Args:
        needs: From :func:`training_needs`.
        free_bytes: Free memory of the device.
        device: Decides how much is kept in reserve.

    Raises:
        PlacementError: the step does not fit.
    """
    required = required_bytes(needs.peak_bytes, device)
    if required > free_bytes:
        raise PlacementError(
            f"a training step does not fit the memory of {device}",
            got=f"{size_text(free_bytes)} free",
            expected=f"{size_text(required)} ({needs.describe()})",
            remedy="Set models.gradient_checkpointing=true, train fewer parts (trainable=bridges), a smaller "
            "batch_size, or smaller or shorter clips; optimizer.ema_decay=0 keeps no average.",
        )
    return f"a training step needs {size_text(required)} of {size_text(free_bytes)} free memory: {needs.describe()}"
