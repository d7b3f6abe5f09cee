"""How ComfyUI's newer files pack a layer, and how it is undone: exactly, in float32.

=================== ============================ ==============================================================
``float8_e4m3fn``   a scale a matrix or a row    ``weight_scale``; also ``float8_e5m2``
``int8_tensorwise`` a scale a matrix or a row    ``weight_scale``; with ``convrot`` the rows were turned before
``mxfp8``           a power of two for 32        ``weight_scale`` (e8m0, in the tiles below)
``nvfp4``           e4m3 for 16, one for all     ``weight_scale`` (in tiles), ``weight_scale_2``; two numbers a byte
=================== ============================ ==============================================================

A turned row is the row times an orthogonal matrix, group by group: the normalised Hadamard matrix that is the Kronecker
power of a symmetric one of four rows ("ConvRot"). It is its own inverse. Block scales lie as the matrix units want
them: tiles of 128 rows and 4 columns, within a tile row r at (r mod 32), and there four groups of 32 rows side by side.
Anything else that a file says of a layer is refused: a key that is not known may change every number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...core.errors import IncompatibleWeightsError

FP8_FORMATS = {"float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2}
STORED_AS = {**FP8_FORMATS, "int8_tensorwise": torch.int8, "mxfp8": torch.float8_e4m3fn, "nvfp4": torch.uint8}
# What a description of a layer may say; the last is about arithmetic in fp8, which nobody does here.
COMMON_KEYS = ("format", "full_precision_matrix_mult")
ROTATION_KEYS = ("convrot", "convrot_groupsize")
HEADER_KEYS, HEADER_VERSIONS = ("format_version", "layers"), ("1.0", 1.0, 1)
DEFAULT_GROUP = 256
HADAMARD_4 = ((1, 1, 1, -1), (1, 1, -1, 1), (1, -1, 1, 1), (-1, 1, 1, 1))
# The sixteen numbers of e2m1: a sign, two bits of exponent, one of mantissa.
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0)
TILE_ROWS, TILE_COLUMNS = 128, 4
E8M0_BIAS = 127


@dataclass(frozen=True)
class Packing:
    """How one layer is packed.

    Args:
        format: A key of ``STORED_AS``.
        group: Columns that were turned together; 0 for none.
    """

    format: str
    group: int = 0


def read_packing(layer: Any) -> Packing:
    """What a description of a layer means.

    Args:
        layer: The JSON value beside the layer, or in the header.

    Raises:
        IncompatibleWeightsError: it says anything that is not understood; the message has just that.
    """
    if not isinstance(layer, Mapping):
        raise _not_understood(repr(layer))
    nested = layer.get("params", {})
    if not isinstance(nested, Mapping):
        raise _not_understood(f"params {nested!r}")
    said = {**nested, **{key: value for key, value in layer.items() if key != "params"}}
    twice = [key for key in nested if said[key] != nested[key]]
    if twice:
        raise _not_understood(f"two values for {', '.join(twice)}")
    form = said.get("format")
    if not isinstance(form, str) or form not in STORED_AS:
        raise _not_understood(str(form))
    known = (*COMMON_KEYS, *(ROTATION_KEYS if form == "int8_tensorwise" else ()))
    unknown = {key: value for key, value in said.items() if key not in known}
    if unknown:
        raise _not_understood(f"{form} with " + ", ".join(f"{key} {value!r}" for key, value in unknown.items()))
    turned, group = said.get("convrot", False), said.get("convrot_groupsize", DEFAULT_GROUP)
    plain = said.get("full_precision_matrix_mult", False)
    if not isinstance(turned, bool) or not isinstance(plain, bool):
        raise _not_understood(f"{form} with convrot {turned!r}, {COMMON_KEYS[1]} {plain!r}")
    if type(group) is not int or not _is_power_of_four(group):
        raise _not_understood(f"{form} with convrot_groupsize {group!r}")
    return Packing(form, group if turned else 0)


def read_header_note(note: Any) -> dict[str, Packing]:
    """What the entry of a file's header says of all its layers, by their names.

    Raises:
        IncompatibleWeightsError: it says anything that is not understood.
    """
    if not isinstance(note, Mapping) or not isinstance(note.get("layers", {}), Mapping):
        raise _not_understood(repr(note)[:80])
    unknown = [key for key in note if key not in HEADER_KEYS]
    if unknown:
        raise _not_understood(", ".join(map(str, unknown)))
    version = note.get("format_version", HEADER_VERSIONS[0])
    if version not in HEADER_VERSIONS:
        raise _not_understood(f"format_version {version!r}")
    return {str(name): read_packing(layer) for name, layer in note.get("layers", {}).items()}


def _not_understood(got: str) -> IncompatibleWeightsError:
    return IncompatibleWeightsError("the packing of a layer is not understood", got=got, expected="a known one")


def _is_power_of_four(number: int) -> bool:
    return number >= 4 and number & (number - 1) == 0 and number.bit_length() % 2 == 1


def unpack(packing: Packing, weight: Tensor, side: Callable[[str], Tensor | None]) -> Tensor:
    """The numbers of a packed matrix, in float32.

    Args:
        packing: How it is packed.
        weight: ``(rows, columns)``; of nvfp4 ``(rows, columns / 2)``.
        side: Gives the tensor of a name beside the weight, ``weight_scale``, or None.

    Raises:
        IncompatibleWeightsError: a type or shape that does not go with the packing.
    """
    if weight.dtype != STORED_AS[packing.format]:
        raise _misfit(packing, f"weights in {str(weight.dtype).removeprefix('torch.')}")
    scale = side("weight_scale")
    if packing.format != "nvfp4" and side("weight_scale_2") is not None:
        raise _misfit(packing, "a weight_scale_2 as well")
    if scale is not None and not torch.isfinite(scale.float()).all():
        raise _misfit(packing, "a weight_scale that is not finite")
    if packing.format in FP8_FORMATS:
        return weight.float() if scale is None else _scaled(packing, weight, scale)
    if scale is None or weight.ndim != 2:
        raise _misfit(packing, "no weight_scale" if scale is None else f"{weight.ndim} axes")
    if packing.format == "int8_tensorwise":
        return _turned_back(packing, _scaled(packing, weight, scale))
    if packing.format == "mxfp8":
        return _in_blocks(weight.float(), _untiled(packing, _e8m0(packing, scale), weight.shape, 32), 32)
    whole = side("weight_scale_2")
    if whole is None or whole.numel() != 1:
        raise _misfit(packing, "no weight_scale_2 of one number")
    numbers = torch.stack((weight >> 4, weight & 15), dim=-1).flatten(1)
    numbers = torch.tensor(E2M1)[numbers.int()]
    blocks = _untiled(packing, _as_fp8(packing, scale).float(), numbers.shape, 16)
    return _in_blocks(numbers, whole.float().reshape(()) * blocks, 16)


def _scaled(packing: Packing, weight: Tensor, scale: Tensor) -> Tensor:
    if scale.numel() not in (1, weight.shape[0]) or any(size != 1 for size in scale.shape[1:]):
        raise _misfit(packing, f"weight_scale {tuple(scale.shape)} for {tuple(weight.shape)}")
    return weight.float() * scale.float().reshape(-1, *(1,) * (weight.ndim - 1))


def _turned_back(packing: Packing, weight: Tensor) -> Tensor:
    if not packing.group:
        return weight
    if weight.shape[1] % packing.group:
        raise _misfit(packing, f"{weight.shape[1]} columns in groups of {packing.group}")
    grouped = weight.reshape(weight.shape[0], -1, packing.group)
    return torch.matmul(grouped, hadamard(packing.group)).reshape(weight.shape)


def hadamard(size: int) -> Tensor:
    """The symmetric orthogonal matrix that turns groups of ``size`` columns, a power of four."""
    smallest = torch.tensor(HADAMARD_4, dtype=torch.float32)
    matrix = smallest
    while len(matrix) < size:
        matrix = torch.kron(matrix, smallest)
    return matrix / math.sqrt(size)


def _as_fp8(packing: Packing, scale: Tensor) -> Tensor:
    """Older writers keep the scales' bytes."""
    if scale.dtype == torch.uint8:
        return scale.view(torch.float8_e4m3fn)
    if scale.dtype != torch.float8_e4m3fn:
        raise _misfit(packing, f"weight_scale in {scale.dtype}")
    return scale


