"""Which noise meets which clip: as drawn, or by optimal transport within a batch (SyncFlow, after Tong et al.)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..core.optional import require
from ..core.pair import MODALITIES

PAIRINGS = ("independent", "ot")


def paired(tensors: Mapping[str, Tensor], pairing: str) -> dict[str, Tensor]:
    """A batch with its noise in another order; clips, texts and times stay where they are.

    Each modality on its own: their noises are independent, so the sum of distances is at most that of one common order.
    Texts belong to clips, so only noise may move. Every noise is used once; torchcfm draws pairs with replacement.

    Args:
        tensors: By side ``…_latents`` and ``…_noise (B, …)``, beside others.
        pairing: ``independent`` or ``ot``.

    Raises:
        MissingPackageError: ``ot`` without scipy.
    """
    moved = {}
    if pairing == "ot":
        for side in MODALITIES:
            if f"{side}_latents" in tensors:
                noise = tensors[f"{side}_noise"]
                moved[f"{side}_noise"] = noise[nearest_order(tensors[f"{side}_latents"], noise)]
    return {**tensors, **moved}


def nearest_order(clean: Tensor, noise: Tensor) -> Tensor:
    """The order of noise ``(B,)`` in which the sum of squared distances to the clips is least.

    Whatever the order, the squares sum up to the same, so what is left is the product: it shall be largest.

    Args:
        clean: ``(B, …)``.
        noise: Of the same shape.
    """
    if len(clean) < 2:
        return torch.arange(len(clean))
    products = clean.flatten(1).double() @ noise.flatten(1).double().T
    solver = require("scipy.optimize", "pairing noise with clips (objective.pairing=ot)")
    _, order = solver.linear_sum_assignment(products.cpu().numpy(), maximize=True)
    return torch.from_numpy(order)
