"""Decoded frames on their way from the card to the host, while the card goes on with the next ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

# Copies that run beside the card's work need memory that the system cannot move, of which some systems give little.
MOST_FLYING_BYTES = 2**29
_TIME = 2


@contextmanager
def frames_to_host(decoder: nn.Module) -> Iterator[None]:
    """Move every finished group of frames to the CPU, so that the device never holds more of the clip than that.

    The stock VAE decodes latent frame by latent frame, and tile by tile, and joins what its decoder gave. Joined on the
    CPU, the result is the same and the memory does not grow with the length of the clip or the number of tiles. Nobody
    waits for a group before somebody reads it, which is when all are decoded; and they are joined once.
    """
    flight = _Flight()
    handle = decoder.register_forward_hook(lambda module, args, frames: _HostFrames(flight, [flight.send(frames)]))
    try:
        yield
    finally:
        handle.remove()


class _Part:
    """One group of frames ``(B, 3, F, H, W)`` on the host; its numbers are there when the flight has landed."""

    def __init__(self, frames: Tensor) -> None:
        self.frames = frames


class _Flight:
    """The copies of one decoding that the card may not have ended yet."""

    def __init__(self) -> None:
        self._parts: list[_Part] = []
        self._device: torch.device | None = None

    def send(self, frames: Tensor) -> _Part:
        """Begin a copy."""
        if not frames.is_cuda:
            return _Part(frames.to("cpu"))
        part = _Part(frames.to("cpu", non_blocking=True))
        self._device = frames.device
        self._parts.append(part)
        if sum(each.frames.nbytes for each in self._parts) > MOST_FLYING_BYTES:
            parts = self._parts
            self.land()
            for each in parts:
                each.frames = each.frames.clone()
        return part

    def land(self) -> None:
        """Wait until all copies are there."""
        if self._parts:
            wait_for(self._device)
        self._parts = []


def wait_for(device: torch.device) -> None:
    """Until the card has done what it was told so far."""
    torch.cuda.current_stream(device).synchronize()


class _HostFrames:
    """Groups of frames that follow each other, as one tensor for whoever reads it; joining them reads nothing."""

    def __init__(self, flight: _Flight, parts: list[_Part]) -> None:
        self._flight, self._parts = flight, parts

    def read(self) -> Tensor:
        """All of it, joined."""
        self._flight.land()
        if len(self._parts) > 1:
            self._parts = [_Part(torch.cat([part.frames for part in self._parts], dim=_TIME))]
        return self._parts[0].frames

    def __getattr__(self, name: str) -> Any:
        return getattr(self.read(), name)

    def __getitem__(self, places: Any) -> Tensor:
        return self.read()[places]

    def __setitem__(self, places: Any, values: Tensor) -> None:
        self.read()[places] = values

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Joins along the time as a list; for all else the frames are read."""
        kwargs = kwargs or {}
        if function is torch.cat and _joins_in_time(*args, **kwargs):
            pieces = args[0]
            return cls(pieces[0]._flight, [part for piece in pieces for part in piece._parts])
        args, kwargs = tree_map(lambda one: one.read() if isinstance(one, cls) else one, (args, kwargs))
        return function(*args, **kwargs)


def _joins_in_time(pieces: Any, dim: int = 0, **rest: Any) -> bool:
    return dim == _TIME and all(isinstance(piece, _HostFrames) for piece in pieces)
