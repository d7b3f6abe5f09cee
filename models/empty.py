"""Modules on ``meta``, made quickly: torch fills and normalises weights there in Python, milliseconds a layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

_FILLERS = (init.kaiming_uniform_, init.uniform_, init.normal_, Tensor.uniform_, Tensor.normal_)


@contextmanager
def on_meta() -> Iterator[None]:
    """What is made inside the block has a shape and a type, and no number."""
    with torch.device("meta"), QuickOnMeta():
        yield


class QuickOnMeta(TorchFunctionMode):
    """What modules do while they are made, to tensors on ``meta``: random numbers are none, norms come at once."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Fillers, and both functions of ``torch.nn.utils.weight_norm`` (Oobleck's); all others run as they are."""
        kwargs = kwargs or {}
        if function in _FILLERS and _is_meta(filled := args[0] if args else kwargs.get("tensor")):
            return filled
        if function in (torch.norm_except_dim, torch._weight_norm) and not kwargs and _is_meta(args[0]):
            weight, dim = args[0], args[-1]
            if function is torch._weight_norm:
                return torch.empty_like(weight)
            if dim >= 0:
                return weight.new_empty([size if axis == dim else 1 for axis, size in enumerate(weight.shape)])
        return function(*args, **kwargs)


def _is_meta(tensor: Any) -> bool:
    return isinstance(tensor, Tensor) and tensor.is_meta
