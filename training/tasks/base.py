"""The role of a training task: all that differs between training bridges, towers and codecs, in one file a task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...core.clock import Timeline
from ...core.device import Placement
from ...core.pair import MODALITIES, Pair
from ...models.parts import AudioParts, VideoParts
from ...models.weights.find import find_models
from ...models.weights.load import load_stable_audio, load_wan
from ..config import TrainConfig
from ..samples import Samples
from ..trainable import Part

Sides = Pair[VideoParts | AudioParts]
LOADING = Placement(device=torch.device("cpu"), dtype=torch.float32)


@dataclass(frozen=True)
class Trained:
    """What a run has learned when something is to be written.

    Args:
        step: The trained module; it is left as it is.
        sides: The models that the run works with.
        parameters: What learns, by name.
        state: The values to write, by the same names (averaged or not).
        batch_at: Tensors of one clip, by its place in the run, on the run's device.
    """

    step: nn.Module
    sides: Sides
    parameters: Mapping[str, nn.Parameter]
    state: Mapping[str, Tensor]
    batch_at: Callable[[int], Mapping[str, Tensor]]


class TrainingTask(ABC):
    """What is trained on what; one object a run.

    Args:
        config: The run.
    """

    sides: ClassVar[tuple[str, ...]] = MODALITIES  # what of the models and of the clips it needs
    codecs_alone: tuple[str, ...] = ()  # sides of which nothing but the codec is loaded
    alternates = False  # whether some of what is trained has no gradient at some steps (see turn)

    def __init__(self, config: TrainConfig) -> None:
        self.config = config

    def begin(self, base: Path) -> Callable[[Path], None] | None:
        """What writes a new model into a folder, where ``base`` holds none of this task's kind; None where it does."""
        return None

    def load(self, models: Path) -> Sides:
        """The models of a folder, in float32: two towers, or what ``sides`` and ``codecs_alone`` leave of them.

        Raises:
            MissingModelError, WeightsError: see the messages.
        """
        found, length = find_models(models), self.config.models.text_length
        readers = {
            "video": partial(load_wan, found.video, LOADING, text_length=length),
            "audio": partial(load_stable_audio, found.audio, LOADING),
        }
        return Pair(**{side: readers[side](codec_only=side in self.codecs_alone) for side in self.sides})

    def turn(self, step: nn.Module, learning: Mapping[str, nn.Parameter], number: int) -> None:  # noqa: B027
        """Before an optimizer step: whose turn it is, where some learn at some steps only. By default all always do.

        Args:
            step: From :meth:`make_step`.
            learning: What learns in the run, by name; who has not the turn must not require a gradient.
            number: Finished steps. Nothing else may decide, so that a run resumes exactly.
        """

    @abstractmethod
    def make_step(self, sides: Sides, timeline: Timeline) -> nn.Module:
        """The module that is trained: a batch of tensors in, its losses out, of which ``total`` is minimised.

        Args:
            sides: What was loaded for ``sides``, in float32.
            timeline: Extent of what is trained on.
        """

    @abstractmethod
    def parts(self, step: nn.Module) -> dict[str, Part]:
        """What a run can name as trainable, by the part's name."""

    def idle(self, step: nn.Module) -> Iterable[nn.Parameter]:
        """Parameters of its parts that never get a gradient; they are left out of what is trained."""
        return ()

    @abstractmethod
    def make_samples(self, sides: Sides, timeline: Timeline, cache: Path) -> Samples:
        """What gives the step its batches.

        Args:
            sides: As in :meth:`make_step`.
            timeline: Extent of what is trained on.
            cache: Folder for what is computed once.
        """

    @abstractmethod
    def export(self, folder: Path, trained: Trained) -> None:
        """Write what was trained as others load it: parts under the paths they have in a model folder."""
