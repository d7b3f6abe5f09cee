"""A linear layer with LoRAs beside it: ``y = base(x) + up @ (down @ x)``. The base layer itself is not touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# Types in which the two factors are kept; beside anything narrower (fp8, int8, 4 bits) they stay in float32.
WIDE = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Term:
    """One LoRA's part in one layer.

    Args:
        key: Where it stands among others: content hash and strength, so that any order of loading gives the same sum.
        down: A, ``(rank, in)``.
        up: B with strength and alpha / rank multiplied in, ``(out, rank)``.
        bias: ``(out,)`` with the strength multiplied in, or None.
    """

    key: tuple[str, float]
    down: Tensor
    up: Tensor
    bias: Tensor | None = None


class LoraLinear(nn.Module):
    """A linear layer and the sum of any number of LoRAs, as one pair of factors of their ranks together.

    The weight of the base layer is neither read nor changed, so that it may be stored in any way (fp8 with casting
    hooks, int8, 4 bits), be shared with a model without LoRA, and lie wherever an offload hook put it. Nothing is
    rounded into bfloat16 weights either, where a small LoRA would be lost.

    Args:
        base: A linear layer, stored in whatever way.
        terms: One a LoRA; stacked in the order of their keys.
    """

    def __init__(self, base: nn.Module, terms: Sequence[Term]) -> None:
        super().__init__()
        terms = sorted(terms, key=lambda term: term.key)
        dtype = base.weight.dtype if base.weight.dtype in WIDE else torch.float32
        where = {"device": base.weight.device, "dtype": dtype}
        self.keys = [(term.key, len(term.down), term.bias is not None) for term in terms]
        self.down = nn.Parameter(torch.cat([term.down.to(**where) for term in terms]), requires_grad=False)
        self.up = nn.Parameter(torch.cat([term.up.to(**where) for term in terms], dim=1), requires_grad=False)
        biases = [term.bias.to(**where) for term in terms if term.bias is not None]
        self.biases = nn.Parameter(torch.stack(biases), requires_grad=False) if biases else None
        self.base = base
        self.in_features, self.out_features = base.in_features, base.out_features
        self.training = base.training

    @property
    def weight(self) -> Tensor:
        """The base layer's weight, for code that asks a linear layer for its type or place."""
        return self.base.weight

    @property
    def terms(self) -> list[Term]:
        """What it was made of."""
        found, start, row = [], 0, 0
        for key, rank, has_bias in self.keys:
            stop = start + rank
            bias = self.biases[row] if has_bias else None
            found.append(Term(key, self.down[start:stop], self.up[:, start:stop], bias))
            start, row = stop, row + has_bias
        return found

    def forward(self, x: Tensor) -> Tensor:
        """``(…, in)`` to ``(…, out)``."""
        added = F.linear(F.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))
        if self.biases is not None:
            added = added + self.biases.to(x.dtype).sum(dim=0)
        return self.base(x) + added


def with_term(layer: nn.Module, term: Term) -> LoraLinear:
    """The layer with one more LoRA beside it; LoRAs that are there already stay."""
    if isinstance(layer, LoraLinear):
        return LoraLinear(layer.base, [*layer.terms, term])
    return LoraLinear(layer, [term])
