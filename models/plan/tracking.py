"""Counts the bytes that a forward keeps alive, without computing it.

The modules run on PyTorch's ``meta`` device: every operation is dispatched with its real shapes and types, no number
is computed and no memory is taken. Each new storage is added when an operation returns it and taken off when the last
tensor on it is dropped, so the peak is that of the real code: residual stream, casts to float32, hidden layers, CFG
rows, bridge inputs, the decoder's feature cache.

torch's own tracker (``torch.distributed._tools.mem_tracker``) is private, sorts by parameter, gradient and optimiser
for whole training steps, and can neither leave out what lies on the host nor be stopped by the user.

Not seen: scratch memory inside a kernel (cuDNN workspaces, a softmax in pieces) and the allocator's rounding.
Attention is counted as a kernel that does not write down its L×L scores: PyTorch's flash and memory-efficient
kernels, xformers, flash-attn and sage.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from ...core.progress import ask_to_stop

_META = torch.device("meta")
# Questions about values; inference mode (ComfyUI runs nodes in it) hands over the two that are made of the first.
_QUESTIONS = (
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.item.default,
    torch.ops.aten.is_nonzero.default,
)


class LiveBytes(TorchDispatchMode):
    """Follows every storage on one device type while it is the active mode.

    Tensors copied from ``meta`` to the CPU stay on ``meta`` but count as being on the host: neither they nor what is
    made from them alone is counted.

    Args:
        known: Tensors that are there already, such as weights: they are in ``base_bytes``, and what takes their place
            (a cast) is counted against them.
        device_type: What is counted: ``meta`` for a dry run, ``cpu`` for a real one.
    """

    def __init__(self, known: Iterable[Tensor] = (), *, device_type: str = "meta") -> None:
        super().__init__()
        self.live_bytes = self.peak_bytes = self.operations = 0
        self._device_type = device_type
        self._on_host: set[int] = set()
        self._seen: set[int] = set()
        for tensor in known:
            self._note(tensor, on_host=False)
        self.base_bytes = self.live_bytes

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operation and note its results."""
        kwargs = kwargs or {}
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if self._device_type == "meta" and any(tensor.is_meta for tensor in inputs):
            if function in _QUESTIONS:
                return 0  # a question about values, such as "is the mask all ones": answered with no
            if function is torch.ops.aten._to_copy.default and kwargs.get("device") == torch.device("cpu"):
                result = function(*args, **{**kwargs, "device": _META})
                return self._note(result, on_host=True)
        result = function(*args, **kwargs)
        count = flop_registry.get(function._overloadpacket)
        if count is not None:
            self.operations += count(*args, **kwargs, out_val=result)
        from_host = bool(inputs) and all(tensor.untyped_storage()._cdata in self._on_host for tensor in inputs)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._note(leaf, on_host=from_host)
        return result

    def _note(self, tensor: Tensor, *, on_host: bool) -> Tensor:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen or tensor.device.type != self._device_type:
            return tensor
        self._seen.add(key)
        size = 0 if on_host else storage.nbytes()
        if on_host:
            self._on_host.add(key)
        self.live_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        weakref.finalize(storage, self._drop, key, size)
        return tensor

    def _drop(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self._on_host.discard(key)
        self.live_bytes -= size


class FusedAttention(TorchFunctionMode):
    """Attention as every kernel but the naive one does it: an output shaped like the query, and nothing else.

    Args:
        tracked: Is told of its operations.
    """

    def __init__(self, tracked: LiveBytes) -> None:
        super().__init__()
        self._tracked = tracked

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        ask_to_stop()  # a dry run of a large model takes seconds
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            query, key, value = (*args, *(kwargs.get(name) for name in ("query", "key", "value")[len(args) :]))[:3]
            if not query.is_meta and torch.is_autocast_enabled(
                query.device.type
            ):  # which looks at the operation that is left out here
                dtype = torch.get_autocast_dtype(query.device.type)
                query, key, value = (tensor.to(dtype) for tensor in (query, key, value))
            self._tracked.operations += (
                2 * query.shape[:-1].numel() * key.shape[-2] * (query.shape[-1] + value.shape[-1])
            )
            return _Attended.apply(query, key, value)
        return function(*args, **kwargs)


class _Attended(torch.autograd.Function):
    """What a fused kernel keeps for its backward pass: what it read and made, and a float32 number a query."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Nothing is computed."""
        out = query.new_empty((*query.shape[:-1], value.shape[-1]))
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Three gradients at once."""
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


class Cost(NamedTuple):
    """What a forward takes.

    Args:
        peak_bytes: The most that it keeps alive at once, without the weights.
        operations: Multiplications and additions of its products, convolutions and attention.
    """

    peak_bytes: int
    operations: int


def dry_peak(run: Callable[[], Any], weights: Iterable[Tensor] = ()) -> int:
    """The most bytes that ``run`` keeps alive at once on ``meta``, without the weights; see :func:`dry_run`."""
    return dry_run(run, weights).peak_bytes


def dry_run(run: Callable[[], Any], weights: Iterable[Tensor] = ()) -> Cost:
    """What ``run`` takes, counted on ``meta``.

    Args:
        run: Makes its own inputs on ``meta`` and drives modules that are there; what it returns counts to its end.
        weights: Parameters and buffers of these modules.
    """
    mode = LiveBytes(weights)
    # In inference mode, which ComfyUI runs nodes in, operations would come undivided and hide what is made inside them.
    with torch.inference_mode(False), torch.no_grad(), mode, FusedAttention(mode):
        run()
    return Cost(mode.peak_bytes - mode.base_bytes, mode.operations)
