"""Stage I of SAVA: which dimensions of each side's vectors help to predict the other side's (eq. 7), and the leak.

Everything is in units of the targets' variance, so that the mean predictor's error is 1: with a price of λ/512 a
dimension is kept where it buys λ/512 of the other side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.pair import MODALITIES, OTHER, Pair
from ..models.alignment.selective import Selection

# Dimensions at which the printed λ is a price.
UNIT = 512
PROBE_DECAY = 1e-3  # of the probe's ridge, in units of its samples


@dataclass(frozen=True)
class AlignLosses:
    """Parts of eq. 7, each a number.

    Args:
        sound: Error of the sound's vectors from what is kept of the picture's.
        picture: Error of the picture's from what is kept of the sound's.
        pull: Of both unmasked vectors towards each other.
        open: Dimensions of both sides that are open, summed, before their price.
    """

    sound: Tensor
    picture: Tensor
    pull: Tensor
    open: Tensor


class AlignStep(nn.Module):
    """Adapters, masks and decoders learn; there is no tower.

    Args:
        selection: What learns.
        sparsity: λ.
        pull: α.
    """

    def __init__(self, selection: Selection, *, sparsity: float, pull: float) -> None:
        super().__init__()
        self.selection, self.sparsity, self.pull = selection, sparsity, pull

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses ``total``, ``sound``, ``picture``, ``pull``; and what the masks do: ``kept_video``, ``leak_audio`` ….

        Args:
            batch: Vectors before they are standardised, ``video (B, N, F)`` and ``audio (B, N, F)``; ``ramp (B,)``, the
                share of λ that counts at this place of the run.
        """
        selection = self.selection
        dtype = selection.alignment.video_mean.dtype
        vectors = Pair(*(selection.alignment.standardised(side, batch[side].to(dtype)) for side in MODALITIES))
        adapted = Pair(*(selection.alignment.adapted(side, vectors[side]) for side in MODALITIES))
        p = Pair(*(selection.probabilities(side, adapted) for side in MODALITIES))
        masks = p.map(selection.mask)
        parts = align_losses(selection, vectors, adapted, p, masks)
        total = parts.sound + parts.picture + self.pull * parts.pull
        if selection.mask_input != "none":
            total = total + self.sparsity / UNIT * batch["ramp"].mean() * parts.open
        told = {"total": total, "sound": parts.sound, "picture": parts.picture, "pull": parts.pull}
        with torch.no_grad():
            for side in MODALITIES:
                told[f"kept_{side}"] = (p[side] > 0.5).to(dtype).mean((0, 1)).sum()
                told[f"leak_{side}"] = decoded_leak(selection, vectors, adapted, masks, side)
        return told


def align_losses(
    selection: Selection, vectors: Pair[Tensor], adapted: Pair[Tensor], p: Pair[Tensor], masks: Pair[Tensor]
) -> AlignLosses:
    """The parts of eq. 7 for standardised vectors, all by side ``(B, N, …)``.

    Args:
        selection: Decoders.
        vectors: Of both sides.
        adapted: In the shared space.
        p: How likely each dimension is kept.
        masks: As they are multiplied.
    """
    errors = {
        side: F.mse_loss(selection.predicted(side, masks[OTHER[side]] * adapted[OTHER[side]]), vectors[side])
        for side in MODALITIES
    }
    opened = sum(each.sum(-1).mean() for each in p)
    return AlignLosses(errors["audio"], errors["video"], distance(*adapted), opened)


def distance(first: Tensor, second: Tensor) -> Tensor:
    """``2 − 2·cos`` of vectors ``(…, D)``, the squared distance of their directions; the mean of all."""
    return (2 - 2 * F.cosine_similarity(first, second, dim=-1)).mean()


