"""A layer with LoRAs beside it: ``y = base(x) + change(x)``. The base layer itself is not touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .forms import Form, Whole

# Types in which the factors are kept; beside anything narrower (fp8, int8, 4 bits) they stay in float32.
WIDE = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
CONVOLUTIONS = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}


@dataclass(frozen=True)
class Term:
    """One LoRA's part in one layer.

    Args:
        key: Where it stands among others: content hash and strength, so that any order of loading gives the same sum.
        form: What is added to the weight, with alpha and strength multiplied in (a DoRA's: without strength), or None.
        bias: ``(out,)`` with the strength multiplied in, or None.
        gain: Of a DoRA, the factor minus 1 that the changed weight's rows or columns get; else None.
        axis: 0 where ``gain`` is a number a row (out), 1 where it is one a column (in).
    """

    key: tuple[str, float]
    form: Form | None = None
    bias: Tensor | None = None
    gain: Tensor | None = None
    axis: int = 0

    @property
    def down(self) -> Tensor:
        """A of a plain LoRA, ``(rank, in)``."""
        return self.form.down

    @property
    def up(self) -> Tensor:
        """B of a plain LoRA, ``(out, rank)``."""
        return self.form.up

    def tensors(self) -> dict[str, Tensor]:
        """Everything it is made of, by name."""
        found = {field.name: getattr(self.form, field.name) for field in fields(self.form)} if self.form else {}
        return {name: t for name, t in {**found, "bias": self.bias, "gain": self.gain}.items() if t is not None}


class LayerWithLora(nn.Module):
    """A layer and the sum of any number of LoRAs.

    The weight of the base layer is neither read nor changed, so that it may be stored in any way (fp8 with casting
    hooks, int8, 4 bits), be shared with a model without LoRA, and lie wherever an offload hook put it. Nothing is
    rounded into bfloat16 weights either, where a small LoRA would be lost.

    A DoRA (Liu 2024, eq. 5) with strength s adds ``s · (g ∘ (W + D) - W)``, with g from the base weight alone: what the
    others beside it do does not change it.

    Args:
        base: The layer, stored in whatever way.
        terms: One a LoRA, summed in the order of their keys.
    """

    channels = -1  # the axis of x and y that the weight works on

    def __init__(self, base: nn.Module, terms: Sequence[Term]) -> None:
        super().__init__()
        dtype = base.weight.dtype if base.weight.dtype in WIDE else torch.float32
        self._records: list[Term] = []
        self._names: list[tuple[str, ...]] = []
        for number, term in enumerate(sorted(terms, key=lambda term: term.key)):
            tensors = term.tensors()
            for name, tensor in tensors.items():
                kept = tensor.to(device=base.weight.device, dtype=dtype)
                self.register_parameter(f"{name}_{number}", nn.Parameter(kept, requires_grad=False))
            self._records.append((term.key, type(term.form) if term.form else None, term.axis))
            self._names.append(tuple(tensors))
        self.base = base
        self.training = base.training

    @property
    def weight(self) -> Tensor:
        """The base layer's weight, for code that asks a layer for its type or place."""
        return self.base.weight

    @property
    def terms(self) -> list[Term]:
        """What it was made of."""
        found = []
        for number, ((key, form, axis), names) in enumerate(zip(self._records, self._names, strict=True)):
            tensors = {name: self._parameters[f"{name}_{number}"] for name in names}
            bias, gain = tensors.pop("bias", None), tensors.pop("gain", None)
            found.append(Term(key, form(**tensors) if form else None, bias, gain, axis))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """As the base layer: x with ``in`` channels to y with ``out``."""
        terms = self.terms
        parts = [part for term in terms for part in self._parts(term, x)]
        rows, columns = self._gains(terms, 0, x), self._gains(terms, 1, x)
        y = self.base(x if columns is None else x + x * columns)
        if rows is not None:
            y = y + rows * (y if columns is None else self.base(x))
        return y + sum(parts[1:], parts[0]) if parts else y

    def _parts(self, term: Term, x: Tensor) -> list[Tensor]:
        parts = [] if term.bias is None else [self._broadcast(term.bias, x)]
        if term.form is None:
            return parts
        if term.gain is None:
            return [self.change(term.form, x), *parts]
        strength, factor = term.key[1], 1 + self._broadcast(term.gain, x)
        if term.axis == 0:
            return [self.change(term.form, x) * (strength * factor), *parts]
        return [self.change(term.form, x * factor) * strength, *parts]

    def _gains(self, terms: list[Term], axis: int, x: Tensor) -> Tensor | None:
        gains = [term.key[1] * term.gain for term in terms if term.gain is not None and term.axis == axis]
        return self._broadcast(sum(gains[1:], gains[0]), x) if gains else None

    def _broadcast(self, values: Tensor, x: Tensor) -> Tensor:
        """Numbers a channel, shaped so that they meet x's or y's channels."""
        return values.to(x.dtype).reshape(-1, *(1,) * (-1 - self.channels))

    def change(self, form: Form, x: Tensor) -> Tensor:
        """What a form adds to the output."""
        raise NotImplementedError


class LoraLinear(LayerWithLora):
    """A linear layer with LoRAs: ``(…, in)`` to ``(…, out)``."""

    def __init__(self, base: nn.Module, terms: Sequence[Term]) -> None:
        super().__init__(base, terms)
        self.in_features, self.out_features = base.in_features, base.out_features

    def change(self, form: Form, x: Tensor) -> Tensor:
        """The form's own arithmetic."""
        return form.added(x)


class LoraConvolution(LayerWithLora):
    """A convolution with LoRAs; each is kept as a difference of the weight's shape, for they are small."""

    def __init__(self, base: nn.Module, terms: Sequence[Term]) -> None:
        super().__init__(base, terms)
        self.channels = 1 - base.weight.ndim

    def change(self, form: Form, x: Tensor) -> Tensor:
        """The same convolution with the difference as its weight."""
        base, weight = self.base, form.weight.to(x.dtype)
        convolve = CONVOLUTIONS[weight.ndim]
        return convolve(x, weight, None, base.stride, base.padding, base.dilation, base.groups)


def is_convolution(layer: nn.Module) -> bool:
    """Whether a layer is a convolution that LoRAs can stand beside."""
    layer = layer.base if isinstance(layer, LayerWithLora) else layer
    return isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and layer.padding_mode == "zeros"


def with_term(layer: nn.Module, term: Term) -> LayerWithLora:
    """The layer with one more LoRA beside it; LoRAs that are there already stay."""
    base = layer.base if isinstance(layer, LayerWithLora) else layer
    terms = layer.terms if isinstance(layer, LayerWithLora) else []
    kind = LoraConvolution if is_convolution(base) else LoraLinear
    if kind is LoraConvolution and term.form is not None:
        whole = Whole(term.form.dense().reshape(base.weight.shape))
        term = Term(term.key, whole, term.bias, term.gain, term.axis)
    return kind(base, [*terms, term])
