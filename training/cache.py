"""What is computed once: clips, latents and text embeddings, one safetensors file each, named by a content hash.

Files are written under a temporary name and renamed, so a killed run leaves nothing half-written and the next one goes
on where it stopped. The hash covers the clip, the window, the codec's or encoder's weights and the settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor, nn

from ..core.clock import Timeline
from ..core.progress import Progress
from ..core.types import AudioClip, AVClip, Captions, VideoClip
from ..models.codecs.oobleck import OobleckCodec
from ..models.codecs.wan_vae import WanVAECodec
from ..models.weights.files import read_safetensors, write_safetensors
from .config import DataConfig
from .data import Source, cut
from .randomness import derived_seed


def fingerprint(module: nn.Module) -> str:
    """Hash of a module's class, configuration and every weight."""
    digest = hashlib.sha256(type(module).__name__.encode())
    for part in module.modules():
        config = getattr(part, "config", None)
        if config is not None:
            values = config.to_dict() if hasattr(config, "to_dict") else dict(config)
            # Names that start with an underscore say where the module came from, not what it is.
            kept = {name: value for name, value in values.items() if not name.startswith("_")}
            digest.update(json.dumps(kept, sort_keys=True, default=str).encode())
    for name, tensor in module.state_dict().items():
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _key(*values: object) -> str:
    return hashlib.sha256(repr(values).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class MediaCache:
    """Whole clips: pictures in 8 bits, sound in 16-bit floats.

    Args:
        folder: Where they lie.
    """

    folder: Path

    def path(self, source: Source) -> Path:
        """The clip's file, written or not."""
        return self.folder / f"{_key('media', source.digest)}.safetensors"

    def ensure(self, source: Source) -> None:
        """Make and write the clip unless it is there."""
        path = self.path(source)
        if path.is_file():
            return
        clip, captions = source.load()
        tensors: dict[str, Tensor] = {}
        notes = {"name": source.name, "video_caption": captions.video, "audio_caption": captions.audio}
        if clip.video is not None:
            tensors["frames"] = (clip.video.frames * 255).round().to(torch.uint8)
            notes["fps"] = str(clip.video.fps)
        if clip.audio is not None:
            tensors["waveform"] = clip.audio.waveform.to(torch.float16)
            notes["sample_rate"] = str(clip.audio.sample_rate)
        write_safetensors(path, tensors, notes)

    def load(self, source: Source) -> tuple[AVClip, Captions]:
        """The clip, made first if need be."""
        self.ensure(source)
        tensors, notes = read_safetensors(self.path(source))
        video = audio = None
        if "frames" in tensors:
            video = VideoClip(tensors["frames"].float() / 255, Fraction(notes["fps"]))
        if "waveform" in tensors:
            audio = AudioClip(tensors["waveform"].float(), int(notes["sample_rate"]))
        return AVClip(video, audio), Captions(notes["video_caption"], notes["audio_caption"])


@dataclass(frozen=True)
class LatentCache:
    """Latents of one window of a clip, in the towers' own space.

    Args:
        folder: Where they lie.
        config: How clips are cut.
        timeline: The window's extent, with the codecs' geometry.
        video_codec: Encoder of pictures, or None.
        audio_codec: Encoder of sound, or None.
        load: Gives a source's clip: from the disk cache or afresh.
        codecs_digest: Hash of both codecs' weights.
    """

    folder: Path
    config: DataConfig
    timeline: Timeline
    video_codec: WanVAECodec | None
    audio_codec: OobleckCodec | None
    load: Callable[[Source], tuple[AVClip, Captions]]
    codecs_digest: str

    def path(self, source: Source, crop: int) -> Path:
        """The window's file, written or not."""
        c, t = self.config, self.timeline
        cutting = (t.num_frames, t.fps, t.width, t.height, c.crop, c.short, c.mono, c.posterior, c.seed, crop)
        return self.folder / f"{_key('latents', source.digest, self.codecs_digest, cutting)}.safetensors"

    def ensure(self, source: Source, crop: int) -> None:
        """Cut, encode and write the window unless it is there."""
        path = self.path(source, crop)
        if path.is_file():
            return
        clip, captions = self.load(source)
        window = cut(clip, self.config, self.timeline, name=source.name, crop=crop)
        # The codec may compute anywhere, so its draw cannot come from a CPU generator of ours.
        with torch.random.fork_rng():
            torch.manual_seed(derived_seed("posterior", source.digest, crop))
            tensors = self._encode(window)
        notes = {"name": source.name, "video_caption": captions.video, "audio_caption": captions.audio}
        write_safetensors(path, tensors, notes)

    def _encode(self, window: AVClip) -> dict[str, Tensor]:
        sample = self.config.posterior == "sample"
        tensors = {}
        if self.video_codec is not None:
            tensors["video"] = self.video_codec.encode(window.video.frames, sample=sample)[0]
        if self.audio_codec is not None:
            length = self.timeline.audio_latent_shape[1]
            # Encoding rounds the length up to whole latents, sampling rounds it down.
            tensors["audio"] = self.audio_codec.encode(window.audio.waveform, sample=sample)[0, :, :length]
        return tensors

    def read(self, source: Source, crop: int) -> tuple[dict[str, Tensor], Captions]:
        """Latents ``(C, T, H, W)`` and ``(C, L)`` by modality, and the clip's captions."""
        tensors, notes = read_safetensors(self.path(source, crop))
        return tensors, Captions(notes["video_caption"], notes["audio_caption"])


class TextCache:
    """Embeddings of captions; the zero rows at their end are not stored.

    Args:
        folder: Where they lie.
        encode: Gives ``(1, L, D)`` for one text.
        encoder_digest: Hash of the encoder's weights and settings.
    """

    def __init__(self, folder: Path, encode: Callable[[str], Tensor], encoder_digest: str) -> None:
        self.folder, self._encode, self._digest = folder, encode, encoder_digest

    def path(self, text: str) -> Path:
        """The text's file, written or not."""
        return self.folder / f"{_key('text', self._digest, text)}.safetensors"

    def ensure(self, text: str) -> None:
        """Encode and write the text unless it is there."""
        if self.path(text).is_file():
            return
        embedding = self._encode(text)[0].to("cpu")
        used = embedding.abs().sum(1).nonzero()
        num_rows = int(used.max()) + 1 if len(used) else 0
        write_safetensors(self.path(text), {"rows": embedding[:num_rows].clone()}, {"length": str(len(embedding))})

    def read(self, text: str) -> Tensor:
        """``(L, D)`` as the encoder gave it."""
        tensors, notes = read_safetensors(self.path(text))
        rows = tensors["rows"]
        return nn.functional.pad(rows, (0, 0, 0, int(notes["length"]) - rows.shape[0]))


def fill(stage: str, tasks: Iterable[Callable[[], None]], total: int, progress: Progress) -> None:
    """Run tasks one after the other, reporting each; a stop keeps what is done."""
    for done, task in enumerate(tasks, start=1):
        task()
        progress.step(stage, done, total)
