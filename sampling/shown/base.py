"""What a way to show given latents decides: what the model sees of them, and which time it is told."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...core.protocols import Process


@dataclass(frozen=True)
class Known:
    """A modality of which all is given.

    Args:
        clean: ``(B, …)``.
        noise: Its one noise.
        process: How it is noised.
        level: The constant time that was asked for, in the process's own time; None for the way's own.
    """

    clean: Tensor
    noise: Tensor
    process: Process
    level: float | None


class Shown(ABC):
    """One way; a value without state."""

    takes_masks: ClassVar[bool] = True  # whether half a modality can be given so, the rest of it being made

    @abstractmethod
    def view(self, known: Known, sigma: Tensor, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """What the model sees at a step, and its timestep.

        Args:
            known: What is given.
            sigma: The solver's level at this step.
            timestep: ``(1,)``, the schedule's at this step.
        """
