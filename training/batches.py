"""Batches by position: the n-th clip of a run is the same, with the same noise, time and crop, whoever asks for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor, nn

from ..core.errors import InputError
from ..core.progress import Progress
from ..sampling.schedules.lockstep import lockstep_times
from .assembly import Workbench
from .cache import LatentCache, MediaCache, TextCache, fingerprint
from .config import TrainConfig
from .data import Source, cut, cut_timeline, find_sources
from .randomness import clip_at, derived_generator, draw_time
from .sound_variation import vary_sound


@dataclass(frozen=True)
class Share:
    """Which part of the preparation is this process's.

    Args:
        index: This process.
        count: All processes.
        wait: Returns when every process has called it.
    """

    index: int = 0
    count: int = 1
    wait: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Batch:
    """Tensors for a step's forward, and which clips they come from.

    Args:
        tensors: By the names that :mod:`.step` reads.
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
        self._media = MediaCache(cache / "media")
        self._is_codec = config.task.endswith("codec")
        if (self._is_codec or data.workers) and not data.keep_media:
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
        self._sides = {
            name: side for name, side in (("video", bench.video), ("audio", bench.audio)) if side is not None
        }
        if not self._is_codec:
            self._latents = {
                name: LatentCache(cache / "latents", side.codec, fingerprint(side.codec), data, self.timeline)
                for name, side in self._sides.items()
            }
            self._texts = {
                name: TextCache(cache / "texts", side.text, f"{fingerprint(side.text)}-{side.text.max_length}")
                for name, side in self._sides.items()
            }
            self._duration = self._duration_embedding()

    @property
    def digest(self) -> str:
        """Hash of every clip's content, in order."""
        return hashlib.sha256("".join(source.digest for source in self.sources).encode()).hexdigest()[:16]

    def prepare(self, device: torch.device, share: Share, progress: Progress) -> None:
        """Fill this process's share of the caches; wait for the others.

        A stop keeps what is done; the next call goes on there.
        """
        sources = self.sources[share.index :: share.count]
        if self.config.data.keep_media:
            self._make_media([source for source in sources if not self._media.path(source).is_file()], progress)
        if not self._is_codec:
            self._encode_clips(sources, device, progress)
            share.wait()
            self._encode_texts(share, device, progress)
        share.wait()

    def _make_media(self, missing: list[Source], progress: Progress) -> None:
        workers = self.config.data.workers
        with ProcessPoolExecutor(workers, get_context("spawn")) if workers else nullcontext() as pool:
            made = (pool.map if workers else map)(self._media.ensure, missing)
            for done, _ in enumerate(made, start=1):
                progress.step("clips", done, len(missing))

    def _encode_clips(self, sources: list[Source], device: torch.device, progress: Progress) -> None:
        caches, num_crops = list(self._latents.values()), self.config.data.crops_per_clip
        windows = [(source, crop) for source in sources for crop in range(num_crops)]
        missing = [key for key in windows if any(not cache.path(*key).is_file() for cache in caches)]
        with _on(device, [cache.codec for cache in caches] if missing else []):
            for done, (source, crop) in enumerate(missing, start=1):
                clip, captions = self._media.load(source) if self.config.data.keep_media else source.load()
                window = cut(clip, self.config.data, self.timeline, name=source.name, crop=crop)
                for cache in caches:
                    if not cache.path(source, crop).is_file():
                        cache.write(source, crop, window, captions)
                progress.step("latents", done, len(missing))

    def _encode_texts(self, share: Share, device: torch.device, progress: Progress) -> None:
        caches = next(iter(self._latents.values()))
        captions = [caches.captions(source) for source in self.sources]
        for name, cache in self._texts.items():
            texts = sorted({"", *(getattr(pair, name) for pair in captions)})[share.index :: share.count]
            missing = [text for text in texts if not cache.path(text).is_file()]
            with _on(device, [self._sides[name].text] if missing else []):
                for done, text in enumerate(missing, start=1):
                    cache.ensure(text)
                    progress.step(f"{name} texts", done, len(missing))

    def _duration_embedding(self) -> Tensor | None:
        audio = self._sides.get("audio")
        return None if audio is None else audio.text.duration(0.0, float(self.timeline.seconds)).float()

    def at(self, first: int, count: int) -> Batch:
        """The clips at places ``first … first + count − 1`` of the run."""
        rows = [self._row(position) for position in range(first, first + count)]
        tensors = {key: torch.stack([row[0][key] for row in rows]) for key in rows[0][0]}
        return Batch(tensors, [name for _, name in rows])

    def _row(self, position: int) -> tuple[dict[str, Tensor], str]:
        data = self.config.data
        source = self.sources[clip_at(position, len(self.sources), data.seed)]
        generator = derived_generator(self.config.seed, "sample", position)
        crop = int(torch.randint(data.crops_per_clip, (1,), generator=generator))
        row = (self._codec_row if self._is_codec else self._latent_row)(source, crop, position, generator)
        return row, f"{source.name}#{crop}"

    def _latent_row(self, source: Source, crop: int, position: int, generator: torch.Generator) -> dict[str, Tensor]:
        objective = self.config.objective
        dropouts = {"audio": objective.audio_text_dropout, "video": objective.video_text_dropout}
        dropped = dict(zip(dropouts, torch.rand(2, generator=generator).tolist(), strict=True))
        row = self._times(position)
        for name, cache in self._latents.items():
            latents, captions = cache.read(source, crop)
            text = "" if dropped[name] < dropouts[name] else getattr(captions, name)
            row[f"{name}_latents"], row[f"{name}_text"] = latents, self._texts[name].read(text)
            noise = derived_generator(self.config.seed, f"{name} noise", position)
            row[f"{name}_noise"] = torch.randn(latents.shape, generator=noise)
        if self._duration is not None:
            row["duration"] = self._duration[0]
        return row

    def _times(self, position: int) -> dict[str, Tensor]:
        """``t``, and ``audio_t`` where the audio has its own."""
        objective = self.config.objective
        drawn = torch.tensor(draw_time(objective.draw, self.config.seed, position))
        if objective.times == "shared":
            return {"t": drawn}
        return dict(zip(("t", "audio_t"), lockstep_times(drawn, objective.flow_shift), strict=True))

    def _codec_row(self, source: Source, crop: int, position: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Pictures or sound of a window that is drawn anew every time, and the posterior's noise."""
        clip, _ = self._media.load(source)
        window = cut(clip, self.config.data, self.timeline, name=source.name, crop=position)
        if self.config.task == "video_codec":
            pictures = _random_square(window.video.frames.permute(3, 0, 1, 2), self.config.data.crop_size, generator)
            channels, num_latents, *_ = self.timeline.video_latent_shape
            stride = self.timeline.geometry.spatial_stride
            rows, columns = (size // stride for size in pictures.shape[-2:])
            noise = torch.randn(channels, num_latents, rows, columns, generator=generator)
            return {"video": pictures * 2 - 1, "noise": noise}
        channels, hop = self.timeline.geometry.audio_channels, self.timeline.geometry.audio_hop
        num_latents = -(-self.timeline.num_samples // hop)
        sound = nn.functional.pad(window.audio.waveform, (0, num_latents * hop - self.timeline.num_samples))
        noise = torch.randn(channels, num_latents, generator=generator)
        if float(torch.rand(1, generator=generator)) < self.config.data.varied_share:
            sound = vary_sound(sound, window.audio.sample_rate, generator)
        return {"audio": sound, "noise": noise}


def _random_square(pictures: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """A square of ``(C, F, H, W)`` at a random place; convolutions learn as well from it as from the whole."""
    if not side:
        return pictures
    top, left = (int(torch.randint(size - side + 1, (1,), generator=generator)) for size in pictures.shape[-2:])
    return pictures[..., top : top + side, left : left + side]


@contextmanager
def _on(device: torch.device, modules: list[nn.Module]) -> Iterator[None]:
    """Modules on the device for a while."""
    for module in modules:
        module.to(device)
    yield
    for module in modules:
        module.to("cpu")