def elsewhere(vectors: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Vectors ``(B, N, D)`` of the clip before, at a moment by chance: they say nothing of this one."""
    order = torch.randperm(vectors.shape[1], generator=generator).to(vectors.device)
    return vectors.roll(1, 0)[:, order]


def decoded_leak(
    selection: Selection, vectors: Pair[Tensor], adapted: Pair[Tensor], masks: Pair[Tensor], side: str
) -> Tensor:
    """How much of a side its decoder tells from the mask alone: this clip's mask over another clip's latent.

    The share of the variance that the decoder's answer explains at its best scale; a lower bound of what leaks.

    Args:
        selection: Decoders.
        vectors: Standardised, of both sides.
        adapted: In the shared space.
        masks: As they are multiplied.
        side: ``video`` or ``audio``, which is predicted.
    """
    other = OTHER[side]
    told = selection.predicted(side, masks[other] * elsewhere(adapted[other]))
    told, wanted = told - told.mean((0, 1)), vectors[side] - vectors[side].mean((0, 1))
    shared = (told * wanted).sum().clamp_min(0)
    tiny = torch.finfo(told.dtype).tiny
    return shared.square() / (told.square().sum() * wanted.square().sum()).clamp_min(tiny)


@torch.no_grad()
def probed_leak(selection: Selection, vectors: Pair[Tensor], side: str, *, seed: int = 0) -> float:
    """What a linear probe tells of a side from this clip's mask over another clip's latent: R² on clips it never saw.

    Args:
        selection: In eval mode, so that masks are settled.
        vectors: Standardised, of both sides ``(B, N, F)``; the probe learns on the first half of the clips.
        side: Which is predicted.
        seed: Of the moments that are taken from elsewhere.

    Returns:
        R², at most 1; below 0 where the probe misleads. ``nan`` for less than four clips.
    """
    if len(vectors.video) < 4:
        return float("nan")
    adapted = Pair(*(selection.alignment.adapted(name, vectors[name]) for name in MODALITIES))
    mask, half = selection.mask(selection.probabilities(OTHER[side], adapted)), len(vectors.video) // 2
    generator = torch.Generator().manual_seed(seed)
    sets = []
    for part in (slice(half), slice(half, None)):
        told = mask[part] * elsewhere(adapted[OTHER[side]][part], generator)
        sets.append((told.flatten(0, 1).double(), vectors[side][part].flatten(0, 1).double()))
    (seen, known), (unseen, wanted) = sets
    centre, mean = seen.mean(0), known.mean(0)
    inner = (seen - centre).T @ (seen - centre)
    ridge = PROBE_DECAY * len(seen) * torch.eye(inner.shape[0], dtype=inner.dtype, device=inner.device)
    weight = torch.linalg.solve(inner + ridge, (seen - centre).T @ (known - mean))
    error = (mean + (unseen - centre) @ weight - wanted).square().sum()
    return float(1 - error / (wanted - wanted.mean(0)).square().sum())


@torch.no_grad()
def explained(selection: Selection, vectors: Pair[Tensor], side: str) -> float:
    """R² of a side's vectors from what the support keeps of the other side's, as it is used later."""
    other, alignment = OTHER[side], selection.alignment
    kept = alignment.adapted(other, vectors[other]) * getattr(alignment, f"{other}_support")
    error = (selection.predicted(side, kept) - vectors[side]).square().sum()
    return float(1 - error / (vectors[side] - vectors[side].mean((0, 1))).square().sum())


@torch.no_grad()
def find_support(selection: Selection, vectors: Pair[Tensor]) -> None:
    """Set which dimensions are kept from now on: those whose mask is open in the mean over clips and moments.

    A mask that sees its latent also closes where that is near 0, so that a dimension that follows a normal distribution
    is open half of the time at 0.45 of the price at which it would pay on average.

    Args:
        selection: Its alignment's buffers are set.
        vectors: Standardised, of both sides.
    """
    alignment = selection.alignment
    adapted = Pair(*(alignment.adapted(side, vectors[side]) for side in MODALITIES))
    for side in MODALITIES:
        share = selection.probabilities(side, adapted).mean((0, 1))
        getattr(alignment, f"{side}_open").copy_(share)
        getattr(alignment, f"{side}_support").copy_((share > 0.5).to(share.dtype))
