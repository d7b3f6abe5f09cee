"""How long a run takes, of the right order: its operations, and how many of them this device does in a second."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from functools import lru_cache

import torch

from ...core.device import Placement
from ..storage import shapes
from ..towers.base import Tower
from .plans import StagePeak

# A run that takes longer is told before it begins.
LONG_SECONDS = 600
# Of what a large product reaches: norms, softmax, copies and small layers take the rest of the time.
_REACHED = {"cpu": 0.4, "cuda": 0.4}
_SIDE = {"cpu": 512, "cuda": 4096}
_MEASURED_SECONDS, _LEAST_PRODUCTS = 0.05, 3
_QUICK_OPERATIONS = 1e12


def seconds_of(stages: Iterable[StagePeak], placement: Placement, num_steps: int) -> float:
    """Seconds of all stages.

    Args:
        stages: Of a plan.
        placement: Where; the device is measured once.
        num_steps: Of sampling.
    """
    return _seconds(sum(peak.operations * (num_steps if peak.stage == "sample" else 1) for peak in stages), placement)


def sampling_seconds(tower: Tower, shape: tuple[int, ...], placement: Placement, *, passes: int) -> float:
    """Seconds of a video tower, from its size alone: two operations a weight and token, and its attention.

    Args:
        tower: Of the picture, which takes nearly all of the time.
        shape: Latent ``(B, C, T, H, W)``.
        placement: Where; the device is measured only for what is not quick anywhere.
        passes: Forwards of the whole run.
    """
    rows, _, *extent = shape
    patches = zip(extent, tower.model.config.patch_size, strict=True)
    tokens = math.prod(max(1, size // patch) for size, patch in patches)
    weights = sum(math.prod(size) for size in shapes(tower).values())
    operations = passes * rows * tokens * (2 * weights + 4 * tokens * tower.width * tower.num_blocks)
    return quick_or_seconds(operations, placement)


def quick_or_seconds(operations: int, placement: Placement) -> float:
    """Seconds of so many operations; 0 for what is quick anywhere, so that no device is measured for it."""
    return 0.0 if operations < _QUICK_OPERATIONS else _seconds(operations, placement)


def _seconds(operations: int, placement: Placement) -> float:
    reached = _REACHED.get(placement.device.type, 0.3)
    return operations / (operations_a_second(placement.device, placement.dtype) * reached)


@lru_cache(maxsize=8)
def operations_a_second(device: torch.device, dtype: torch.dtype) -> float:
    """Of a matrix product on a device: the best of a twentieth of a second, since others may be at work here too."""
    side = _SIDE.get(device.type, 1024)
    left = torch.ones(side, side, device=device, dtype=dtype)
    (left @ left).sum().item()  # the first one also starts the libraries
    start, taken = time.perf_counter(), []
    while len(taken) < _LEAST_PRODUCTS or time.perf_counter() - start < _MEASURED_SECONDS:
        before = time.perf_counter()
        (left @ left)[0, 0].item()  # waits for the device
        taken.append(time.perf_counter() - before)
    return 2 * side**3 / min(taken)


def worded(seconds: float) -> str:
    """``about 40 s``, ``about 12 min``, ``about 5 h``, ``about 3 days``: no more exact than it is."""
    for limit, size, unit in ((90, 1, "s"), (90 * 60, 60, "min"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"about {max(1, round(seconds / size))} {unit}"
    return f"about {round(seconds / 86_400)} days"
