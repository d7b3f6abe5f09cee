"""Who keeps what on the device. The stages ask; the host that runs us answers.

Alone, a module is moved in for as long as it is used. Inside ComfyUI its memory manager does the moving, so that other
models make room for ours and ours for others (``nodes/host``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from torch import nn

    from .device import Placement


class Residency(Protocol):
    """What a stage asks of whoever owns the device's memory."""

    def hold(self, module: nn.Module, placement: Placement) -> AbstractContextManager[None]:
        """The whole module is on ``placement.device`` inside the block; what becomes of it afterwards is decided here.

        With offload ``none`` it may stay; otherwise it is off the device when the block ends.
        """
        ...

    def stream(self, module: nn.Module, placement: Placement) -> AbstractContextManager[None]:
        """Inside the block the module's layers come and go by themselves; there is room for them."""
        ...

    def free_bytes(self, device: torch.device) -> int:
        """Memory that a stage can have, counting what would be moved out for it."""
        ...


class Moving:
    """No manager: modules are moved in and out, and nothing is remembered."""

    @contextmanager
    def hold(self, module: nn.Module, placement: Placement) -> Iterator[None]:
        """Move in, and out again unless all stays on the device."""
        module.to(placement.device)
        try:
            yield
        finally:
            if placement.rest_device != placement.device:
                module.to(placement.rest_device)

    @contextmanager
    def stream(self, module: nn.Module, placement: Placement) -> Iterator[None]:
        """Nothing to do."""
        yield

    def free_bytes(self, device: torch.device) -> int:
        """Memory that is unused, or held by torch's allocator without use."""
        return unused_bytes(device)


_CURRENT: ContextVar[Residency | None] = ContextVar("residency", default=None)
_EXPECTED: ContextVar[Callable[[], int] | None] = ContextVar("expected_bytes", default=None)


def current_residency() -> Residency:
    """Whoever owns the memory here."""
    return _CURRENT.get() or Moving()


@contextmanager
def managed_by(residency: Residency) -> Iterator[Residency]:
    """Let ``residency`` own the memory for a ``with`` block."""
    token = _CURRENT.set(residency)
    try:
        yield residency
    finally:
        _CURRENT.reset(token)


@contextmanager
def expecting(num_bytes: Callable[[], int]) -> Iterator[None]:
    """Tell what the computation inside the block will take beside the weights, so that room is made for it too.

    Args:
        num_bytes: Counts it; called when somebody asks.
    """
    token = _EXPECTED.set(num_bytes)
    try:
        yield
    finally:
        _EXPECTED.reset(token)


def expected_bytes() -> int:
    """What the running stage takes beside its weights; 0 when nobody said."""
    count = _EXPECTED.get()
    return 0 if count is None else count()


def module_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers, shared ones once."""
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def unused_bytes(device: torch.device) -> int:
    """Memory that is free for us on a device: unused, or held by torch's allocator without use."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    import psutil

    return psutil.virtual_memory().available
