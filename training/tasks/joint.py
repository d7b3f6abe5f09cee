"""Task ``joint``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch import nn

from ...core.clock import Timeline
from ...models.joint import BridgeStack
from ..bridges import make_bridges
from ..exports import BRIDGE_FILE, write_bridges
from ..trainable import Part, unused_in_bridge, whole
from . import TRAINING_TASKS
from ._denoising import DenoisingTask
from .base import Sides, Trained


@TRAINING_TASKS.register("joint")
class Joint(DenoisingTask):
    """Bridges between both towers, and the towers themselves, on clips with picture and sound."""

    def make_bridges(self, sides: Sides, timeline: Timeline) -> BridgeStack:
        """New ones, or those of a file."""
        return make_bridges(self.config, sides, timeline)

    def parts(self, step: nn.Module) -> dict[str, Part]:
        """Bridges, and the towers' parts."""
        return whole("bridges", step.joint.bridges) | super().parts(step)

    def idle(self, step: nn.Module) -> Iterator[nn.Parameter]:
        """What one-way bridges have for the file's sake only."""
        stack = step.joint.bridges
        for name in unused_in_bridge(stack):
            yield from (block.get_parameter(name) for block in stack)

    def tuned_towers(self) -> list[str]:
        """Towers that were trained as a whole; single blocks go into the bridge file."""
        return [side for side in self.sides if f"{side}_tower" in self.config.trainable]

    def export(self, folder: Path, trained: Trained) -> None:
        """A bridge file, and whole towers as model folders."""
        write_bridges(folder / BRIDGE_FILE, self.config, trained.step.joint, trained.state)
        super().export(folder, trained)
