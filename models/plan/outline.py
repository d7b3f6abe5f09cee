"""The real modules without their weights, on the ``meta`` device: from files on disk, from loaded parts, or by name.

Only configurations and the headers of weight files are read; a 14B model is outlined in about a second.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from ...core.clock import LatentGeometry
from ...core.errors import CorruptWeightsError
from ...core.json_text import read_json
from ..codecs import CODECS
from ..codecs.wan_vae import WanVAECodec
from ..empty import on_meta
from ..joint import JointModel
from ..stock import variant_of
from ..storage import own_hooks, packing_of, store_fp8, unpacked
from ..text._encoder import MOST_TEXT_LENGTH
from ..text._handle import TextEncoderHandle
from ..towers import TOWERS
from ..weights._build import kept_in_float32
from ..weights._config import part_outline
from ..weights._folders import part_weights
from ..weights._header import WeightFile
from ..weights._parts import open_part
from ..weights._stable_audio import TEXT_LENGTH, load_checkpoint, load_t5
from ..weights._wan import load_transformer, load_umt5, load_vae
from ..weights.bridges import BridgeOptions, outline_bridges
from ..weights.layouts import StableAudioFiles, WanFiles
from ..weights.load import OFFICIAL_TEXT_LENGTH, folder_classes, text_length_of
from . import costs
from .base import ModelOutline, Workload
from .tracking import Cost

if TYPE_CHECKING:
    from ...core.device import Placement
    from ..parts import AudioParts, VideoParts
    from ..weights.find import ModelSet

PARTS = ("video tower", "audio tower", "bridges", "video text", "audio text", "video codec", "audio codec")
# Stages of each part; of those that are not named, sampling.
_USED = {
    **dict.fromkeys(("video text", "audio text"), ("encode",)),
    "video codec": ("encode video", "decode video"),
    "audio codec": ("encode audio", "decode audio"),
}


@dataclass(frozen=True, eq=False)
class Outline(ModelOutline):
    """Two towers without weights, as they would be loaded. Whatever is absent is None.

    Args:
        name: For tables.
        joint: Towers and bridges; None in the outline of a stage that does not run them.
        video_text: ``UMT5EncoderModel``.
        audio_text: ``T5EncoderModel`` and Stable Audio's projection.
        video_codec: Wan codec.
        audio_vae: ``AutoencoderOobleck``.
        video_text_length: Tokens of a video caption.
        audio_text_length: Tokens of an audio caption.
        storage: How the weights of towers, bridges and text encoders are kept.
        freed: Names of text encoders that are read from disk for the captions and let go of before all else.
        is_loaded: Whether the weights are in main memory already, those of ``freed`` excepted.
    """

    name: str
    joint: JointModel | None
    video_text: nn.Module | None
    audio_text: nn.ModuleList | None
    video_codec: WanVAECodec | None
    audio_vae: nn.Module | None
    video_text_length: int = OFFICIAL_TEXT_LENGTH
    audio_text_length: int = TEXT_LENGTH
    storage: str = "native"
    freed: tuple[str, ...] = ()
    is_loaded: bool = False
    packed: ClassVar[tuple[str, ...]] = PARTS[:5]
    tiles: ClassVar[bool] = True

    def parts(self) -> dict[str, nn.Module]:
        """Every module that is there, by the names of ``PARTS``."""
        modules = (
            *(getattr(self.joint, name, None) for name in ("video", "audio", "bridges")),
            self.video_text,
            self.audio_text,
            self.video_codec,
            self.audio_vae,
        )
        return {name: module for name, module in zip(PARTS, modules, strict=True) if module is not None}

    def used_in(self, part: str) -> tuple[str, ...]:
        """Captions are encoded, clips en- and decoded, and all else samples."""
        return _USED.get(part, ("sample",))

    def stages(self, work: Workload) -> tuple[str, ...]:
        """Those whose modules and latents are there."""
        picture = work.video_shape is not None and self.video_codec is not None
        sound = work.audio_shape is not None and self.audio_vae is not None
        present = {
            "encode video": picture and "video" in work.encoded,
            "encode audio": sound and "audio" in work.encoded,
            "encode": self.video_text is not None or self.audio_text is not None,
            "sample": self.joint is not None,
            "decode video": picture and "video" in work.decoded,
            "decode audio": sound and "audio" in work.decoded,
        }
        return tuple(stage for stage, is_there in present.items() if is_there)

    def cost(self, stage: str, work: Workload, *, batched: bool, tiling: str) -> Cost:
        """See :mod:`.costs`."""
        known, lengths = self.tensors(), (self.video_text_length, self.audio_text_length)
        if stage == "encode":
            return costs.encoding(zip((self.video_text, self.audio_text), lengths, strict=True))
        if stage == "sample":
            return costs.sampling(self.joint, work, lengths, batched, known)
        way, _, side = stage.partition(" ")
        if side == "video":
            count = {"encode": costs.encoding_video, "decode": costs.decoding_video}[way]
            return count(self.video_codec, work.video_shape, tiling, known)
        count = {"encode": costs.encoding_audio, "decode": costs.decoding_audio}[way]
        return count(self.audio_vae, work.audio_shape, known)

    @property
    def geometry(self) -> LatentGeometry:
        """Strides and channels of the codecs, the published ones where one is absent."""
        codec, vae, found = self.video_codec, self.audio_vae, LatentGeometry()
        if codec is not None:
            strides = {name: getattr(codec, name) for name in ("temporal_stride", "spatial_stride")}
            found = replace(found, video_channels=codec.latent_channels, **strides)
        if vae is not None:
            sound = {"audio_channels": vae.config.decoder_input_channels, "audio_hop": vae.hop_length}
            found = replace(found, sample_rate=vae.config.sampling_rate, **sound)
        return found

    def stored(self, storage: str, dtype: torch.dtype) -> Outline:
        """The same model with its weights kept in another way.

        fp8 is applied to the modules, so that the casts of each layer are counted; the packed forms of int8 and nf4
        cannot exist without numbers, so only their bytes are reckoned.
        """
        if storage in ("native", "auto") or storage == self.storage:
            return self
        joint, video, audio = (
            module and without_weights(module) for module in (self.joint, self.video_text, self.audio_text)
        )
        if storage == "fp8":
            parts = [joint and joint.video and joint.video.model, joint and joint.audio and joint.audio.model]
            for part in (*parts, joint and joint.bridges, video, audio and audio[0]):
                if part is not None:
                    store_fp8(part, dtype)
        return replace(self, joint=joint, video_text=video, audio_text=audio, storage=storage)


@torch.inference_mode(False)
def without_weights(module: nn.Module) -> nn.Module:
    """A copy of a loaded module on ``meta``; types, hooks and shared tensors are kept, no number is copied.

    Layers of int8 and nf4 weights become plain ones of the type they compute in.
    """
    memo: dict[int, Any] = unpacked(module)
    for tensor in (*module.parameters(), *module.buffers()):
        if id(tensor) not in memo:
            empty = torch.empty_like(tensor, device="meta")
            memo[id(tensor)] = nn.Parameter(empty, False) if isinstance(tensor, nn.Parameter) else empty
    twin = own_hooks(copy.deepcopy(module, memo))
    for part in twin.modules():  # whoever counts or watches real calls is not to see the dry ones
        part._forward_hooks.clear()
        part._forward_pre_hooks.clear()
    return twin


def outline_loaded(joint: JointModel, video: VideoParts | None, audio: AudioParts | None) -> Outline:
    """The outline of a model that is in memory; of text encoders that are read later, from their files' headers."""
    texts = [_text(side, later) for side, later in ((video, _video_text_later), (audio, _audio_text_later))]
    video_length, audio_length = _text_length(video, OFFICIAL_TEXT_LENGTH), _text_length(audio, TEXT_LENGTH)
    sides = {"video text": video, "audio text": audio}
    return Outline(
        " + ".join(side.name for side in (video, audio) if side is not None),
        without_weights(joint),
        *texts,
        video and type(video.codec)(rebuilt(video.codec.vae)),
        audio and rebuilt(audio.codec.vae),
        video_length,
        audio_length,
        packing_of(joint),
        tuple(name for name, side in sides.items() if side and isinstance(side.text, TextEncoderHandle)),
        is_loaded=True,
    )


