"""What AV-Link's tasks share: one side is given at a small noise, the other is made, and only its loss counts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...core.clock import Timeline
from ...core.errors import InputError
from ...core.pair import MODALITIES, OTHER, Pair
from ...models.bridges import why_deaf
from ...models.joint import BridgeStack
from ...sampling.processes import PROCESSES
from ..randomness import derived_generator
from ..trainable import Part
from .base import Sides
from .joint import Joint


class GivenTask(Joint):
    """Bridges between frozen towers, of which one is shown what is given (AV-Link, eq. 5).

    The made side's time is drawn by ``objective.draw`` as a flow time, the sound's at the same ratio of signal to
    noise; ``objective.times`` and the dropouts by modality say nothing here.
    """

    def make_bridges(self, sides: Sides, timeline: Timeline) -> BridgeStack:
        """Such as lead to what is made.

        Raises:
            InputError: one-way bridges of the other direction, which would learn nothing.
        """
        stack = super().make_bridges(sides, timeline)
        for made in self.counted:
            if not stack.hears(made):
                _, expected = why_deaf(made, bridged=True)
                thing, given = ("picture", "sound") if made == "video" else ("sound", "picture")
                what = f"nothing leads from the given {given} to the {thing}, so nothing would learn"
                raise InputError(what, got=f"{stack.kind} bridges", expected=expected)
        return stack

    @abstractmethod
    def given_at(self, position: int) -> str:
        """Which side is given at a place in the run: ``video`` or ``audio``."""

    def given_in(self, moment: Mapping[str, Tensor]) -> str:
        """Which side was given where :meth:`moment` gave this."""
        return OTHER[self.counted[0]]

    def moment(self, position: int) -> dict[str, Tensor]:
        """The picture's flow time ``t`` and the sound's own ``audio_t``."""
        objective, given = self.config.objective, self.given_at(position)
        flow = {OTHER[given]: self.draw_time(position)}
        if objective.given_draw == "uniform":
            generator = derived_generator(self.config.seed, "given time", position)
            flow[given] = float(torch.rand(1, generator=generator))
        video_t, audio_t = objective.given_video_time, objective.given_audio_time
        if "video" in flow:
            video_t = flow["video"]
        if "audio" in flow:
            audio_t = max(PROCESSES.get("cosine_v").from_flow(flow["audio"]), objective.least_audio_time)
        return {"t": torch.tensor(video_t), "audio_t": torch.tensor(audio_t)}

    def dropouts(self, moment: Mapping[str, Tensor]) -> Pair[float]:
        """By role: the text of what is made goes more often than that of what is given."""
        objective, given = self.config.objective, self.given_in(moment)
        chances = {given: objective.given_text_dropout, OTHER[given]: objective.generated_text_dropout}
        return Pair(**chances)

    def parts(self, step: nn.Module) -> dict[str, Part]:
        """Bridges and the LoRA beside them, and the parts of what is made; the end of a given tower cannot learn."""
        given = tuple(f"{side}_" for side in MODALITIES if side not in self.counted)
        return {name: part for name, part in super().parts(step).items() if not name.startswith(given)}

    def notes(self) -> dict[str, str]:
        """The times of what is given, beside the task."""
        objective = self.config.objective
        times = {"video": objective.given_video_time, "audio": objective.given_audio_time}
        sides = [side for side in MODALITIES if self.counted != (side,)]
        given = {f"given_{side}_time": f"{times[side]:g}" for side in sides}
        least = {"least_audio_time": f"{objective.least_audio_time:g}"} if objective.least_audio_time else {}
        return super().notes() | given | {"given_draw": objective.given_draw} | least
