"""Random numbers by name: every draw follows from the run's seed and what it is for, never from what came before.

So a continued run draws what an uninterrupted one would have drawn, and n processes together draw what one process
with an n-fold batch draws. One thing is not so: ``objective.pairing=ot`` orders the noise within each process's own
micro-batch. A continued run orders it as an uninterrupted one.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import torch

SOBOL_BLOCK = 1024


def derived_seed(*names: int | str) -> int:
    """A seed of 63 bits that belongs to these names alone."""
    digest = hashlib.blake2b(repr(names).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def derived_generator(*names: int | str) -> torch.Generator:
    """A CPU generator that belongs to these names alone."""
    return torch.Generator("cpu").manual_seed(derived_seed(*names))


@lru_cache(maxsize=8)
def shuffled(num_items: int, seed: int, epoch: int) -> tuple[int, ...]:
    """The order of the clips in one epoch."""
    order = torch.randperm(num_items, generator=derived_generator(seed, "order", epoch))
    return tuple(order.tolist())


def clip_at(position: int, num_items: int, seed: int) -> int:
    """Which clip stands at a place of the endless shuffled sequence."""
    epoch, place = divmod(position, num_items)
    return shuffled(num_items, seed, epoch)[place]


def draw_time(reading: str, seed: int, position: int, *, mean: float = 1.0, std: float = 1.0) -> float:
    """The time t in 0..1 of one clip.

    Args:
        reading: ``uniform``; ``sobol-bf16`` as in the released code: a scrambled Sobol sequence in bfloat16;
            ``logit-normal``: sigmoid(n) for n ~ N(mean, std) (AV-Link).
        seed: Of the run.
        position: The clip's place in the run, over all steps and processes.
        mean: Of ``logit-normal``.
        std: Of ``logit-normal``.
    """
    generator = derived_generator(seed, "time", position)
    if reading == "uniform":
        return float(torch.rand(1, generator=generator))
    if reading == "logit-normal":
        return float(torch.sigmoid(mean + std * torch.randn(1, generator=generator, dtype=torch.float64)))
    block, place = divmod(position, SOBOL_BLOCK)
    return float(_sobol(seed, block)[place].to(torch.bfloat16))


@lru_cache(maxsize=8)
def _sobol(seed: int, block: int) -> torch.Tensor:
    """Some points of a scrambled Sobol sequence at once: an engine takes far longer to make than a point."""
    engine = torch.quasirandom.SobolEngine(1, scramble=True, seed=seed)
    return engine.fast_forward(block * SOBOL_BLOCK).draw(SOBOL_BLOCK)[:, 0]
