"""What tasks make of clips: latents with captions, noise and times, or windows of pictures and sound as they are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..core.clock import Timeline
from ..core.pair import Pair
from ..core.progress import Progress
from ..core.types import AVClip
from ..models.parts import AudioParts, VideoParts
from ..models.text._encoder import PromptEncoder
from .cache import LatentCache, MediaCache, TextCache, fingerprint
from .config import TrainConfig
from .data import Source, cut
from .randomness import derived_generator


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
class Place:
    """A clip's place in the run.

    Args:
        source: The clip.
        crop: Which of its windows.
        position: Number of the place, over all steps and processes.
        generator: The place's own; the crop was drawn from it.
    """

    source: Source
    crop: int
    position: int
    generator: torch.Generator


class Samples(ABC):
    """Prepares what can be prepared, then gives one row of tensors a place.

    Args:
        config: The run.
        timeline: Extent of a window, in the codecs' geometry.
        cache: Folder for clips, latents and texts.
    """

    needs_media: ClassVar[bool] = False  # whether decoded clips must lie in the cache

    def __init__(self, config: TrainConfig, timeline: Timeline, cache: Path) -> None:
        self.config, self.timeline, self.media = config, timeline, MediaCache(cache / "media")

    def prepare(  # noqa: B027 (there may be nothing to do)
        self, sources: Sequence[Source], device: torch.device, share: Share, progress: Progress
    ) -> None:
        """Compute what is kept, this process's share of it; nothing for windows that are cut anew every time.

        Args:
            sources: All clips of the run.
            device: Where to compute.
            share: Of the work.
            progress: Told of every clip.
        """

    @abstractmethod
    def row(self, place: Place) -> dict[str, Tensor]:
        """The tensors that the step reads, of one clip."""

    def empty_row(self) -> dict[str, Tensor]:
        """A row without numbers, on ``meta``, by which a step's memory is planned; none where that is not done."""
        return {}

    def window(self, source: Source, number: int) -> AVClip:
        """A window of a clip in the media cache; its place is drawn from its number."""
        clip, _ = self.media.load(source)
        return cut(clip, self.config.data, self.timeline, name=source.name, crop=number)


