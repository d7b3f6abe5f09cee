"""Distance of two sets of feature vectors: squared MMD with the cubic kernel of KID and KVD."""

from __future__ import annotations

from torch import Tensor

from ..core.errors import InputError


def kernel_distance(made: Tensor, true: Tensor, *, paired: bool = False) -> float:
    """Unbiased: pairs of a vector with itself are left out, so that equal sets are 0 in the mean and may be below it.

    The kernel is (x·y / D + 1)³ (Bińkowski et al. 2018). Unlike a Fréchet distance it needs no more clips than numbers.

    Args:
        made: ``(N, D)``.
        true: ``(M, D)``.
        paired: Row i of one belongs to row i of the other, as a reconstruction to what it is made of. Then these pairs
            are left out too (Gretton et al. 2012, the U-statistic of their lemma 6): equal sets are exactly 0.

    Raises:
        InputError: vectors of different lengths, fewer than two in a set, or pairs in sets of different sizes.
    """
    fits = made.ndim == true.ndim == 2 and made.shape[1] == true.shape[1] and min(len(made), len(true)) > 1
    if not fits or (paired and len(made) != len(true)):
        got = f"{tuple(made.shape)} and {tuple(true.shape)}" + (" in pairs" if paired else "")
        raise InputError("no kernel distance of these", got=got, expected="two or more vectors each, equally long")
    made, true = made.double(), true.double()
    within = sum(_mean_of_others(_kernel(each, each)) for each in (made, true))
    across = _kernel(made, true)
    return float(within - 2 * (_mean_of_others(across) if paired else across.mean()))


def _kernel(left: Tensor, right: Tensor) -> Tensor:
    return (left @ right.T / left.shape[1] + 1) ** 3


def _mean_of_others(kernel: Tensor) -> Tensor:
    """Without the diagonal."""
    count = len(kernel)
    return (kernel.sum() - kernel.diagonal().sum()) / (count * (count - 1))
