"""What the tasks share that teach an autoencoder of one side to give back what it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..exports import holding, write_module
from ..trainable import Part, whole
from .base import Trained, TrainingTask

STATISTICS_CLIPS = 16


class CodecTask(TrainingTask):
    """An autoencoder of one side, on decoded clips; a half of it may learn alone."""

    halves: ClassVar[dict[str, tuple[str, ...]]]  # the modules of each half

    @property
    def side(self) -> str:
        """The only one."""
        return self.sides[0]

    @property
    def codecs_alone(self) -> tuple[str, ...]:
        """Neither the tower nor the text encoder is asked anything."""
        return self.sides

    def parts(self, step: nn.Module) -> dict[str, Part]:
        """The whole autoencoder and its halves."""
        parts = whole(f"{self.side}_codec", step.vae)
        for half, names in self.halves.items():
            parts |= whole(f"{self.side}_{half}", *(getattr(step.vae, name) for name in names))
        return parts

    @property
    def trains_whole(self) -> bool:
        """Whether both halves are named as one."""
        return f"{self.side}_codec" in self.config.trainable

    def export(self, folder: Path, trained: Trained) -> None:
        """The autoencoder's folder; where only halves were trained, with a note which tensors those are."""
        vae = trained.step.vae
        before = {name: value for name, value in vae.config.items() if not name.startswith("_")}
        with holding(trained.parameters, trained.state):
            if self.trains_whole:
                self.settle(vae, trained)
            target = folder / trained.sides[self.side].name / "vae"
            write_module(target, vae, () if self.trains_whole else self._trained_names())
        # The step reads deviations from there: what is measured now must not change the run that goes on.
        vae.register_to_config(**before)

    def settle(self, vae: nn.Module, trained: Trained) -> None:
        """Bring the latents of a whole autoencoder to the scale that towers expect, while it holds what was trained.

        Args:
            vae: Its parameters and its configuration are put back afterwards.
            trained: Where clips come from.
        """

    def clips(self, trained: Trained) -> Iterator[Tensor]:
        """What the latents' statistics are taken of, ``(1, …)`` each."""
        return (trained.batch_at(position)[self.side] for position in range(STATISTICS_CLIPS))

    def _trained_names(self) -> list[str]:
        halves = [half for half in self.halves if f"{self.side}_{half}" in self.config.trainable]
        return [f"{name}." for half in halves for name in self.halves[half]]


def learns(module: nn.Module) -> bool:
    """Whether a gradient is asked for something of the module."""
    return torch.is_grad_enabled() and is_trained(module)


def is_trained(module: nn.Module) -> bool:
    """Whether anything of the module is in the trainable set."""
    return any(parameter.requires_grad for parameter in module.parameters())
