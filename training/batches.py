"""Batches by position: the n-th clip of a run is the same, with the same noise, time and crop, whoever asks for it."""

from __future__ import annotations

import hashlib
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from ..core.errors import InputError
from ..core.progress import Progress
from .assembly import Workbench
from .config import TrainConfig
from .data import Source, cut_timeline, find_sources
from .pairing import paired
from .randomness import clip_at, derived_generator
from .samples import Place, Share


@dataclass(frozen=True)
class Batch:
    """Tensors for a step's forward, and which clips they come from.

    Args:
        tensors: By the names that the task's step reads.
        names: ``clip#crop``, one a sample.
    """

    tensors: dict[str, Tensor]
    names: list[str]


class Batches:
    """Prepares what can be prepared, then gives batches.

    Args:
        config: The run.
        bench: Codecs and text encoders.
        cache: Folder for clips, latents and texts.
    """

    def __init__(self, config: TrainConfig, bench: Workbench, cache: Path) -> None:
        self.config = config
        data = config.data
        self.sources = find_sources(data)
        self.timeline = cut_timeline(data, bench.geometry)
        self.samples = bench.task.make_samples(bench.sides, self.timeline, cache)
        if (self.samples.needs_media or data.workers) and not data.keep_media:
            raise InputError(
                "this run needs its clips on disk",
                got="data.keep_media=false",
                expected="true for codec recipes and with data.workers",
            )
        if data.crop_size % self.timeline.geometry.spatial_stride:
            raise InputError(
                "the codec cannot take a picture of this size",
                got=f"data.crop_size={data.crop_size}",
                expected=f"a multiple of {self.timeline.geometry.spatial_stride}",
            )

    @property
    def digest(self) -> str:
        """Hash of every clip's content, in order."""
        return hashlib.sha256("".join(source.digest for source in self.sources).encode()).hexdigest()[:16]

    def prepare(self, device: torch.device, share: Share, progress: Progress) -> None:
        """Fill this process's share of the caches; wait for the others.

        A stop keeps what is done; the next call goes on there.
        """
        if self.config.data.keep_media:
            own, media = self.sources[share.index :: share.count], self.samples.media
            self._make_media([source for source in own if not media.path(source).is_file()], progress)
        self.samples.prepare(self.sources, device, share, progress)
        share.wait()

    def _make_media(self, missing: list[Source], progress: Progress) -> None:
        workers = self.config.data.workers
        with ProcessPoolExecutor(workers, get_context("spawn")) if workers else nullcontext() as pool:
            made = (pool.map if workers else map)(self.samples.media.ensure, missing)
            for done, _ in enumerate(made, start=1):
                progress.step("clips", done, len(missing))

    def at(self, first: int, count: int) -> Batch:
        """The clips at places ``first … first + count − 1`` of the run."""
        places = [self._place(position) for position in range(first, first + count)]
        rows = [self.samples.row(place) for place in places]
        tensors = {key: torch.stack([row[key] for row in rows]) for key in rows[0]}
        tensors = paired(tensors, self.config.objective.pairing)
        return Batch(tensors, [f"{place.source.name}#{place.crop}" for place in places])

    def _place(self, position: int) -> Place:
        data = self.config.data
        source = self.sources[clip_at(position, len(self.sources), data.seed)]
        generator = derived_generator(self.config.seed, "sample", position)
        crop = int(torch.randint(data.crops_per_clip, (1,), generator=generator))
        return Place(source, crop, position, generator)