class LatentSamples(Samples):
    """Latents, captions and noise of every side that is there; times and dropout are the task's.

    A side without a text encoder has no captions.

    Args:
        config: The run.
        sides: Codecs and text encoders.
        timeline: Extent of a window.
        cache: Folder for clips, latents and texts.
        moment: The row's times by its place in the run, ``t`` and what else the step reads of them.
        dropouts: From those the chance, by side, that a clip's text is that of "".
        taught_texts: Sides whose text encoder learns: of these a row has tokens instead of what they are encoded to.
    """

    def __init__(
        self,
        config: TrainConfig,
        sides: Pair[VideoParts | AudioParts],
        timeline: Timeline,
        cache: Path,
        *,
        moment: Callable[[int], dict[str, Tensor]],
        dropouts: Callable[[Mapping[str, Tensor]], Pair[float]],
        taught_texts: Collection[str] = (),
    ) -> None:
        super().__init__(config, timeline, cache)
        self._moment, self._dropouts, self._sides = moment, dropouts, sides.present
        self.latents = {
            name: LatentCache(cache / "latents", side.codec, fingerprint(side.codec), config.data, timeline)
            for name, side in self._sides.items()
        }
        self.texts = {
            name: TextCache(cache / "texts", side.text, f"{fingerprint(side.text)}-{side.text.max_length}")
            for name, side in self._sides.items()
            if side.text is not None and name not in taught_texts
        }
        self._tokens = {name: _Tokens(self._sides[name].text) for name in taught_texts}
        sound = sides.audio
        tells = sound is not None and hasattr(sound.text, "duration")
        self._duration = sound.text.duration(0.0, float(timeline.seconds)).float() if tells else None

    def prepare(self, sources: Sequence[Source], device: torch.device, share: Share, progress: Progress) -> None:
        """Encode clips, then captions, when every process has encoded its clips."""
        self._encode_clips(sources[share.index :: share.count], device, progress)
        share.wait()
        self._encode_texts(sources, device, share, progress)

    def _encode_clips(self, sources: Sequence[Source], device: torch.device, progress: Progress) -> None:
        caches, data = list(self.latents.values()), self.config.data
        windows = [(source, crop) for source in sources for crop in range(data.crops_per_clip)]
        missing = [key for key in windows if any(not cache.path(*key).is_file() for cache in caches)]
        with _on(device, [cache.codec for cache in caches] if missing else []):
            for done, (source, crop) in enumerate(missing, start=1):
                clip, captions = self.media.load(source) if data.keep_media else source.load()
                window = cut(clip, data, self.timeline, name=source.name, crop=crop)
                for cache in caches:
                    if not cache.path(source, crop).is_file():
                        cache.write(source, crop, window, captions)
                progress.step("latents", done, len(missing))

    def _encode_texts(self, sources: Sequence[Source], device: torch.device, share: Share, progress: Progress) -> None:
        latents = next(iter(self.latents.values()))
        captions = [latents.captions(source) for source in sources]
        for name, cache in self.texts.items():
            texts = sorted({"", *(getattr(pair, name) for pair in captions)})[share.index :: share.count]
            missing = [text for text in texts if not cache.path(text).is_file()]
            with _on(device, [self._sides[name].text] if missing else []):
                for done, text in enumerate(missing, start=1):
                    cache.ensure(text)
                    progress.step(f"{name} texts", done, len(missing))

    def row(self, place: Place) -> dict[str, Tensor]:
        """The moment's tensors; by side ``…_latents``, ``…_text``, ``…_noise``; ``duration`` where there is sound."""
        row = self._moment(place.position)
        chances = self._dropouts(row)
        # In this order since the first runs: another would drop other texts.
        drawn = dict(zip(("audio", "video"), torch.rand(2, generator=place.generator).tolist(), strict=True))
        if self.config.objective.drop_together:
            drawn["video"] = drawn["audio"]
        for name, cache in self.latents.items():
            latents, captions = cache.read(place.source, place.crop)
            row[f"{name}_latents"] = latents
            text = "" if drawn[name] < chances[name] else getattr(captions, name)
            if name in self.texts:
                row[f"{name}_text"] = self.texts[name].read(text)
            elif name in self._tokens:
                row[f"{name}_ids"], row[f"{name}_mask"] = self._tokens[name].read(text)
            noise = derived_generator(self.config.seed, f"{name} noise", place.position)
            row[f"{name}_noise"] = torch.randn(latents.shape, generator=noise)
        if self._duration is not None:
            row["duration"] = self._duration[0]
        return row

    def empty_row(self) -> dict[str, Tensor]:
        """As long as any: captions are padded to one length."""
        row = {name: torch.empty_like(tensor, device="meta") for name, tensor in self._moment(0).items()}
        for name, side in self._sides.items():
            latents = getattr(self.timeline, f"{name}_latent_shape")
            row |= {f"{name}_{what}": torch.empty(latents, device="meta") for what in ("latents", "noise")}
            if name in self._tokens:
                tokens = torch.empty(side.text.max_length, dtype=torch.int64, device="meta")
                row |= {f"{name}_ids": tokens, f"{name}_mask": tokens}
            elif side.text is not None:
                row[f"{name}_text"] = torch.empty(side.text.max_length, side.text.model.config.d_model, device="meta")
        if self._duration is not None:
            row["duration"] = torch.empty_like(self._duration[0], device="meta")
        return row


class _Tokens:
    """Captions as their encoder's tokens, each made once."""

    def __init__(self, encoder: PromptEncoder) -> None:
        self._encoder, self._known = encoder, {}

    def read(self, text: str) -> tuple[Tensor, Tensor]:
        """Ids and mask, both ``(L,)`` int64."""
        if text not in self._known:
            self._known[text] = tuple(each[0] for each in self._encoder.tokenize([text]))
        return self._known[text]


@contextmanager
def _on(device: torch.device, modules: list[nn.Module]) -> Iterator[None]:
    """Modules on the device for a while."""
    for module in modules:
        module.to(device)
    yield
    for module in modules:
        module.to("cpu")