def _e8m0(packing: Packing, scale: Tensor) -> Tensor:
    """Powers of two, of which only the exponent is kept; 0 stands for no scale at all."""
    if scale.dtype not in (torch.uint8, getattr(torch, "float8_e8m0fnu", torch.uint8)):
        raise _misfit(packing, f"weight_scale in {scale.dtype}")
    exponents = scale.view(torch.uint8).float()
    return torch.where(exponents == 0, torch.zeros(()), torch.exp2(exponents - E8M0_BIAS))


def _untiled(packing: Packing, scale: Tensor, shape: torch.Size, block: int) -> Tensor:
    """Block scales ``(rows, columns / block)`` from the tiles in which they lie."""
    rows, columns = shape[0], -(-shape[1] // block)
    down, across = -(-rows // TILE_ROWS), -(-columns // TILE_COLUMNS)
    if scale.numel() != down * TILE_ROWS * across * TILE_COLUMNS or shape[1] % block:
        raise _misfit(packing, f"weight_scale {tuple(scale.shape)} for {tuple(shape)}")
    tiles = scale.reshape(down, across, 32, 4, TILE_COLUMNS)
    return tiles.permute(0, 3, 2, 1, 4).reshape(down * TILE_ROWS, across * TILE_COLUMNS)[:rows, :columns]


def _in_blocks(numbers: Tensor, scales: Tensor, block: int) -> Tensor:
    return (numbers.reshape(len(numbers), -1, block) * scales[..., None]).reshape(numbers.shape)


def _misfit(packing: Packing, got: str) -> IncompatibleWeightsError:
    return IncompatibleWeightsError(
        f"a layer is not packed as {packing.format}, which the file says",
        got=got,
        expected="weights and scales of that packing",
        remedy="Get the weights in another type.",
    )
