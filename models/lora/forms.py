"""The ways a file writes the change of one weight, each with its arithmetic beside a layer.

==============  =============================================  =====================================================
``LowRank``     LoRA (Hu 2021): ``up @ down``                  LoCon's middle layer is multiplied out
``Hadamard``    LoHa (FedPara, Hyeon-Woo 2022, eq. 3)          ``(a1 @ b1) * (a2 @ b2)``
``Kronecker``   LoKr (LyCORIS, Yeh 2023, §4.2)                 ``first (x) second``, the second whole or in factors
``Whole``       a difference as large as the weight            also what convolutions take
==============  =============================================  =====================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional as F

LOHA, LOKR = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), ("lokr_w1", "lokr_w2")


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _times(tensor: Tensor, factor: float) -> Tensor:
    return tensor if factor == 1 else (tensor.double() * factor).float()


@dataclass(frozen=True)
class LowRank:
    """``up @ down``: ``down (rank, in)``, ``up (out, rank)``."""

    down: Tensor
    up: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Out and in."""
        return len(self.up), self.down.shape[1]

    def added(self, x: Tensor) -> Tensor:
        """``(…, in)`` to ``(…, out)``."""
        return F.linear(F.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))

    def dense(self) -> Tensor:
        """The change as a matrix, ``(out, in)``."""
        return _wide(self.up) @ _wide(self.down)

    def times(self, factor: float) -> LowRank:
        """The change, larger by a factor."""
        return replace(self, up=_times(self.up, factor))

    def rows(self, part: slice) -> LowRank:
        """Of a joined layer, the part of one of the joined ones."""
        return replace(self, up=self.up[part])


@dataclass(frozen=True)
class Hadamard:
    """``(a1 @ b1) * (a2 @ b2)``: ``a (out, rank)``, ``b (rank, in)``; multiplied out at each use, kept as factors."""

    a1: Tensor
    b1: Tensor
    a2: Tensor
    b2: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Out and in."""
        return len(self.a1), self.b1.shape[1]

    def added(self, x: Tensor) -> Tensor:
        """``(…, in)`` to ``(…, out)``."""
        return F.linear(x, self.dense().to(x.dtype))

    def dense(self) -> Tensor:
        """The change as a matrix, ``(out, in)``."""
        return (_wide(self.a1) @ _wide(self.b1)) * (_wide(self.a2) @ _wide(self.b2))

    def times(self, factor: float) -> Hadamard:
        """The change, larger by a factor."""
        return replace(self, a1=_times(self.a1, factor))

    def rows(self, part: slice) -> Hadamard:
        """Of a joined layer, the part of one of the joined ones."""
        return replace(self, a1=self.a1[part], a2=self.a2[part])


@dataclass(frozen=True)
class Kronecker:
    """``first (x) second``: ``first (l, m)``, ``second (k, n)`` as ``up``, or as ``up (k, rank) @ down (rank, n)``.

    Never multiplied out in use: with x as ``(…, m, n)``, the second factor works on n and the first on m.
    """

    first: Tensor
    up: Tensor
    down: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Out and in."""
        last = self.up if self.down is None else self.down
        return self.first.shape[0] * self.up.shape[0], self.first.shape[1] * last.shape[1]

    def added(self, x: Tensor) -> Tensor:
        """``(…, in)`` to ``(…, out)``."""
        inner = x.unflatten(-1, (self.first.shape[1], -1))
        if self.down is not None:
            inner = F.linear(inner, self.down.to(x.dtype))
        inner = F.linear(inner, self.up.to(x.dtype))
        return F.linear(inner.transpose(-1, -2), self.first.to(x.dtype)).transpose(-1, -2).flatten(-2)

    def dense(self) -> Tensor:
        """The change as a matrix, ``(out, in)``."""
        second = _wide(self.up) if self.down is None else _wide(self.up) @ _wide(self.down)
        return torch.kron(_wide(self.first), second.contiguous())

    def times(self, factor: float) -> Kronecker:
        """The change, larger by a factor."""
        return replace(self, first=_times(self.first, factor))

    def rows(self, part: slice) -> Whole:
        """Of a joined layer, the part of one of the joined ones: no Kronecker product any more."""
        return Whole(self.dense()[part])


