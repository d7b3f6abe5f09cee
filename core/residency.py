"""Who keeps what on the device. The stages ask; the host that runs us answers.

Alone, a module is moved in for as long as it is used. Inside ComfyUI its memory manager does the moving, so that other
models make room for ours and ours for others (``nodes/host``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, ClassVar, Protocol
from weakref import WeakSet

import torch

if TYPE_CHECKING:
    from torch import nn

    from .device import Placement


class Residency(Protocol):
    """What a stage asks of whoever owns the device's memory.

    Args:
        evicts: Whether what stays on the device is moved off it when others need the room.
    """

    evicts: ClassVar[bool]

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

    def clear(self, device: torch.device, besides: Collection[nn.Module] = ()) -> int:
        """Move everything that stayed on a device off it.

        Args:
            device: Where; on a CPU there is nothing to move.
            besides: Modules that do not count in the result; they leave too.

        Returns:
            Bytes of weights that left.
        """
        ...


class Moving:
    """No manager: modules are moved in and out. What stays is known, but moved off only when told."""

    evicts = False

    def __init__(self) -> None:
        self._left: WeakSet[nn.Module] = WeakSet()

    @contextmanager
    def hold(self, module: nn.Module, placement: Placement) -> Iterator[None]:
        """Move in, and out again unless all stays on the device."""
        module.to(placement.device)
        try:
            yield
        finally:
            if placement.rest_device != placement.device:
                module.to(placement.rest_device)
            else:
                self._left.add(module)

    @contextmanager
    def stream(self, module: nn.Module, placement: Placement) -> Iterator[None]:
        """Nothing to do."""
        yield

    def free_bytes(self, device: torch.device) -> int:
        """Memory that is unused, or held by torch's allocator without use, and what :meth:`clear` would give back."""
        left = 0 if device.type == "cpu" else sum(bytes_on(module, device) for module in list(self._left))
        return unused_bytes(device) + left

    def clear(self, device: torch.device, besides: Collection[nn.Module] = ()) -> int:
        """Move off what offload ``none`` left there."""
        moved = 0
        for module in list(self._left):
            present = 0 if device.type == "cpu" else bytes_on(module, device)
            if present:
                moved += 0 if module in besides else present
                module.to("cpu")
                self._left.discard(module)
        return moved


_ALONE = Moving()
_CURRENT: ContextVar[Residency | None] = ContextVar("residency", default=None)
_EXPECTED: ContextVar[Callable[[], int] | None] = ContextVar("expected_bytes", default=None)


def current_residency() -> Residency:
    """Whoever owns the memory here."""
    return _CURRENT.get() or _ALONE


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


def bytes_on(module: nn.Module, device: torch.device) -> int:
    """Bytes of those parameters and buffers of a module that are on a device, shared ones once.

    A device without an index is any of its kind: tensors on ``cuda`` say ``cuda:0``.
    """
    there = ((tensor, tensor.device) for tensor in (*module.parameters(), *module.buffers()))
    return sum(t.nbytes for t, d in there if d.type == device.type and device.index in (None, d.index))


def unused_bytes(device: torch.device) -> int:
    """Memory that is free for us on a device: unused, or held by torch's allocator without use."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    import psutil

    return psutil.virtual_memory().available
