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
    """Tokens and a LoRA for one tower; the alignment itself and the tower's own weights stay as they are.

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
        alignment = _with_tokens(self._loaded.alignment, self.made, sides[self.made].tower.text_width)
        self.Step = partial(_step, alignment, self.config.alignment.condition_noise)
        return super().make_step(sides, timeline)

    def parts(self, step: nn.Module) -> dict[str, Part]:
        """The tokens, and a LoRA beside linear layers of the tower's blocks."""
        tower = getattr(step.joint, self.made)
        layers = partial(linear_layers, tower.blocks, tower.block_names)
        tokens = whole(f"{self.made}_tokens", step.alignment.tokens_for(self.made))
        return tokens | lora_part(f"{self.made}_lora", tower.model, layers, self.config.seed)

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

        A LoRA that belongs to tokens is no LoRA for the tower alone, so it goes nowhere else.
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
        save_alignment(folder / ALIGNMENT_FILE, whole_one, loras=loras, notes=notes_of(self.config) | passed)


def _step(alignment: Alignment, noise: float, joint: nn.Module, *args: object, counted: object = None) -> nn.Module:
    return ConditionedStep(joint, alignment, noise, *args)


def _with_tokens(alignment: Alignment, side: str, text_width: int) -> Alignment:
    """A copy with new tokens for a tower of this width, frozen."""
    made = Alignment(replace(alignment.config, **{f"{side}_text_width": text_width}))
    own = {name: t for name, t in alignment.state_dict().items() if not name.startswith(f"{side}_tokens.")}
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
