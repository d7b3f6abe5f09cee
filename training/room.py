"""Whether a training step fits the card, told before hours are spent on preparing clips."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)

from ..core.residency import current_residency
from ..models.plan.training import require_room, training_needs
from .assembly import Workbench
from .config import TrainConfig
from .samples import Samples

# A step that looks at its own numbers cannot be run without them.
_LOOKS_AT_NUMBERS = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedOperatorException)


def foretell(
    bench: Workbench, samples: Samples, config: TrainConfig, device: torch.device, num_processes: int = 1
) -> str:
    """A sentence on what a step takes.

    Args:
        bench: The step, and what learns.
        samples: Say the shapes of a row.
        config: The run.
        device: Where it trains.
        num_processes: Each with a step of its own; they exchange gradients.

    Raises:
        PlacementError: it does not fit what is free.
    """
    row = samples.empty_row()
    if not row:
        return "what a step takes is not foretold for this task"
    try:
        needs = training_needs(
            bench.step,
            row,
            batch_size=config.batch_size,
            device=device,
            averaged=bool(config.optimizer.ema_decay),
            copies=min(2, num_processes),
        )
    except _LOOKS_AT_NUMBERS:
        return "what a step takes cannot be foretold: it looks at its own numbers"
    return require_room(needs, current_residency().free_bytes(device), device)