@dataclass(frozen=True)
class Whole:
    """The change itself, ``(out, in)``, or of a convolution's shape."""

    weight: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Out and everything else."""
        return len(self.weight), self.weight[0].numel() if len(self.weight) else 0

    def added(self, x: Tensor) -> Tensor:
        """``(…, in)`` to ``(…, out)``."""
        return F.linear(x, self.weight.to(x.dtype))

    def dense(self) -> Tensor:
        """The change as a matrix, ``(out, in)``."""
        return _wide(self.weight).flatten(1)

    def times(self, factor: float) -> Whole:
        """The change, larger by a factor."""
        return Whole(_times(self.weight, factor))

    def rows(self, part: slice) -> Whole:
        """Of a joined layer, the part of one of the joined ones."""
        return Whole(self.weight[part])


Form = LowRank | Hadamard | Kronecker | Whole


def check_form(form: Form) -> None:
    """Multiply the factors out without numbers.

    Raises:
        RuntimeError, ValueError: they do not fit one another.
    """
    tensors = {field.name: getattr(form, field.name) for field in fields(form)}
    if any(tensor is not None and not tensor.numel() for tensor in tensors.values()):
        raise ValueError("no numbers in them")
    empty = {name: tensor if tensor is None else tensor.to("meta") for name, tensor in tensors.items()}
    shape = tuple(type(form)(**empty).dense().shape)
    if shape != form.shape:
        raise ValueError(f"they make {shape}, not {form.shape}")


def missing_half(tensors: Mapping[str, Tensor]) -> str | None:
    """What a layer lacks to be whole: "only its down half", "hada_w2_b missing"; None when nothing does."""
    down, up = "down" in tensors, "up" in tensors
    if down != up:
        return f"only its {'down' if down else 'up'} half"
    if "mid" in tensors and not down:
        return "only its middle"
    if any(role.startswith("hada_") for role in tensors):
        wanted = [*LOHA, *(("hada_t1", "hada_t2") if {"hada_t1", "hada_t2"} & set(tensors) else ())]
        return next((f"no {role}" for role in wanted if role not in tensors), None)
    if any(role.startswith("lokr_") for role in tensors):
        for role in LOKR:
            lacking = [half for half in (f"{role}_a", f"{role}_b") if half not in tensors]
            if role not in tensors and lacking:
                return f"no {lacking[0] if len(lacking) == 1 else role}"
    return None


def read_form(tensors: Mapping[str, Tensor]) -> tuple[str, Form | None, int | None]:
    """The change that a layer's tensors describe, without alpha.

    Args:
        tensors: By role; complete, see :func:`missing_half`.

    Returns:
        "LoRA", "LoHa", "LoKr" or "whole difference"; the change; and the rank that alpha is divided by, None where
        alpha says nothing: a whole difference, and a LoKr without factors.
    """
    if LOHA[0] in tensors:
        factors = [_matrix(tensors[role]) for role in LOHA]
        if "hada_t1" not in tensors:
            return "LoHa", Hadamard(*factors), len(factors[1])
        first, second = (_tucker(tensors[f"hada_t{n}"], *factors[2 * n - 2 : 2 * n]) for n in (1, 2))
        return "LoHa", Whole(first * second), len(factors[1])
    if any(role.startswith("lokr_") for role in tensors):
        return _lokr(tensors)
    if "down" not in tensors:
        return "whole difference", Whole(tensors["diff"]) if "diff" in tensors else None, None
    down, up, mid = tensors["down"], tensors["up"], tensors.get("mid")
    rank = len(down)
    if mid is None:
        return "LoRA", LowRank(_matrix(down), _matrix(up)), rank
    middle = torch.einsum("oa,ab...,bi->oi...", _wide(_matrix(up)), _wide(mid), _wide(_matrix(down)))
    return "LoRA", Whole(middle), rank


def _matrix(tensor: Tensor) -> Tensor:
    return tensor.flatten(1) if tensor.ndim > 1 else tensor.unsqueeze(-1)


def _tucker(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """A convolution's weight from its core ``(rank, rank, …)``, ``a (rank, out)`` and ``b (rank, in)``."""
    return torch.einsum("ij...,io,jp->op...", _wide(core), _wide(a), _wide(b))


def _lokr(tensors: Mapping[str, Tensor]) -> tuple[str, Form, int | None]:
    """A factor that is given whole is used; alpha counts only where one is given in factors."""
    rank = None
    if "lokr_w1" in tensors:
        first = _matrix(tensors["lokr_w1"])
    else:
        rank = len(tensors["lokr_w1_b"])
        first = _wide(tensors["lokr_w1_a"]) @ _wide(tensors["lokr_w1_b"])
    second = tensors.get("lokr_w2")
    if second is None:
        rank = len(tensors["lokr_w2_b"])
        if "lokr_t2" not in tensors:
            return "LoKr", Kronecker(first, _matrix(tensors["lokr_w2_a"]), _matrix(tensors["lokr_w2_b"])), rank
        second = _tucker(tensors["lokr_t2"], tensors["lokr_w2_a"], tensors["lokr_w2_b"])
    if second[0, 0].numel() == 1:
        return "LoKr", Kronecker(first, _matrix(second)), rank
    first = _wide(first)[(..., *(None,) * (second.ndim - 2))]
    return "LoKr", Whole(torch.kron(first, _wide(second).contiguous())), rank
