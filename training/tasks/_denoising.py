"""What all tasks share that teach towers, and whatever stands between them, to take noise from latents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...core.clock import Timeline
from ...core.errors import InputError
from ...core.pair import MODALITIES, Pair
from ...models.compiled import regions
from ...models.joint import BridgeStack, JointModel
from ...sampling.processes import PROCESSES
from ...sampling.schedules.lockstep import lockstep_times
from ..exports import holding, notes_of, write_module
from ..lora import LORA, laid_aside, linear_layers, lora_part, write_lora
from ..randomness import draw_time
from ..samples import LatentSamples
from ..step import JointStep
from ..texts import TEXT, TaughtText, text_part, write_text
from ..trainable import SOME_BLOCKS, Part, split, tower_parts
from .base import Sides, Trained, TrainingTask


class DenoisingTask(TrainingTask):
    """Towers that learn to take noise from the latents of clips, told by their captions.

    A task of this kind may have bridges between the towers; times of its own, also a fixed one for a side that is
    given, and whatever else its step is told of a clip (:meth:`moment`); chances of its own that a text is dropped,
    also by which side is given (:meth:`dropouts`); sides whose losses do not count (``counted``); its own ``Step``.
    """

    Step: ClassVar[type[JointStep]] = JointStep
    counted: ClassVar[tuple[str, ...]] = MODALITIES  # sides whose losses are minimised

    def make_step(self, sides: Sides, timeline: Timeline) -> JointStep:
        """Both towers, or the one that is there, under ``Step``."""
        config = self.config
        joint = JointModel(
            sides.video and sides.video.tower,
            sides.audio and sides.audio.tower,
            self.make_bridges(sides, timeline),
        )
        for tower in filter(None, (joint.video, joint.audio)):
            if config.models.gradient_checkpointing:
                tower.model.enable_gradient_checkpointing()
        if config.models.compile:
            for region in regions(joint):
                region.compile()
        step = self.Step(joint, config.objective, config.precision, timeline.times, counted=self.counted)
        step.texts.update({side: TaughtText(sides[side].text) for side in self.taught_texts(sides)})
        return step

    def make_bridges(self, sides: Sides, timeline: Timeline) -> BridgeStack | None:
        """What stands between the towers: nothing."""
        return None

    def taught_texts(self, sides: Sides) -> list[str]:
        """Sides whose caption encoders learn."""
        named = [side for side in self.sides if f"{side}{TEXT}" in self.config.trainable]
        return [side for side in named if sides[side] is not None and sides[side].text is not None]

    def parts(self, step: nn.Module) -> dict[str, Part]:
        """The towers', LoRAs beside the linear layers of their blocks, and their caption encoders."""
        parts: dict[str, Part] = {}
        for side, tower in Pair.of(step.joint).present.items():
            layers = partial(linear_layers, tower.blocks, tower.block_names)
            parts |= tower_parts(side, tower) | lora_part(f"{side}_lora", tower.model, layers, self.config.seed)
            parts |= text_part(side, step)
        return parts

    def make_samples(self, sides: Sides, timeline: Timeline, cache: Path) -> LatentSamples:
        """Latents and captions, at :meth:`moment` and with :meth:`dropouts`.

        Raises:
            InputError: texts are to be dropped together, but by two chances.
        """
        chances = self.dropouts(self.moment(0))
        if self.config.objective.drop_together and len(sides.present) == 2 and chances.video != chances.audio:
            raise InputError(
                "texts that are dropped together need one chance",
                got=f"{chances.video:g} for the picture's and {chances.audio:g} for the sound's",
                expected="equal dropouts, or objective.drop_together=false",
            )
        drawn = {"moment": self.moment, "dropouts": self.dropouts}
        return LatentSamples(self.config, sides, timeline, cache, **drawn, taught_texts=self.taught_texts(sides))

    def moment(self, position: int) -> dict[str, Tensor]:
        """Of one place in the run ``t``, and ``audio_t`` where the audio has its own; what else the step shall read."""
        objective = self.config.objective
        drawn = torch.tensor(self.draw_time(position))
        if objective.times == "shared":
            return {"t": drawn}
        if objective.times == "flow":
            return self._flow_moment(drawn)
        return dict(zip(("t", "audio_t"), lockstep_times(drawn, objective.flow_shift), strict=True))

    def _flow_moment(self, level: Tensor) -> dict[str, Tensor]:
        """Both sides at one flow level; the error of the sound's flow is ``√(1 + sin πt)`` times that of its v."""
        time = PROCESSES.get("cosine_v").from_flow(float(level))
        audio_t = torch.tensor(max(time, self.config.objective.least_audio_time))
        return {"t": level, "audio_t": audio_t, "audio_weight": 1 + torch.sin(math.pi * audio_t)}

    def draw_time(self, position: int) -> float:
        """The number in 0..1 that the times of one place in the run follow from."""
        objective = self.config.objective
        normal = {"mean": objective.logit_mean, "std": objective.logit_std}
        return draw_time(objective.draw, self.config.seed, position, **normal)

    def dropouts(self, moment: Mapping[str, Tensor]) -> Pair[float]:
        """The chance that a clip's text is that of "", by side.

        Args:
            moment: What :meth:`moment` gave for the clip.
        """
        return Pair(self.config.objective.video_text_dropout, self.config.objective.audio_text_dropout)

    def tuned_towers(self) -> list[str]:
        """Sides whose towers are written as model folders: those of which blocks or more were trained."""
        names = {split(part)[0] for part in self.config.trainable}
        return [side for side in self.sides if names & {f"{side}_{part}" for part in ("tower", *SOME_BLOCKS)}]

    def export(self, folder: Path, trained: Trained) -> None:
        """Towers and caption encoders as the folders of their models, and LoRAs as adapters."""
        with laid_aside(trained.step):
            self.export_weights(folder, trained)
        for side, text in trained.step.texts.items():
            own = {key: value for key, value in trained.parameters.items() if key.startswith(f"texts.{side}.")}
            with holding(own, trained.state):
                write_text(folder / trained.sides[side].name, text.encoder)
        roots = {"bridges": trained.step.joint.bridges}
        roots |= {side: tower.model for side, tower in Pair.of(trained.step.joint).present.items()}
        for name, root in roots.items():
            if root is not None:
                prefix = f"joint.{name}" + (".model" if name in self.sides else "")
                write_lora(folder / f"{name}{LORA}", root, prefix, trained.state, notes_of(self.config))

    def export_weights(self, folder: Path, trained: Trained) -> None:
        """Whatever was trained itself, while the LoRAs beside it are laid aside."""
        for side in self.tuned_towers():
            tower, name = getattr(trained.step.joint, side), trained.sides[side].name
            own = {key: value for key, value in trained.parameters.items() if key.startswith(f"joint.{side}.")}
            with holding(own, trained.state):
                write_module(folder / name / "transformer", tower.model)
