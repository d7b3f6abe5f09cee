"""Task ``alignment``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ...core.clock import Timeline
from ...core.errors import InputError
from ...core.pair import MODALITIES, Pair
from ...core.progress import Progress
from ...models.alignment.selective import Alignment, AlignmentConfig, Selection
from ...models.weights.alignment import save_alignment
from ..align_step import AlignStep, explained, find_support, probed_leak
from ..data import Source
from ..exports import ALIGNMENT_FILE, holding, notes_of
from ..randomness import derived_seed
from ..samples import LatentSamples, Place, Share
from ..trainable import Part, whole
from . import TRAINING_TASKS
from .base import Sides, Trained, TrainingTask

# Clips over which the support is found and the leak is probed, and of which vectors are kept in memory.
SUPPORT_CLIPS, MOST_KEPT = 256, 4096
# The share of the run after which λ counts in full.
RAMP = 0.1


@TRAINING_TASKS.register("alignment")
class AlignmentTask(TrainingTask):
    """What picture and sound share, from latents alone: adapters, masks and decoders (SAVA stage I); no tower."""

    codecs_alone = MODALITIES

    def make_step(self, sides: Sides, timeline: Timeline) -> AlignStep:
        """A new alignment, which follows from the run's seed.

        Raises:
            InputError: one to go on from, which has lost its masks and decoders.
        """
        section = self.config.alignment
        if section.start:
            raise InputError(
                "an alignment begins anew: its file holds no masks and no decoders",
                got=f"alignment.start={section.start}",
                expected="alignment.start= for this task",
                remedy="Towers learn to read a file: recipes sava_audio and sava_video.",
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(self.config.seed, "alignment"))
            alignment = Alignment(self._sizes(timeline))
            selection = Selection(alignment, mask=section.mask, mask_input=section.mask_input)
        return AlignStep(selection, sparsity=section.sparsity, pull=section.pull)

    def _sizes(self, timeline: Timeline) -> AlignmentConfig:
        section, geometry = self.config.alignment, timeline.geometry
        return AlignmentConfig(
            width=section.width,
            hidden=section.hidden,
            grid=section.grid,
            positions=section.positions,
            segment=section.segment,
            video_channels=geometry.video_channels,
            audio_channels=geometry.audio_channels,
            temporal_stride=geometry.temporal_stride,
            sound_rate=float(geometry.sample_rate / geometry.audio_hop / timeline.fps),
        )

    def parts(self, step: nn.Module) -> dict[str, Part]:
        """All of it."""
        self._selection = step.selection
        return whole("alignment", step.selection)

    def make_samples(self, sides: Sides, timeline: Timeline, cache: Path) -> AlignSamples:
        """Vectors of latents."""
        return AlignSamples(self, sides, timeline, cache)

    @property
    def alignment(self) -> Alignment:
        """The run's, once its step is made."""
        return self._selection.alignment

    def export(self, folder: Path, trained: Trained) -> None:
        """The alignment file, with the support over the training clips and how much its masks leak."""
        selection = trained.step.selection
        with holding(trained.parameters, trained.state), torch.no_grad():
            rows = [trained.batch_at(position) for position in range(min(SUPPORT_CLIPS, self.samples.num_windows))]
            raw = Pair(*(torch.cat([row[side] for row in rows]) for side in MODALITIES))
            training = selection.training
            try:
                notes = self._settled(selection.eval(), raw)
            finally:
                selection.train(training)
            save_alignment(folder / ALIGNMENT_FILE, selection.alignment, notes=notes_of(self.config) | notes)

    def _settled(self, selection: Selection, raw: Pair[Tensor]) -> dict[str, str]:
        """Find the support; what is said of the alignment: R² over training clips, and the leak."""
        dtype = selection.alignment.video_mean.dtype
        vectors = Pair(*(selection.alignment.standardised(side, raw[side].to(dtype)) for side in MODALITIES))
        find_support(selection, vectors)
        notes = {"mask": self.config.alignment.mask, "mask_input": self.config.alignment.mask_input}
        for side, thing in (("audio", "sound"), ("video", "picture")):
            notes[f"explained_{thing}"] = f"{explained(selection, vectors, side):.4f}"
            notes[f"leak_{thing}"] = f"{probed_leak(selection, vectors, side):.4f}"
        return notes


