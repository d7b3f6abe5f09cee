"""Task ``joint``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from torch import nn

from ...core.clock import Timeline
from ...core.errors import InputError
from ...models.joint import BridgeStack
from ..bridges import make_bridges
from ..exports import BRIDGE_FILE, write_bridges
from ..lora import LORA, linear_layers, lora_part
from ..trainable import Part, tuned_tower_blocks, unused_in_bridge, whole
from . import TRAINING_TASKS
from ._denoising import DenoisingTask
from .base import Sides, Trained

BRIDGES = "bridges"


@TRAINING_TASKS.register("joint")
class Joint(DenoisingTask):
    """Bridges between both towers, and the towers themselves, on clips with picture and sound."""

    made_for: ClassVar[str] = "joint"  # what its bridges are for, as their file says: joint, v2a, a2v or both

    def make_bridges(self, sides: Sides, timeline: Timeline) -> BridgeStack:
        """New ones, or those of a file."""
        return make_bridges(self.config, sides, timeline)

    def parts(self, step: nn.Module) -> dict[str, Part]:
        """Bridges and a LoRA beside them, and the towers' parts."""
        stack = step.joint.bridges
        lora = lora_part(f"{BRIDGES}{LORA}", stack, lambda: self._bridge_layers(stack), self.config.seed)
        return whole(BRIDGES, stack) | lora | super().parts(step)

    def _bridge_layers(self, stack: BridgeStack) -> list[str]:
        """Linear layers of bridges that a LoRA can stand beside, and that their kind uses."""
        if not self.config.bridges.start:
            raise InputError(
                "a LoRA needs bridges to stand beside, and new ones have learned nothing",
                got="bridges.start=",
                expected="bridges.start=FILE",
                remedy="Or train the bridges themselves: trainable=bridges.",
            )
        idle = {id(parameter) for parameter in self._idle(stack)}
        names = [name for number, block in enumerate(stack) for name in linear_layers(block, str(number))]
        return [name for name in names if id(stack.get_parameter(f"{name}.weight")) not in idle]

    def idle(self, step: nn.Module) -> Iterator[nn.Parameter]:
        """What one-way bridges have for the file's sake only, and of the last one what only a given side would hear."""
        return self._idle(step.joint.bridges)

    def _idle(self, stack: BridgeStack) -> Iterator[nn.Parameter]:
        given = [side for side in self.sides if side not in self.counted]
        always, at_last = unused_in_bridge(stack, given=given), unused_in_bridge(stack, self.counted, given)
        for number, block in enumerate(stack, start=1):
            own = dict(block.named_parameters())
            # A layer with a LoRA has its weight under another name; none of those is idle.
            yield from (own[name] for name in (at_last if number == len(stack) else always) if name in own)

    def tuned_towers(self) -> list[str]:
        """Towers that were trained as a whole; single blocks go into the bridge file."""
        return [side for side in self.sides if f"{side}_tower" in self.config.trainable]

    def export_weights(self, folder: Path, trained: Trained) -> None:
        """A bridge file where bridges or single blocks were trained, and whole towers as model folders."""
        joint = trained.step.joint
        if BRIDGES in self.config.trainable or tuned_tower_blocks(self.config.trainable, joint):
            write_bridges(folder / BRIDGE_FILE, self.config, joint, trained.state, notes=self.notes())
        super().export_weights(folder, trained)

    def notes(self) -> dict[str, str]:
        """What a bridge file says of its use beside how it was made."""
        objective, notes = self.config.objective, {"task": self.made_for}
        if objective.times == "flow" and self.made_for == "joint":
            notes |= {"times": "flow", "least_audio_time": f"{objective.least_audio_time:g}"}
        return notes
