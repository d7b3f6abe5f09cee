"""A family of models that no other file knows of; a test puts it into ``models/families`` as ``throw_away.py``.

One transformer over the latents of picture and sound, packed without a grid; one autoencoder, whose decoder draws the
picture with the sound at hand; one text encoder for both captions; rectified flow on both sides; one fixed extent.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers import ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from torch import Tensor, nn
from torch.nn import functional as F

from ...core.clock import ClipTimes, LatentGeometry
from ...core.device import Placement
from ...core.errors import GeometryError
from ...core.pair import Pair
from ...core.progress import SILENT, Progress
from ...core.types import Modality
from ..execution import execution_device
from ..own import OwnSettings, folder_settings
from ..plan.base import DryStage, PlainOutline, PlannedModule, Workload
from ..plan.outline import without_weights
from ..text.umt5 import UMT5TextEncoder
from . import FAMILIES
from .base import Family, FamilyModel, FoundFolder, Wishes

FRAMES, SIZE, PATCH, CHANNELS, HOP, RATE, WIDTH = 5, 16, 8, 4, 16, 8000, 16
PICTURE = FRAMES * (SIZE // PATCH) ** 2
META = torch.device("meta")


@dataclass(frozen=True)
class PackedGeometry(LatentGeometry):
    """One extent; its picture is packed into ``(C, 1, 1, L)``."""

    video_channels: int = CHANNELS
    audio_channels: int = CHANNELS
    audio_hop: int = HOP
    sample_rate: int = RATE
    in_time = False

    def check(self, num_frames: int, width: int, height: int) -> None:
        """Only what the model was made for."""
        if (num_frames, width, height) != (FRAMES, SIZE, SIZE):
            got, made = f"{num_frames} frames of {width}×{height}", f"{FRAMES} frames of {SIZE}×{SIZE}"
            raise GeometryError("this model makes clips of one extent", got=got, expected=made)

    def video_shape(self, num_frames: int, width: int, height: int) -> tuple[int, int, int, int]:
        """Packed."""
        return CHANNELS, 1, 1, PICTURE

    def extent_of(self, video_shape: tuple[int, ...]) -> tuple[int, int, int]:
        """The one."""
        return FRAMES, SIZE, SIZE


class Transformer(ModelMixin, ConfigMixin):
    """Every token of picture and sound sees every other, and the texts."""

    @register_to_config
    def __init__(self, text_width: int = WIDTH, num_blocks: int = 2) -> None:
        super().__init__()
        self.enter = nn.Linear(CHANNELS, WIDTH)
        self.sides = nn.Parameter(torch.randn(2, WIDTH))
        self.read = nn.Linear(text_width, WIDTH)
        self.time = nn.Linear(1, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(num_blocks))
        self.leave = nn.Linear(WIDTH, CHANNELS)

    def forward(self, video: Modality | None, audio: Modality | None) -> tuple[Tensor | None, Tensor | None]:
        """Velocities of both."""
        present = [(side, one) for side, one in enumerate((video, audio)) if one is not None]
        tokens = [self.enter(one.latents.flatten(2).mT) + self.sides[side] for side, one in present]
        texts = [self.read(one.text) + self.sides[side] for side, one in present]
        hidden, lengths = torch.cat([*tokens, *texts], dim=1), [each.shape[1] for each in tokens]
        hidden = hidden + self.time(present[0][1].timestep[:, None, None].to(hidden.dtype) / 1000)
        for block in self.blocks:
            hidden = block(hidden)
        made: list[Tensor | None] = [None, None]
        parts = self.leave(hidden).split([*lengths, hidden.shape[1] - sum(lengths)], dim=1)
        for (side, one), part in zip(present, parts, strict=False):
            made[side] = part.mT.reshape(one.latents.shape)
        return tuple(made)


class Block(nn.Module):
    """Attention and a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.together, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.wide, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, hidden: Tensor) -> Tensor:
        """``(B, L, D)``."""
        query, key, value = (each.unflatten(2, (2, -1)).transpose(1, 2) for each in self.together(hidden).chunk(3, 2))
        hidden = hidden + self.out(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return hidden + self.narrow(F.gelu(self.wide(hidden)))


class Autoencoder(ModelMixin, ConfigMixin):
    """Patches of pictures and pieces of sound, each through a layer; the picture is drawn with the sound at hand."""

    @register_to_config
    def __init__(self, channels: int = CHANNELS) -> None:
        super().__init__()
        self.look, self.draw = nn.Linear(3 * PATCH**2, channels), nn.Linear(channels, 3 * PATCH**2)
        self.listen, self.play = nn.Linear(2 * HOP, channels), nn.Linear(channels, 2 * HOP)
        self.across = nn.Linear(channels, channels)

    def encode_picture(self, frames: Tensor) -> Tensor:
        """``(F, H, W, 3)`` to ``(1, C, 1, 1, L)``."""
        patches = F.pixel_unshuffle(frames.permute(0, 3, 1, 2), PATCH).flatten(2)
        return self.look(patches.permute(0, 2, 1).flatten(0, 1)).mT[None, :, None, None]

    def encode_sound(self, waveform: Tensor) -> Tensor:
        """``(2, samples)`` to ``(1, C, L)``."""
        whole = F.pad(waveform, (0, -waveform.shape[1] % HOP))
        return self.listen(whole.unflatten(1, (-1, HOP)).transpose(0, 1).flatten(1)).mT[None]

    def decode_picture(self, video: Tensor, audio: Tensor | None = None) -> Tensor:
        """Back, with what is heard if there is something."""
        latents = video.flatten(2)[0].mT
        latents = latents if audio is None else latents + self.across(audio.mean(2))
        patches = self.draw(latents).unflatten(0, (FRAMES, -1)).permute(0, 2, 1)
        side = SIZE // PATCH
        return F.pixel_shuffle(patches.unflatten(2, (side, side)), PATCH).permute(0, 2, 3, 1).sigmoid()

    def decode_sound(self, audio: Tensor) -> Tensor:
        """Back."""
        return self.play(audio[0].mT).unflatten(1, (2, HOP)).transpose(0, 1).flatten(1)


class Whole(PlannedModule):
    """Both faces' autoencoder."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model

    def decode_both(
        self, video: Tensor, audio: Tensor, *, raw: bool = False, progress: Progress = SILENT
    ) -> tuple[Tensor, Tensor]:
        """Frames and a waveform."""
        progress.step("decode", 0, 1)
        video, audio = (latents.to(execution_device(self.model), self.model.dtype) for latents in (video, audio))
        with torch.no_grad():
            made = self.model.decode_picture(video, audio), self.model.decode_sound(audio)
        progress.step("decode", 1, 1)
        return tuple(each.to("cpu", torch.float32) for each in made)

    def outline(self) -> PlainOutline:
        """Of this part alone."""
        return PlainOutline("", *dry_autoencoder(without_weights(self.model)), PackedGeometry())


class Face(PlannedModule):
    """One side of the autoencoder."""

    latent_channels, temporal_stride, spatial_stride, channels, hop, sample_rate = CHANNELS, 1, PATCH, 2, HOP, RATE
    linear_previews = False
    geometry = PackedGeometry()

    def __init__(self, whole: Whole, side: str) -> None:
        super().__init__()
        self.whole, self.side = whole, side

    def outline(self) -> PlainOutline:
        """That of the whole."""
        return self.whole.outline()

    def encode(self, media: Tensor, *, tiling: str = "off", progress: Progress = SILENT) -> Tensor:
        """Frames or a waveform to latents."""
        model = self.whole.model
        with torch.no_grad():
            encode = model.encode_picture if self.side == "video" else model.encode_sound
            return encode(media.to(execution_device(model), model.dtype)).to("cpu", torch.float32)

    def decode(self, latents: Tensor, *, raw: bool = False, tiling: str = "off", progress: Progress = SILENT) -> Tensor:
        """One side without the other."""
        model = self.whole.model
        with torch.no_grad():
            decode = model.decode_picture if self.side == "video" else model.decode_sound
            return decode(latents.to(execution_device(model), model.dtype)).to("cpu", torch.float32)

    def to_raw(self, latents: Tensor) -> Tensor:
        """The same."""
        return latents

    def from_raw(self, latents: Tensor) -> Tensor:
        """The same."""
        return latents


def dry_autoencoder(model: Autoencoder) -> tuple[dict[str, nn.Module], dict[str, tuple[str, ...]], dict[str, DryStage]]:
    """Its part, the stages that run it, and what they run."""

    def of(side: str, way: str, run: Callable[[Workload], object]) -> DryStage:
        def stage(work: Workload, _: bool) -> Callable[[], object] | None:
            shape = work.video_shape if side == "video" else work.audio_shape
            there = shape is not None and side in (work.encoded if way == "encode" else work.decoded)
            return (lambda: run(work)) if there else None

        return stage

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=model.dtype, device=META)

    runs = {
        "encode video": of("video", "encode", lambda _: model.encode_picture(empty(FRAMES, SIZE, SIZE, 3))),
        "encode audio": of("audio", "encode", lambda work: model.encode_sound(empty(2, HOP * work.audio_shape[2]))),
        "decode video": of("video", "decode", lambda work: model.decode_picture(empty(*work.video_shape))),
        "decode audio": of("audio", "decode", lambda work: model.decode_sound(empty(*work.audio_shape))),
    }
    return {"autoencoder": model}, {"autoencoder": tuple(runs)}, runs


def outline_of(name: str, transformer: Transformer, text: nn.Module, autoencoder: Autoencoder) -> PlainOutline:
    """All parts, on ``meta``."""

    def sample(work: Workload, batched: bool) -> Callable[[], object]:
        rows = 2 if batched and work.guided else 1

        def side(shape: tuple[int, ...] | None) -> Modality | None:
            like = {"dtype": transformer.dtype, "device": META}
            text = torch.empty(rows, 32, transformer.config.text_width, **like)
            latents = shape and torch.empty(rows * shape[0], *shape[1:], **like)
            return shape and Modality(latents, torch.empty(1, device=META), text.expand(len(latents), -1, -1))

        return lambda: transformer(side(work.video_shape), side(work.audio_shape))

    def encode(work: Workload, _: bool) -> Callable[[], object]:
        ids = torch.zeros(1, 32, dtype=torch.int64, device=META)
        return lambda: text(ids, attention_mask=torch.ones_like(ids)).last_hidden_state

    parts, uses, runs = dry_autoencoder(autoencoder)
    later = {"decode video", "decode audio"}
    return PlainOutline(
        name,
        {"transformer": transformer, "text": text, **parts},
        {"transformer": ("sample",), "text": ("encode",), **uses},
        {
            **{stage: run for stage, run in runs.items() if stage not in later},
            "encode": encode,
            "sample": sample,
            **{stage: run for stage, run in runs.items() if stage in later},
        },
        PackedGeometry(),
    )


@dataclass(frozen=True)
class ThrowAwayModel(FamilyModel):
    """What was loaded."""

    name: str
    noted: OwnSettings
    transformer: Transformer
    text: UMT5TextEncoder
    whole: Whole
    faces: Pair[Face]
    placement: Placement

    trained = False
    hears = frozenset({"video", "audio"})
    geometry = PackedGeometry()
    processes = Pair("flow", "flow")

    @property
    def description(self) -> str:
        """With what it cannot do."""
        return f"{self.name} (throw-away); UNTRAINED weights"

    @property
    def own(self) -> OwnSettings:
        """What its note says."""
        return self.noted

    @property
    def texts(self) -> Pair[UMT5TextEncoder]:
        """One for both."""
        return Pair.both(self.text)

    @property
    def codecs(self) -> Pair[Face]:
        """Two faces."""
        return self.faces

    @property
    def root(self) -> nn.Module:
        """The transformer."""
        return self.transformer

    def times(self, shapes: Pair[tuple[int, ...]]) -> ClipTimes | None:
        """Its tokens know their places."""
        return None

    def outline(self) -> PlainOutline:
        """All of it."""
        parts = self.transformer, self.text.model, self.whole.model
        return replace(outline_of(self.name, *map(without_weights, parts)), is_loaded=True)

    def sampling_outline(self, text_lengths: tuple[int, int]) -> PlainOutline:
        """The transformer."""
        return self.outline().only("sample")


@FAMILIES.register("throw_away")
class ThrowAway(Family):
    """A folder with ``transformer``, ``autoencoder``, ``text_encoder``, ``tokenizer`` and ``model.json``."""

    title = "one throw-away transformer"
    processes = ThrowAwayModel.processes

    def recognise(self, folder: Path) -> FoundFolder | None:
        """By the class of its transformer."""
        try:
            config = json.loads((folder / "transformer" / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        own = isinstance(config, dict) and config.get("_class_name") == "Transformer"
        return FoundFolder("throw_away", folder) if own else None

    def load(self, found: FoundFolder, placement: Placement, wishes: Wishes) -> ThrowAwayModel:
        """Strictly."""
        from transformers import AutoTokenizer, UMT5EncoderModel

        folder, dtype = found.path, placement.dtype
        tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        encoder = UMT5EncoderModel.from_pretrained(folder / "text_encoder", local_files_only=True).to(dtype)
        transformer = Transformer.from_pretrained(folder / "transformer", torch_dtype=dtype)
        whole = Whole(Autoencoder.from_pretrained(folder / "autoencoder"))
        for module in (encoder, transformer, whole):
            module.eval().requires_grad_(False)
        text, faces = UMT5TextEncoder(tokenizer, encoder, 32), Pair(Face(whole, "video"), Face(whole, "audio"))
        return ThrowAwayModel(found.name, folder_settings(folder), transformer, text, whole, faces, placement)

    def outline(self, found: FoundFolder, placement: Placement, wishes: Wishes) -> PlainOutline:
        """Here simply loaded; a large family reads configurations."""
        model = self.load(found, placement, wishes)
        return replace(model.outline(), is_loaded=False)


def write_folder(folder: Path, write_tokenizer: Callable[[Path, int], int]) -> Path:
    """A small model with random weights."""
    from transformers import UMT5Config, UMT5EncoderModel

    vocabulary = write_tokenizer(folder / "tokenizer", 32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        Transformer().save_pretrained(folder / "transformer")
        Autoencoder().save_pretrained(folder / "autoencoder")
        config = UMT5Config(
            vocab_size=vocabulary, d_model=WIDTH, d_kv=8, d_ff=24, num_layers=2, num_heads=2, pad_token_id=0,
            eos_token_id=1,
        )  # fmt: skip
        UMT5EncoderModel(config).save_pretrained(folder / "text_encoder")
    note = {"frames": FRAMES, "fps": 15, "size": SIZE, "num_steps": 3, "video_cfg": 3.0, "audio_cfg": 3.0}
    (folder / "model.json").write_text(json.dumps(note), encoding="utf-8")
    return folder