def _text(
    side: VideoParts | AudioParts | None, later: Callable[[Any, Placement], nn.Module]
) -> nn.Module | nn.ModuleList | None:
    """A side's text encoder, as it is in memory or as it would be read."""
    if side is None:
        return None
    if not isinstance(side.text, TextEncoderHandle):
        projection = getattr(side.text, "projection", None)
        model = without_weights(side.text.model)
        return model if projection is None else nn.ModuleList([model, without_weights(projection)])
    if side.text.source is None:
        return None
    module = later(side.text.source, side.placement)
    if side.placement.storage == "fp8":
        store_fp8(module[0] if isinstance(module, nn.ModuleList) else module, side.placement.dtype)
    return module


def _text_length(side: VideoParts | AudioParts | None, usual: int) -> int:
    if side is None:
        return usual
    text = side.text
    if not isinstance(text, TextEncoderHandle):
        return text.max_length
    return text.text_length or (usual if text.source is None else _audio_text_length(text.source))


def outline_models(
    found: ModelSet,
    placement: Placement,
    *,
    bridge: Path | None = None,
    bridge_options: BridgeOptions | None = None,
) -> Outline:
    """The outline of models on disk: folders by their configurations, single files by their headers.

    Args:
        found: From :func:`~..weights.find.find_models`.
        placement: Gives the number types.
        bridge: The bridge file, or None for none.
        bridge_options: What the file does not say.

    Raises:
        MissingModelError, WeightsError: as the loaders.
    """
    dtype, codec_dtype = placement.dtype, type_of_codecs(placement)
    if isinstance(found.video, WanFiles):
        video = load_transformer(_HeaderOnly(found.video.transformer, "wan"), dtype)
        vae = load_vae(_HeaderOnly(found.video.vae, "wan_vae"), codec_dtype)
    else:
        classes = folder_classes(found.video, "wan")
        video = _from_folder(classes["transformer"], found.video / "transformer", dtype)
        vae = _from_folder(classes["vae"], found.video / "vae", codec_dtype)
    if isinstance(found.audio, StableAudioFiles):
        audio, oobleck, _ = load_checkpoint(_HeaderOnly(found.audio.checkpoint, "stable_audio"), dtype, codec_dtype)
    else:
        classes = folder_classes(found.audio, "stable_audio")
        audio = _from_folder(classes["transformer"], found.audio / "transformer", dtype)
        oobleck = _from_folder(classes["vae"], found.audio / "vae", codec_dtype)
    stack = outline_bridges(bridge, bridge_options).to(dtype) if bridge else None
    joint = _cast(
        JointModel(*(variant_of(TOWERS, module)(module) for module in (video, audio)), stack).eval(), placement
    )
    texts = _video_text_later(found.video, placement), _audio_text_later(found.audio, placement)
    name = " + ".join((found.video_path.name, found.audio_path.name))
    lengths = (text_length_of(found.video), _audio_text_length(found.audio))
    return Outline(name, joint, *texts, variant_of(CODECS, vae)(vae), oobleck, *lengths)


