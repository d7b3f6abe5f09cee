"""A card that is not there: real modules of the published sizes as fake tensors on ``cuda``, and what is alive on it.

Fake tensors run every operation's shape, type and device rules and refuse two devices in one; bytes are counted here by
themselves, not by the planner's own counter. A run that looks at values (is it finite?) is told that all is well.
"""

from __future__ import annotations

import copy
import inspect
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import pytest
import torch
from sounding_video.core.device import Placement
from sounding_video.models.plan.outline import Outline, outline_shapes
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

VIDEO_SHAPE, AUDIO_SHAPE = (1, 16, 21, 60, 104), (1, 64, 116)  # 81 frames of 832×480, 5.4 s
ON_CARD = Placement(torch.device("cuda"), torch.bfloat16)
_DATA = Tensor.data
_SDPA = torch.nn.functional.scaled_dot_product_attention


class CardBytes(TorchDispatchMode):
    """Bytes of the storages on the card that operations made and that somebody still holds."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            made = function(*args, **(kwargs or {}))
        except DataDependentOutputException:
            return True
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor) and leaf.device.type == "cuda":
                storage = leaf.untyped_storage()
                if storage._cdata not in self.sizes:
                    self.sizes[storage._cdata] = storage.nbytes()
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self._gone, storage._cdata)
        return made

    def _gone(self, storage: int) -> None:
        self.now -= self.sizes.pop(storage, 0)


class FlashAttention(TorchFunctionMode):
    """Attention by the kernel that a card takes; without a card torch would write down all scores."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = inspect.signature(_attend).bind(*args, **(kwargs or {})) if function is _SDPA else None
        if given is None or given.arguments["query"].device.type != "cuda":
            return function(*args, **(kwargs or {}))
        return _attend(*given.args, **given.kwargs)


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Flash attention in half precision without a mask, else the memory-efficient kernel, as torch picks."""
    if attn_mask is None and query.dtype != torch.float32:
        return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, dropout_p, is_causal, scale=scale)[
            0
        ]
    learns = torch.is_grad_enabled() and query.requires_grad
    return torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, learns, dropout_p, is_causal, scale=scale
    )[0]


@contextmanager
def fake_card() -> Iterator[CardBytes]:
    """Everything made inside is fake; what lies on ``cuda`` is counted, and modules can be moved there and back."""
    with pytest.MonkeyPatch.context() as patch:
        # A fake tensor that is given other data does not notice that these lie elsewhere; a real one does.
        patch.setattr(FakeTensor, "data", property(_DATA.__get__, _give_data), raising=False)
        patch.setattr(torch.utils, "swap_tensors", _give_data)
        with FakeTensorMode(allow_non_fake_inputs=True), FlashAttention(), CardBytes() as card:
            yield card


def _give_data(tensor: FakeTensor, data: FakeTensor) -> None:
    _DATA.__set__(tensor, data)
    tensor.fake_device = data.fake_device


@lru_cache(maxsize=2)
def published(name: str) -> Outline:
    """The published models of a size as empty modules on ``meta``; do not change them."""
    return outline_shapes(name, ON_CARD)


def on_card(module: nn.Module, device: str = "cuda") -> nn.Module:
    """A twin of an empty module whose tensors are fake ones on a device; inside :func:`fake_card`."""
    memo: dict[int, Tensor] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        empty = torch.empty_like(tensor, device=device)
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(module, memo)
