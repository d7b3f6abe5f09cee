"""How weights are kept between uses: as they are, or smaller and rounded.

=========  ===============================  ==========================================================
``fp8``    1 byte a weight, ``e4m3``        diffusers' layerwise casting: cast up for each layer's work
``int8``   1 byte a weight, a scale a row   ``torchao``, weights only
``nf4``    half a byte, a scale for 64      ``bitsandbytes``; the card decodes in its own kernels
=========  ===============================  ==========================================================

Norms, embeddings, patch and time layers stay as they are: they are small, and rounding them shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..core.device import Placement
from ..core.errors import PlacementError
from ..core.optional import require
from .counting import stopping_calls

FP8 = torch.float8_e4m3fn
# What diffusers leaves alone in the towers, and T5's tables: a look-up would cast the whole table.
SKIPPED = re.compile(
    r"pos_embed|patch_embed|norm|(?:^|\.)proj_(?:in|out)$|condition_embedder|(?:pre|post)process_conv|time|"
    r"shared|embed_tokens|relative_attention_bias|text_projection"
)
# T5 asks its last layer for its type before calling it, so a feed-forward block is cast as a whole.
FEED_FORWARDS = ("T5DenseActDense", "T5DenseGatedActDense", "UMT5DenseActDense", "UMT5DenseGatedActDense")
STREAMABLE = ("native", "fp8")
# nf4 has a scale of one byte for 64 weights and one of four bytes for 256 of these; int8 one a row, not counted.
BYTES_PER_WEIGHT = {"int8": 1.0, "nf4": 0.5 + 1 / 64 + 4 / (64 * 256)}
PACKAGES = {"int8": "torchao", "nf4": "bitsandbytes"}


def require_storage(placement: Placement) -> Placement:
    """Refuse a storage that cannot be had here, before anything is loaded.

    Returns:
        The placement; ``auto``, which nobody decided before loading, has become ``native``.

    Raises:
        PlacementError: the device cannot keep fp8, or the storage does not go with the offload mode.
        MissingPackageError: a package is not installed; the message has the pip line.
    """
    storage = placement.storage
    if storage == "fp8":
        try:
            torch.ones(2, device=placement.device).to(FP8).float()
        except (RuntimeError, TypeError, NotImplementedError) as error:
            raise PlacementError(
                "fp8 weights cannot be kept on this device",
                got=f"{placement.device} ({str(error).splitlines()[0]})",
                expected="a device that casts to float8_e4m3fn",
                remedy="Use --storage native, with --offload auto if memory is short.",
            ) from error
    if storage in PACKAGES:
        require(PACKAGES[storage], f"weight storage {storage}")
    if storage not in (*STREAMABLE, "auto") and placement.offload in ("group", "sequential"):
        raise PlacementError(
            f"{storage} weights cannot be streamed",
            got=f"storage {storage} with offload {placement.offload}",
            expected="offload none, model or auto, or storage fp8",
        )
    return replace(placement, storage="native") if storage == "auto" else placement


@stopping_calls()
def store(module: nn.Module, placement: Placement) -> nn.Module:
    """Keep a module's large weights in the placement's storage from now on; ``native`` and ``auto`` change nothing.

    Args:
        module: A tower, bridges or a text encoder, loaded; it is changed.
        placement: Gives storage and the type of computation.

    Returns:
        The same module.

    Raises:
        PlacementError, MissingPackageError: as :func:`require_storage`.
    """
    require_storage(placement)
    if placement.storage == "fp8":
        store_fp8(module, placement.dtype)
    elif placement.storage == "int8":
        _pack_int8(module, {id(linear) for _, linear in _linears(module)})
    elif placement.storage == "nf4":
        _store_nf4(module, placement)
    return module


def packing_of(module: nn.Module) -> str:
    """``int8`` or ``nf4`` where a module's large layers are packed so, else ``native``; fp8 shows in the weights."""
    return next((packing for child in module.modules() if (packing := _packing(child))), "native")


def unpacked(module: nn.Module) -> dict[int, Any]:
    """Plain layers on ``meta`` for the packed ones of a module, and plain weights: a memo for ``copy.deepcopy``."""
    found: dict[int, Any] = {}
    for child in module.modules():
        packing = _packing(child)
        if packing is not None:
            dtype = child.compute_dtype if packing == "nf4" else child.weight.dtype
            like = {"bias": child.bias is not None, "device": "meta", "dtype": dtype}
            plain = nn.Linear(child.in_features, child.out_features, **like).requires_grad_(False)
            plain.train(child.training)
            found |= {id(child): plain, id(child.weight): plain.weight, id(child.bias): plain.bias}
    return found


def shapes(module: nn.Module) -> dict[str, torch.Size]:
    """Shapes of all parameters by name, of packed ones as if they were not."""
    found = {name: parameter.shape for name, parameter in module.named_parameters()}
    packed = {name: child for name, child in module.named_modules() if _packing(child)}
    return found | {f"{name}.weight": torch.Size((c.out_features, c.in_features)) for name, c in packed.items()}


def whole_weight(layer: nn.Module) -> Tensor:
    """The weight that a layer works with, in float32, however it is stored; for one look at it, a copy.

    Args:
        layer: A linear layer or a convolution.

    Returns:
        ``(out, in)``, or a convolution's shape.
    """
    packing = _packing(layer)
    if packing == "nf4":
        # Its bytes lie in another order once it has worked on a CPU; its own product knows both.
        bitsandbytes, weight = require("bitsandbytes", "weight storage nf4"), layer.weight
        identity = torch.eye(layer.in_features, dtype=layer.compute_dtype, device=weight.device)
        return bitsandbytes.matmul_4bit(identity, weight, quant_state=weight.quant_state).float().T
    return (layer.weight.dequantize() if packing == "int8" else layer.weight.detach()).float()


