"""Memory without ComfyUI: what stays on the device is remembered, and the oldest goes when room is needed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from ...core.device import Placement
from ...core.residency import bytes_on, expected_bytes, module_bytes, unused_bytes


@dataclass(frozen=True)
class Resident:
    """A module that is on a device.

    Args:
        name: Of its class.
        device: Where it is.
        num_bytes: Its weights.
    """

    name: str
    device: torch.device
    num_bytes: int


class LastUsedFirst:
    """Keeps what was used last, as long as there is room. Modules are not kept alive by being remembered.

    Args:
        unused: Bytes that are unused on a device.
    """

    evicts = True

    def __init__(self, unused: Callable[[torch.device], int] = unused_bytes) -> None:
        self._unused = unused
        self._kept: list[tuple[weakref.ref[nn.Module], torch.device]] = []  # the one used last stands last

    @contextmanager
    def hold(self, module: nn.Module, placement: Placement) -> Iterator[None]:
        """Make room, move in, and out again unless all stays on the device."""
        self._forget(module)
        self._make_room(module_bytes(module), placement.device, besides=module)
        module.to(placement.device)
        try:
            yield
        finally:
            if placement.rest_device == placement.device:
                self._kept.append((weakref.ref(module), placement.device))
            else:
                module.to(placement.rest_device)

    @contextmanager
    def stream(self, module: nn.Module, placement: Placement) -> Iterator[None]:
        """Move it off, and make room for what is computed; the layers themselves are small."""
        if any(reference() is module for reference, _ in self._kept):
            module.to("cpu")
        self._forget(module)
        self._make_room(0, placement.device, besides=module)
        yield

    def free_bytes(self, device: torch.device) -> int:
        """Unused memory, and what could be moved out."""
        held = sum(resident.num_bytes for resident in self.residents() if resident.device == device)
        return self._unused(device) + (0 if device.type == "cpu" else held)

    def clear(self, device: torch.device, besides: Collection[nn.Module] = ()) -> int:
        """Move everything off a device."""
        if device.type == "cpu":
            return 0
        there = [module for reference, where in self._kept if where == device and (module := reference()) is not None]
        for module in there:
            module.to("cpu")
            self._forget(module)
        return sum(module_bytes(module) for module in there if module not in besides)

    def residents(self) -> list[Resident]:
        """What is on a device and alive, the one used last at the end."""
        alive = ((reference(), device) for reference, device in self._kept)
        return [Resident(type(m).__name__, device, module_bytes(m)) for m, device in alive if m is not None]

    def unload(self) -> None:
        """Move everything off the devices, as ComfyUI's ``/free`` does."""
        for reference, _ in self._kept:
            module = reference()
            if module is not None:
                module.to("cpu")
        self._kept.clear()

    def _forget(self, module: nn.Module) -> None:
        self._kept = [(reference, where) for reference, where in self._kept if reference() not in (module, None)]

    def _make_room(self, num_bytes: int, device: torch.device, *, besides: nn.Module) -> None:
        """Move out what was used longest ago until there is room for so many bytes and for what is computed.

        Weights that ``besides`` shares stay.
        """
        if device.type == "cpu" or not self._kept:
            return
        num_bytes += expected_bytes()
        own = {id(parameter) for parameter in besides.parameters()}
        for reference, where in list(self._kept):
            present = bytes_on(besides, device)
            if self._unused(device) >= num_bytes - present:
                return
            module = reference()
            if where == device and module is not None and own.isdisjoint(map(id, module.parameters())):
                module.to("cpu")
                self._forget(module)


MEMORY = LastUsedFirst()
