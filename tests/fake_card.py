"""A card that is not there: real modules of the published sizes as fake tensors on ``cuda``, and what is alive on it.

Fake tensors run every operation's shape, type and device rules and refuse two devices in one; bytes are counted here by
themselves, not by the planner's own counter. A run that looks at values (is it finite?) is told that all is well.
"""

from __future__ import annotations

import copy
import inspect
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import pytest
import torch
from packaging.version import Version
from sounding_video.core.device import Placement
from sounding_video.core.residency import Moving
from sounding_video.models.codecs import _to_host
from sounding_video.models.joint import JointModel
from sounding_video.models.plan.outline import Outline
from sounding_video.models.plan.published import outline_shapes
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

VIDEO_SHAPE, AUDIO_SHAPE = (1, 16, 21, 60, 104), (1, 64, 116)  # 81 frames of 832×480, 5.4 s
ON_CARD = Placement(torch.device("cuda"), torch.bfloat16)
_DATA = Tensor.data
_SDPA = torch.nn.functional.scaled_dot_product_attention

PUBLISHED_FIGURES = pytest.mark.skipif(
    Version(version("transformers")) < Version("4.52"),
    reason="older transformers keep a part of UMT5 in float32 under bfloat16: other figures",
)


class SizedCard(Moving):
    """A card of some size, for what asks how much is free."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.size = int(size)

    def free_bytes(self, device: torch.device) -> int:
        return self.size


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
        if function is Tensor.__array__:
            pytest.skip(
                "solvers of older diffusers make arrays of tensors, and a card that is not there holds no numbers"
            )
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
    if torch.is_autocast_enabled("cuda"):
        query, key, value = (tensor.to(torch.get_autocast_dtype("cuda")) for tensor in (query, key, value))
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
        patch_autocast(patch)
        patch.setattr(_to_host, "wait_for", lambda device: None)  # nothing is under way on a card that is not there
        with FakeTensorMode(allow_non_fake_inputs=True), FlashAttention(), CardBytes() as card:
            yield card


def patch_autocast(patch: pytest.MonkeyPatch) -> None:
    """Without a card autocast switches itself off."""
    patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    patch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)


def _give_data(tensor: FakeTensor, data: FakeTensor) -> None:
    _DATA.__set__(tensor, data)
    tensor.fake_device = data.fake_device


@lru_cache(maxsize=2)
def published(name: str, dtype: torch.dtype = ON_CARD.dtype) -> Outline:
    """The published models of a size as empty modules on ``meta``; do not change them."""
    return outline_shapes(name, replace(ON_CARD, dtype=dtype))


def on_card(module: nn.Module, device: str = "cuda") -> nn.Module:
    """A twin of an empty module whose tensors are fake ones on a device; inside :func:`fake_card`."""
    for each in module.modules():
        if isinstance(each, JointModel):
            each.forget_tables()  # those of a run on the CPU are no fake ones
    memo: dict[int, Tensor] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        empty = torch.empty_like(tensor, device=device)
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    return copy.deepcopy(module, memo)


def learn(step: nn.Module, row: Mapping[str, Tensor]) -> list[nn.Parameter]:
    """A training step on the card whose optimizer has its moments already; what learns, with its gradients.

    Args:
        step: Whose losses are told; inside :func:`fake_card`, and not moved yet.
        row: Shapes and types of one clip, without the batch.
    """
    twin = on_card(step)
    learning = [parameter for parameter in twin.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, foreach=True)
    for parameter in learning:
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    losses = twin({name: torch.empty((1, *one.shape), dtype=one.dtype, device="cuda") for name, one in row.items()})
    assert {(loss.dtype, loss.device.type) for loss in losses.values()} == {(torch.float32, "cuda")}
    loss = losses.pop("total")
    losses.clear()
    backward(loss)
    return learning


def backward(loss: Tensor) -> None:
    """Gradients of a fake loss, node by node: torch's own engine asks for the streams of a card that is not there.

    What a node has saved goes as soon as it has been visited, as there.
    """
    ready, waiting = [loss.grad_fn], _num_uses(loss.grad_fn)
    arrived: dict[Any, dict[int, Tensor]] = {loss.grad_fn: {0: torch.ones_like(loss)}}
    loss.detach_()  # or its node would hold all others, and what they saved, to the end
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        # Checkpoints compute again once a backward pass.
        patch.setattr(torch._C, "_current_graph_task_id", lambda: 1)
        while ready:
            _visit(ready, waiting, arrived)


def _visit(ready: list[Any], waiting: dict[Any, int], arrived: dict[Any, dict[int, Tensor]]) -> None:
    """One node: what it gives goes to the nodes after it, and those that miss nothing more are ready."""
    node = max(ready, key=lambda one: one._sequence_nr())  # what was made last goes first, as in torch's own engine
    ready.remove(node)
    del waiting[node]
    grads = arrived.pop(node)
    found = node(*(grads.get(index) for index in range(len(node._input_metadata))))
    for (after, index), grad in zip(node.next_functions, found if isinstance(found, tuple) else (found,), strict=False):
        if after is None:
            continue
        slot = arrived.setdefault(after, {})
        if grad is not None:
            wanted = after._input_metadata[index]  # of a bias, which went to all rows, the sum
            grad = grad.sum_to_size(wanted.shape).to(wanted.dtype)
            slot[index] = slot[index] + grad if index in slot else grad
        waiting[after] -= 1
        if not waiting[after]:
            ready.append(after)


def _num_uses(root: Any) -> dict[Any, int]:
    """How many edges lead to each node."""
    uses, stack = {root: 0}, [root]
    while stack:
        for node, _ in stack.pop().next_functions:
            if node is not None:
                if node not in uses:
                    uses[node] = 0
                    stack.append(node)
                uses[node] += 1
    return uses
