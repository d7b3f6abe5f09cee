"""What is to be made, and a model without weights as the planner sees it: parts, stages, and what each stage takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...core.clock import LatentGeometry, Timeline
from ...core.device import OFFLOAD_MODES
from ...core.errors import InputError
from .tracking import Cost, dry_run

CLIP_STAGES = ("encode video", "encode audio")
STAGES = ("encode", "sample", "decode video", "decode audio")
TILED_STAGES = ("encode video", "decode video")


@dataclass(frozen=True)
class Workload:
    """What is to be made.

    Args:
        video_shape: Latent ``(B, C, T, H, W)``, or None for no picture.
        audio_shape: Latent ``(B, C, L)``, or None for no sound.
        guided: Whether guidance asks for a second pass.
        encoded: Of a clip that is given: "video", "audio" or both.
        decoded: What is decoded in the end.
        kept_steps: Computed steps of which the sampler keeps what the bridges gave the sound; 0 without a step cache.
    """

    video_shape: tuple[int, ...] | None
    audio_shape: tuple[int, ...] | None
    guided: bool = True
    encoded: tuple[str, ...] = ()
    decoded: tuple[str, ...] = ("video", "audio")
    kept_steps: int = 0

    @classmethod
    def of(cls, timeline: Timeline, *, video: bool = True, audio: bool = True, guided: bool = True) -> Workload:
        """One clip of a timeline."""
        return cls(
            (1, *timeline.video_latent_shape) if video else None,
            (1, *timeline.audio_latent_shape) if audio else None,
            guided,
        )


class ModelOutline(ABC):
    """Modules without weights, as they would be loaded. Subclasses are frozen dataclasses with these fields.

    Args:
        name: For tables.
        storage: How the weights of ``packed`` parts are kept.
        freed: Names of parts that are read from disk for the captions and let go of before all else.
        is_loaded: Whether the weights are in main memory already, those of ``freed`` excepted.
        geometry: Of the latents.
    """

    name: str
    storage: str
    freed: tuple[str, ...]
    is_loaded: bool
    geometry: LatentGeometry
    offloads: ClassVar[tuple[str, ...]] = OFFLOAD_MODES  # ways in which the model can be run
    packed: ClassVar[tuple[str, ...]] = ()  # parts whose weights ``storage`` is about
    tiles: ClassVar[bool] = False  # whether the picture can be en- and decoded in tiles

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """Every module that is there, by its name in tables."""

    @abstractmethod
    def used_in(self, part: str) -> tuple[str, ...]:
        """The stages that run a part."""

    @abstractmethod
    def stages(self, work: Workload) -> tuple[str, ...]:
        """Those of :data:`CLIP_STAGES` and :data:`STAGES` that a workload has, in the order in which they run."""

    @abstractmethod
    def cost(self, stage: str, work: Workload, *, batched: bool, tiling: str) -> Cost:
        """What a stage keeps alive beside the weights, and its operations (of sampling, those of one step).

        Args:
            stage: One of :meth:`stages`.
            work: The shapes.
            batched: Sampling: both guidance passes as one batch.
            tiling: Encoding or decoding the picture: ``off``, ``on`` (the codec's own tiles) or ``N tiles``.
        """

    def stored(self, storage: str, dtype: torch.dtype) -> ModelOutline:
        """The same model with its weights kept in another way.

        Raises:
            InputError: a model whose weights cannot be kept so.
        """
        if storage in ("native", "auto") or storage == self.storage:
            return self
        got = f"{storage} for {self.name}"
        raise InputError("the weights of this model cannot be kept so", got=got, expected="native")

    def tensors(self) -> Iterator[Tensor]:
        """All weights and buffers."""
        for module in self.parts().values():
            yield from (*module.parameters(), *module.buffers())

    def num_pixels(self, work: Workload) -> int:
        """Pixels of all pictures of the clip together; 0 without a picture, or without its codec."""
        if work.video_shape is None or not set(TILED_STAGES) & set(self.stages(work)):
            return 0
        num_frames, width, height = self.geometry.extent_of(work.video_shape)
        return num_frames * width * height


# Runs a stage on meta: told the workload and whether both guidance passes are one batch; None where there is no such
# stage in that workload.
DryStage = Callable[[Workload, bool], Callable[[], object] | None]


@dataclass(frozen=True, eq=False)
class PlainOutline(ModelOutline):
    """Of a model that is moved as a whole, and says of each stage what it runs.

    Args:
        name: For tables.
        modules: The parts, without weights (:func:`~.outline.without_weights`).
        uses: The stages of each part.
        runs: What each stage runs on ``modules``, in the order of the stages.
        geometry: Of the latents.
        freed: See :class:`ModelOutline`.
        is_loaded: See :class:`ModelOutline`.
    """

    name: str
    modules: Mapping[str, nn.Module]
    uses: Mapping[str, tuple[str, ...]]
    runs: Mapping[str, DryStage]
    geometry: LatentGeometry
    freed: tuple[str, ...] = ()
    is_loaded: bool = False
    storage: str = "native"
    offloads: ClassVar[tuple[str, ...]] = ("none", "model")

    def parts(self) -> dict[str, nn.Module]:
        """Every module."""
        return dict(self.modules)

    def used_in(self, part: str) -> tuple[str, ...]:
        """As the family says."""
        return self.uses[part]

    def stages(self, work: Workload) -> tuple[str, ...]:
        """Those that run something."""
        return tuple(stage for stage, run in self.runs.items() if run(work, False) is not None)

    def cost(self, stage: str, work: Workload, *, batched: bool, tiling: str) -> Cost:
        """Counted by running the stage on ``meta``."""
        return dry_run(self.runs[stage](work, batched), self.tensors())

    def only(self, *stages: str) -> PlainOutline:
        """The outline of some stages and of the parts that they run."""
        names = [name for name, used in self.uses.items() if set(used) & set(stages)]
        return replace(
            self,
            modules={name: self.modules[name] for name in names if name in self.modules},
            runs={stage: run for stage, run in self.runs.items() if stage in stages},
        )


class PlannedModule(nn.Module, ABC):
    """A codec that is not one of the stock ones: it brings the outline by which it is planned along."""

    @abstractmethod
    def outline(self) -> ModelOutline:
        """Its own parts and stages, without weights."""