def _video_text_later(source: Path | WanFiles, placement: Placement) -> nn.Module:
    """The video text encoder as it would be read."""
    if isinstance(source, WanFiles):
        return _cast(load_umt5(_HeaderOnly(source.text_encoder, "umt5"), placement.dtype), placement)
    return _cast(
        _from_folder(folder_classes(source, "wan")["text_encoder"], source / "text_encoder", placement.dtype), placement
    )


def _audio_text_later(source: Path | StableAudioFiles, placement: Placement) -> nn.ModuleList:
    """The audio text encoder and its projection as they would be read."""
    from diffusers import StableAudioProjectionModel

    dtype = placement.dtype
    if isinstance(source, StableAudioFiles):
        _, _, projection = load_checkpoint(
            _HeaderOnly(source.checkpoint, "stable_audio"), dtype, type_of_codecs(placement)
        )
        parts = [load_t5(_HeaderOnly(source.text_encoder, "t5"), dtype), projection]
    else:
        projection = _from_folder(StableAudioProjectionModel, source / "projection_model", dtype)
        parts = [
            _from_folder(folder_classes(source, "stable_audio")["text_encoder"], source / "text_encoder", dtype),
            projection,
        ]
    return _cast(nn.ModuleList(parts), placement)


def _cast(module: nn.Module, placement: Placement) -> nn.Module:
    return nn.Module.to(module, placement.dtype) if placement.cast_everything else module


class _HeaderOnly(WeightFile):
    """A weight file whose tensors are empty ones of the right shape; the loaders build an outline from it."""

    def __init__(self, path: Path, kind: str) -> None:
        file = open_part(path, kind)
        super().__init__(file.path, file.infos, file.metadata)

    def tensor(self, name: str) -> Tensor:
        """An empty tensor."""
        return torch.empty(self.shape(name), device="meta")


def _from_folder(model_class: Any, folder: Path, dtype: torch.dtype) -> nn.Module:
    return typed(part_outline(model_class, folder, part_weights(folder))[1], dtype)


@torch.inference_mode(False)
def rebuilt(vae: nn.Module) -> nn.Module:
    """A codec anew from its configuration: old-style weight normalisation leaves tensors that cannot be copied."""
    with on_meta():
        return typed(type(vae).from_config(vae.config), vae.dtype)


def typed(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Types as the folder loaders give them: ``dtype``, and float32 where the class keeps it."""
    kept = kept_in_float32(module, dtype)
    for name, parameter in module.named_parameters():
        parameter.data = parameter.data.to(torch.float32 if kept.intersection(name.split(".")) else dtype)
    return module.eval().requires_grad_(False)


def type_of_codecs(placement: Placement) -> torch.dtype:
    """Of codecs: float32, unless everything is cast."""
    return placement.dtype if placement.cast_everything else torch.float32


def _audio_text_length(source: Path | StableAudioFiles) -> int:
    config = source / "tokenizer" / "tokenizer_config.json" if isinstance(source, Path) else None
    if config is None or not config.is_file():
        return TEXT_LENGTH
    said = read_json(config, what="the tokenizer's configuration", error=CorruptWeightsError)
    length = said.get("model_max_length", TEXT_LENGTH) if isinstance(said, dict) else None
    if type(length) is not int or not 0 < length <= MOST_TEXT_LENGTH:
        raise CorruptWeightsError(
            "the audio tokenizer states no length that can be",
            got=f"{length!r:.80} in {config}",
            expected=f"model_max_length up to {MOST_TEXT_LENGTH} (128 for Stable Audio Open)",
        )
    return length
