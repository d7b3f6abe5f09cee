"""What dry runs have found, kept: the same modules on the same shapes are counted once, however often one asks.

A run asks before it begins, at each of its stages and for each of its clips. Two outlines are the same where all that
a forward depends on is: classes, settings, hooks, and of every tensor its shape, type and place, but no number. An
exception is no finding: what is refused is looked at every time.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

MOST = 256
_PLAIN = (str, int, dict, tuple, bool, type(None), list, float, type)
_FOUND: OrderedDict[bytes, Any] = OrderedDict()
T = TypeVar("T")


def remembered(count: Callable[[], T], *what: Any) -> T:
    """What ``count`` finds, or what it found for the same things before.

    Args:
        count: A dry run that decides for itself which tensors have gradients; theirs are not looked at.
        what: All that its result depends on: modules, shapes, names. What cannot be pickled is counted every time.
    """
    return known_by(fingerprint(what), count)


def known_by(key: bytes | None, count: Callable[[], T]) -> T:
    """What is remembered under a fingerprint, else what ``count`` finds; without a fingerprint nothing is."""
    if key is None:
        return count()
    if key not in _FOUND:
        _FOUND[key] = count()
        if len(_FOUND) > MOST:
            _FOUND.popitem(last=False)
    return _FOUND[key]


def fingerprint(what: tuple[Any, ...]) -> bytes | None:
    """The hash of things as far as a dry run sees them, the same in every process; None of what cannot be pickled."""
    written = io.BytesIO()
    try:
        _Structure(written).dump(what)
    except (pickle.PicklingError, AttributeError, TypeError, RecursionError):  # a local function among the hooks
        return None
    return hashlib.sha256(written.getbuffer()).digest()


class _Structure(pickle.Pickler):
    """Writes objects as pickle does, and of a tensor what it is like and with which others it shares its memory."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self._storages: dict[int, int] = {}

    def reducer_override(self, thing: Any) -> Any:
        """Hooks without the numbers under which they are kept, which count up all the time."""
        if isinstance(thing, OrderedDict) and all(type(key) is int for key in thing):
            return list, (), None, iter(thing.values())
        return NotImplemented

    def persistent_id(self, thing: Any) -> Any:
        """What is written in place of a tensor; None for what is written as usual."""
        if type(thing) in _PLAIN:  # nearly all: asked first
            return None
        if isinstance(thing, set | frozenset) and all(isinstance(item, str) for item in thing):
            return "set", *sorted(thing)  # which come in another order in each process
        if not isinstance(thing, Tensor):
            return str(thing) if isinstance(thing, torch.dtype | torch.device) else None
        number = self._storages.setdefault(thing.untyped_storage()._cdata, len(self._storages))
        layout = (tuple(thing.shape), thing.stride(), thing.storage_offset())
        return (number, type(thing).__name__, *layout, str(thing.dtype), str(thing.device))
