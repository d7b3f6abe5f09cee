"""What SAVA's second stage has for both towers: one of them learns to read what the other side's latents say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...core.clock import Timeline
from ...core.errors import IncompatibleWeightsError, InputError
from ...core.pair import MODALITIES, OTHER, Pair
from ...models.alignment.readers import READERS, WIDTHS
from ...models.alignment.selective import Alignment
from ...models.weights.alignment import LoadedAlignment, LoraNote, factors_of, load_alignment, save_alignment
from ..conditioned_step import ConditionedStep
from ..exports import ALIGNMENT_FILE, notes_of
from ..lora import linear_layers, lora_part, loras_of
from ..randomness import derived_generator
from ..trainable import Part, whole
from ._denoising import DenoisingTask
from .base import Sides, Trained

# What a stage I run says of its alignment, which later stages pass on.
PASSED_ON = ("mask", "mask_input", "explained_sound", "explained_picture", "leak_sound", "leak_picture")


class ConditionedTask(DenoisingTask):
    """What one tower reads, and a LoRA for it; the alignment itself and the tower's own weights stay as they are.

    Both latents are read, but only the made side's tower and text encoder are loaded.
    """

    made: ClassVar[str]
    sides = MODALITIES

    @property
    def codecs_alone(self) -> tuple[str, ...]:
        """Of the given side."""
        return (OTHER[self.made],)

    def make_step(self, sides: Sides, timeline: Timeline) -> ConditionedStep:
        """The tower and the alignment of the run's file.

        Raises:
            InputError: no file.
            WeightsError: a file that cannot be used, or that was made for other codecs.
        """
        if not self.config.alignment.start:
            raise InputError(
                "a tower needs an alignment to read",
                got="alignment.start=",
                expected="alignment.start=FILE, the alignment.safetensors of a run of sava_align",
            )
        self._loaded = load_alignment(self.config.alignment.start)
        _require_fit(self._loaded, timeline)
        section, tower = self.config.alignment, sides[self.made].tower
        width = {"tokens": tower.text_width, "frames": tower.width}[section.inject]
        alignment = _told_by(self._loaded.alignment, self.made, section.inject, width)
        self.Step = partial(_step, alignment, section.condition_noise)
        return super().make_step(sides, timeline)

    def parts(self, step: nn.Module) -> dict[str, Part]:
        """What makes tokens, or what is added to the stream; and a LoRA beside linear layers of the tower's blocks."""
        tower = getattr(step.joint, self.made)
        layers = partial(linear_layers, tower.blocks, tower.block_names)
        reader = whole(f"{self.made}_{step.alignment.way(self.made)}", step.alignment.reader_for(self.made))
        return reader | lora_part(f"{self.made}_lora", tower.model, layers, self.config.seed)

    def moment(self, position: int) -> dict[str, Tensor]:
        """The tower's time, and whether tokens and text, or the text alone, are dropped: one draw decides."""
        section = self.config.alignment
        drawn = float(torch.rand(1, generator=derived_generator(self.config.seed, "condition", position)))
        both = drawn < section.condition_dropout
        return super().moment(position) | {
            "condition_dropped": torch.tensor(float(both)),
            "text_dropped": torch.tensor(float(drawn < section.condition_dropout + section.text_dropout)),
        }

    def dropouts(self, moment: Mapping[str, Tensor]) -> Pair[float]:
        """As the moment says."""
        return Pair.both(float(moment["text_dropped"]))

    def export(self, folder: Path, trained: Trained) -> None:
        """The alignment file with what this tower learned; what it held for the other tower is passed on.

        A LoRA that belongs to what a tower reads is no LoRA for the tower alone, so it goes nowhere else.
        """
        alignment, state = trained.step.alignment, trained.state
        own = {name: state.get(f"alignment.{name}", tensor) for name, tensor in alignment.state_dict().items()}
        whole_one = Alignment(alignment.config)
        whole_one.load_state_dict(own)
        loras = {side: pair for side, pair in factors_of(self._loaded).items() if side != self.made}
        prefix = f"joint.{self.made}.model"
        layers = loras_of(getattr(trained.step.joint, self.made).model)
        if layers:
            setting = next(iter(layers.values())).setting
            factors = {
                name: tuple(state[f"{prefix}.{name}.{factor}"] for factor in ("down_0", "up_0")) for name in layers
            }
            loras[self.made] = (LoraNote(setting.rank, setting.alpha), factors)
        passed = {name: self._loaded.notes[name] for name in PASSED_ON if name in self._loaded.notes}
        passed |= {f"inject_{side}": whole_one.way(side) for side in MODALITIES if whole_one.reads(side)}
        save_alignment(folder / ALIGNMENT_FILE, whole_one, loras=loras, notes=notes_of(self.config) | passed)


def _step(alignment: Alignment, noise: float, joint: nn.Module, *args: object, counted: object = None) -> nn.Module:
    return ConditionedStep(joint, alignment, noise, *args)


def _told_by(alignment: Alignment, side: str, way: str, width: int) -> Alignment:
    """A copy that tells a side's tower anew, in one way, frozen."""
    widths = {f"{side}_{name}": width if each == way else 0 for each, name in WIDTHS.items()}
    made = Alignment(replace(alignment.config, **widths))
    old = tuple(f"{side}_{each}." for each in READERS)
    own = {name: tensor for name, tensor in alignment.state_dict().items() if not name.startswith(old)}
    made.load_state_dict(made.state_dict() | own)
    return made.requires_grad_(False)


def _require_fit(loaded: LoadedAlignment, timeline: Timeline) -> None:
    config, geometry = loaded.alignment.config, timeline.geometry
    for name in ("video_channels", "audio_channels", "temporal_stride"):
        if getattr(config, name) != getattr(geometry, name):
            raise IncompatibleWeightsError(
                "the alignment was made for other codecs",
                got=f"{name} {getattr(config, name)} in {loaded.source}",
                expected=f"{getattr(geometry, name)}",
            )