def assign(module: nn.Module, name: str, value: Tensor) -> None:
    """Put new numbers into a parameter; they are kept the way the old ones were.

    Args:
        module: It is changed.
        name: Of the parameter.
        value: Of the shape that :func:`shapes` gives.
    """
    path, _, leaf = name.rpartition(".")
    layer = module.get_submodule(path)
    packing = _packing(layer) if leaf == "weight" else None
    if packing is None:
        getattr(layer, leaf).data.copy_(value)
    elif packing == "nf4":
        where = layer.weight.device
        _set_nf4(layer, value.to(where, layer.compute_dtype), where)
    else:
        fresh = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        fresh.weight = nn.Parameter(value.to(layer.weight.device, layer.weight.dtype), requires_grad=False)
        _pack_int8(nn.Sequential(fresh), {id(fresh)})
        layer.weight = fresh.weight


def own_hooks(twin: nn.Module) -> nn.Module:
    """Give a deep copy of a module casting hooks of its own: copied ones would still call the original's forward.

    Args:
        twin: The copy; it is changed.

    Returns:
        The same copy.
    """
    from diffusers.hooks.layerwise_casting import apply_layerwise_casting_hook

    for child in list(twin.modules()):
        hook = _fp8_hook(child)
        if hook is not None:
            del child.__dict__["forward"], child.__dict__["_diffusers_hook"]
            apply_layerwise_casting_hook(child, hook.storage_dtype, hook.compute_dtype, hook.non_blocking)
    return twin


def is_stored(module: nn.Module) -> bool:
    """Whether a module's weights are kept in fp8."""
    return any(_fp8_hook(child) is not None for child in module.modules())


def store_fp8(module: nn.Module, dtype: torch.dtype) -> None:
    """Keep the large weights in fp8 and cast each layer up for its work; on ``meta`` too, where it is only counted.

    Args:
        module: It is changed.
        dtype: Type of computation.
    """
    from diffusers.hooks.layerwise_casting import apply_layerwise_casting_hook

    for unit in _units(module):
        hook = _fp8_hook(unit)
        if hook is None:
            apply_layerwise_casting_hook(unit, FP8, dtype, non_blocking=False)
        else:
            hook.initialize_hook(unit)  # a ``.to(dtype)`` may have undone it


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """What is cast at once: linear layers, and T5's feed-forward blocks."""
    blocks = [child for child in module.modules() if type(child).__name__ in FEED_FORWARDS]
    inside = {id(part) for block in blocks for part in block.modules()}
    yield from blocks
    yield from (linear for _, linear in _linears(module) if id(linear) not in inside)


def saved_bytes(module: nn.Module, storage: str) -> int:
    """Bytes that ``int8`` or ``nf4`` take off a module's weights."""
    factor = BYTES_PER_WEIGHT[storage]
    return sum(linear.weight.nbytes - int(linear.weight.numel() * factor) for _, linear in _linears(module))


def _linears(module: nn.Module) -> list[tuple[str, nn.Linear]]:
    return [
        (name, child)
        for name, child in module.named_modules()
        if isinstance(child, nn.Linear) and not SKIPPED.search(name)
    ]


def _fp8_hook(module: nn.Module) -> Any | None:
    registry = getattr(module, "_diffusers_hook", None)
    return registry and registry.get_hook("layerwise_casting")


def _packing(module: nn.Module) -> str | None:
    """A package's own type of weight tells."""
    if not isinstance(module, nn.Linear):
        return None
    package = type(module.weight).__module__.partition(".")[0]
    return next((storage for storage, name in PACKAGES.items() if name == package), None)


def _pack_int8(module: nn.Module, chosen: set[int]) -> None:
    torchao = require("torchao.quantization", "weight storage int8")
    torchao.quantize_(module, torchao.Int8WeightOnlyConfig(), filter_fn=lambda child, _: id(child) in chosen)


def _store_nf4(module: nn.Module, placement: Placement) -> None:
    bitsandbytes = require("bitsandbytes", "weight storage nf4")
    for name, linear in _linears(module):
        # T5 casts its input to the type of the weight: packed numbers must say the type they compute in.
        packed = bitsandbytes.nn.Linear4bit(
            linear.in_features, linear.out_features, linear.bias is not None, compute_dtype=placement.dtype,
            quant_type="nf4", quant_storage=placement.dtype, device="meta",
        )  # fmt: skip
        # From 0.50 on, on processors with AVX512-BF16, a layer would repack its bytes at its first use: they take more
        # then, in an order that nothing else reads, and widths that are no multiple of 32 fail.
        packed.support_avx512bf16_for_cpu = False
        packed.bias = linear.bias
        _set_nf4(packed, linear.weight.data, placement.device)
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, packed.train(linear.training))


def _set_nf4(layer: nn.Module, value: Tensor, device: torch.device) -> None:
    """Pack on a device and come back to where the value is: not every version packs on a CPU."""
    old = layer.weight
    options = {"quant_type": old.quant_type, "quant_storage": old.quant_storage, "module": layer}
    packed = type(old)(value, requires_grad=False, **options).to(device)
    layer.weight = packed if device == value.device else packed.to(value.device)