class AlignSamples(LatentSamples):
    """Vectors of each moment before they are standardised, ``video (N, F)`` and ``audio (N, F)``, and λ's ``ramp``.

    Args:
        task: Whose alignment folds latents, and is told mean and deviation of the vectors.
        sides: Codecs.
        timeline: Extent of a window.
        cache: Folder for latents.
    """

    def __init__(self, task: AlignmentTask, sides: Sides, timeline: Timeline, cache: Path) -> None:
        super().__init__(
            task.config, sides, timeline, cache, moment=lambda position: {}, dropouts=lambda moment: Pair(0.0, 0.0)
        )
        self._task, self._kept = task, {}
        self._positions, self.num_windows = 1, 0
        task.samples = self

    def prepare(self, sources: Sequence[Source], device: torch.device, share: Share, progress: Progress) -> None:
        """Encode clips; then every process takes mean and deviation over all of them."""
        config = self.config
        self._positions = config.num_steps * config.batch_size * config.accumulation * share.count
        self._encode_clips(sources[share.index :: share.count], device, progress)
        share.wait()
        windows = [(source, crop) for source in sources for crop in range(config.data.crops_per_clip)]
        self.num_windows = len(windows)
        sums = {side: _Moments() for side in MODALITIES}
        for done, window in enumerate(windows, start=1):
            for side, vectors in self._vectors(*window).items():
                sums[side].add(vectors)
            progress.step("vectors", done, len(windows))
        for side, each in sums.items():
            getattr(self._task.alignment, f"{side}_mean").copy_(each.mean)
            getattr(self._task.alignment, f"{side}_deviation").copy_(each.deviation)

    def _vectors(self, source: Source, crop: int) -> dict[str, Tensor]:
        key = (source.digest, crop)
        if key not in self._kept:
            latents = {side: cache.read(source, crop)[0][None] for side, cache in self.latents.items()}
            frames = latents["video"].shape[2]
            found = {side: self._task.alignment.raw(side, latents[side], frames)[0].float() for side in MODALITIES}
            if len(self._kept) >= MOST_KEPT:
                return found
            self._kept[key] = found
        return self._kept[key]

    def row(self, place: Place) -> dict[str, Tensor]:
        """Of one clip."""
        ramp = min(1.0, place.position / (RAMP * self._positions))
        return {**self._vectors(place.source, place.crop), "ramp": torch.tensor(ramp)}

    def empty_row(self) -> dict[str, Tensor]:
        """By the timeline."""
        config, frames = self._task.alignment.config, self.timeline.video_latent_shape[1]
        number = -(-frames // config.segment)
        row = {side: torch.empty(number, size, device="meta") for side, size in config.features.present.items()}
        return row | {"ramp": torch.empty((), device="meta")}


class _Moments:
    """Mean and deviation of each feature over everything that was added, in double precision."""

    def __init__(self) -> None:
        self._count, self._sum, self._squares = 0, 0.0, 0.0

    def add(self, vectors: Tensor) -> None:
        """``(N, F)``."""
        vectors = vectors.double()
        self._count += len(vectors)
        self._sum = self._sum + vectors.sum(0)
        self._squares = self._squares + vectors.square().sum(0)

    @property
    def mean(self) -> Tensor:
        """``(F,)``."""
        return self._sum / self._count

    @property
    def deviation(self) -> Tensor:
        """``(F,)``; 1 where a feature is the same everywhere."""
        variance = self._squares / self._count - self.mean.square()
        return torch.where(variance > 1e-12, variance.clamp_min(1e-12).sqrt(), 1.0)
