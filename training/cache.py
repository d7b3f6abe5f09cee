"""What is computed once: clips, latents and text embeddings, one safetensors file each, named by a content hash.

Files are written under a temporary name and renamed, so a killed run leaves nothing half-written and the next one goes
on where it stopped. The hash covers the clip, the window, the codec's or encoder's weights and the settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ..core.clock import Timeline
from ..core.protocols import TextEncoder
from ..core.types import AudioClip, AVClip, Captions, VideoClip
from ..models.codecs.oobleck import OobleckCodec
from ..models.codecs.wan_vae import WanVAECodec
from ..models.weights.files import read_safetensors, write_safetensors
from .config import DataConfig
from .data import Source
from .randomness import derived_seed
from .sound_codes import require_fit, sound_codes


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
        return AVClip(video, audio), _captions(notes)


@dataclass(frozen=True)
class LatentCache:
    """Latents of windows of clips in one modality, in the tower's own space.

    Args:
        folder: Where they lie.
        codec: The encoder.
        codec_digest: Hash of its weights.
        config: How clips are cut.
        timeline: The window's extent, with the codecs' geometry.
    """

    folder: Path
    codec: WanVAECodec | OobleckCodec
    codec_digest: str
    config: DataConfig
    timeline: Timeline

    def path(self, source: Source, crop: int) -> Path:
        """The window's file, written or not."""
        c, t = self.config, self.timeline
        cutting = (t.num_frames, t.fps, t.width, t.height, c.crop, c.short, c.mono, c.posterior, c.seed, crop)
        encoder = c.sound_latents if self._is_taught else self.codec_digest
        if getattr(self.codec, "whole", None) is not None:  # both faces of an autoencoder have one digest
            encoder = f"{encoder} {self.codec.modality}"
        return self.folder / f"{_key('latents', source.digest, encoder, cutting)}.safetensors"

    @property
    def _is_taught(self) -> bool:
        """Whether the latents are the codes themselves, without the encoder that learns them."""
        return self.config.sound_latents == "cepstral" and self.codec.modality == "audio"

    def write(self, source: Source, crop: int, window: AVClip, captions: Captions) -> None:
        """Encode a window that was cut from the clip."""
        sample = self.config.posterior == "sample"
        # The codec may compute on any device, so its draw cannot come from a CPU generator of ours.
        with torch.random.fork_rng():
            torch.manual_seed(derived_seed("posterior", source.digest, crop))
            if self.codec.modality == "video":
                latents = self.codec.encode(window.video.frames, sample=sample)[0]
            elif self._is_taught:
                latents = self._codes(window.audio.waveform)
            else:
                # Encoding rounds the length up to whole latents, sampling rounds it down.
                length = self.timeline.audio_latent_shape[1]
                latents = self.codec.encode(window.audio.waveform, sample=sample)[0, :, :length]
        notes = {"name": source.name, "video_caption": captions.video, "audio_caption": captions.audio}
        write_safetensors(self.path(source, crop), {"latents": latents}, notes)

    def _codes(self, waveform: Tensor) -> Tensor:
        require_fit(self.codec.latent_channels, self.codec.channels)
        hop, length = self.codec.hop, self.timeline.audio_latent_shape[1]
        padded = nn.functional.pad(waveform, (0, -waveform.shape[1] % hop))
        return sound_codes(padded[None], hop=hop, sample_rate=self.codec.sample_rate)[0, :, :length].contiguous()

    def read(self, source: Source, crop: int) -> tuple[Tensor, Captions]:
        """``(C, T, H, W)`` or ``(C, L)``, and the clip's captions."""
        tensors, notes = read_safetensors(self.path(source, crop))
        return tensors["latents"], _captions(notes)

    def captions(self, source: Source) -> Captions:
        """The clip's captions, without reading its latents."""
        with safe_open(self.path(source, 0), framework="pt") as file:
            return _captions(file.metadata())


def _captions(notes: Mapping[str, str]) -> Captions:
    return Captions(notes["video_caption"], notes["audio_caption"])


class TextCache:
    """Embeddings of captions; the zero rows at their end are not stored.

    Args:
        folder: Where they lie.
        encoder: Gives ``(1, L, D)`` for one text.
        encoder_digest: Hash of the encoder's weights and settings.
    """

    def __init__(self, folder: Path, encoder: TextEncoder, encoder_digest: str) -> None:
        self.folder, self._encoder, self._digest = folder, encoder, encoder_digest

    def path(self, text: str) -> Path:
        """The text's file, written or not."""
        return self.folder / f"{_key('text', self._digest, text)}.safetensors"

    def ensure(self, text: str) -> None:
        """Encode and write the text unless it is there."""
        if self.path(text).is_file():
            return
        embedding = self._encoder.encode([text])[0].to("cpu", torch.float32)
        used = embedding.abs().sum(1).nonzero()
        num_rows = int(used.max()) + 1 if len(used) else 0
        write_safetensors(self.path(text), {"rows": embedding[:num_rows].clone()}, {"length": str(len(embedding))})

    def read(self, text: str) -> Tensor:
        """``(L, D)`` as the encoder gave it."""
        tensors, notes = read_safetensors(self.path(text))
        rows = tensors["rows"]
        return nn.functional.pad(rows, (0, 0, 0, int(notes["length"]) - rows.shape[0]))
