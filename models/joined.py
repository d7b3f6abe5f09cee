"""A joined model: towers, bridges, codecs and text encoders under one name, from files or from parts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from ..core.clock import ClipTimes, LatentGeometry
from ..core.errors import InputError
from ..core.pair import MODALITIES, Pair
from .attention import AttentionKernel, use_kernel
from .bridges import why_deaf
from .families.base import FamilyModel
from .joint import JointModel
from .lora.apply import LoraReport, with_lora
from .own import OwnSettings, joint_settings
from .patching import with_tuned_blocks
from .placement import running
from .plan.duration import sampling_seconds
from .plan.outline import Outline, outline_loaded, without_weights
from .storage import packing_of, store

if TYPE_CHECKING:
    from ..core.device import Placement
    from ..core.protocols import AudioCodec, Denoiser, VideoCodec
    from .bridge_use import BridgeUse
    from .lora.files import LoraFile
    from .parts import AudioParts, VideoParts
    from .plan.base import ModelOutline, Workload
    from .text._encoder import PromptEncoder
    from .text._handle import TextEncoderHandle
    from .weights.bridges import LoadedBridges


@dataclass(frozen=True)
class JoinedModel(FamilyModel):
    """Towers, bridges, codecs and text encoders that belong together: what the family ``bridged`` gives.

    Args:
        joint: What the sampler drives.
        video: Video side or None.
        audio: Audio side or None.
        placement: Where it runs.
        bridges: The bridge file's summary, or None without bridges.
        bridges_trained: False for bridges that only show the form.
        loras: What was laid beside the layers, in the order of loading.
        use: What the bridges were trained for; None where their file does not say it.
    """

    joint: JointModel
    video: VideoParts | None
    audio: AudioParts | None
    placement: Placement
    bridges: str | None = None
    bridges_trained: bool = True
    loras: tuple[LoraReport, ...] = ()
    use: BridgeUse | None = None
    walked: ClassVar[bool] = True

    @property
    def trained(self) -> bool:
        """False when any part is random and only shows the form."""
        return self.bridges_trained and all(parts.trained for parts in (self.video, self.audio) if parts is not None)

    @property
    def own(self) -> OwnSettings:
        """What the towers were made for."""
        return joint_settings(self.video and self.video.own, self.audio and self.audio.own)

    @property
    def hears(self) -> frozenset[str]:
        """The modalities that receive something from the other one."""
        stack = self.joint.bridges
        return frozenset() if stack is None else frozenset(side for side in MODALITIES if stack.hears(side))

    @property
    def geometry(self) -> LatentGeometry:
        """Strides and channels, read from the codecs."""
        return geometry_of(*self.codecs)

    @property
    def sides(self) -> Pair[VideoParts | AudioParts]:
        """As they were loaded."""
        return Pair(self.video, self.audio)

    @property
    def texts(self) -> Pair[PromptEncoder | TextEncoderHandle]:
        """Each side's own."""
        return self.sides.map(lambda side: side.text)

    @property
    def codecs(self) -> Pair[VideoCodec | AudioCodec]:
        """Each side's own."""
        return self.sides.map(lambda side: side.codec)

    @property
    def root(self) -> JointModel:
        """Towers and bridges."""
        return self.joint

    def makes(self, modality: str) -> bool:
        """Whether there is a tower for it."""
        return getattr(self, modality) is not None

    def denoiser(self, times: ClipTimes | None) -> Denoiser:
        """The joint model; its bridges are told when the latent steps lie."""
        return partial(self.joint, times=times)

    def resident(self, placement: Placement) -> AbstractContextManager[JointModel]:
        """Whole, or streamed block by block."""
        return running(self.joint, placement)

    def why_deaf(self, modality: str) -> tuple[str, str]:
        """Which kinds of bridges lead there."""
        return why_deaf(modality, bridged=self.joint.bridges is not None)

    def outline(self) -> ModelOutline:
        """Towers, bridges, text encoders and codecs."""
        return outline_loaded(self.joint, self.video, self.audio)

    def sampling_outline(self, text_lengths: tuple[int, int]) -> ModelOutline:
        """Towers and bridges."""
        return Outline("", without_weights(self.joint), None, None, None, None, *text_lengths, packing_of(self.joint))

    def sampling_seconds(self, work: Workload, *, num_steps: int, passes: int) -> float:
        """That of the video tower, which takes nearly all of the time."""
        if self.joint.video is None or work.video_shape is None:
            return 0.0
        return sampling_seconds(self.joint.video, work.video_shape, self.placement, passes=num_steps * passes)

    def alone(self, modality: str) -> JoinedModel:
        """One tower, with the LoRAs that lie beside it."""
        if not self.makes(modality):
            what = f"there is no {modality} tower in this model"
            raise InputError(what, got=self.description, expected=f"a model with a {modality} tower")
        sides = {side: getattr(self, side) if side == modality else None for side in MODALITIES}
        towers = [getattr(self.joint, side) if side == modality else None for side in MODALITIES]
        loras = tuple(lora for lora in self.loras if lora.part == modality)
        joint = JointModel(*towers).eval()
        return replace(self, joint=joint, **sides, bridges=None, bridges_trained=True, use=None, loras=loras)

    def with_lora(self, lora: LoraFile, strength: float = 1.0, *, part: str | None = None) -> JoinedModel:
        """See :func:`add_lora`."""
        joint, report = with_lora(self.joint, lora, strength, part=part)
        return replace(self, joint=joint, loras=(*self.loras, report))

    @property
    def description(self) -> str:
        """One line for the user."""
        names = [f"{parts.name}" for parts in (self.video, self.audio) if parts is not None]
        told = [" + ".join(names), self.bridges or "no bridges", *(f"LoRA {lora.summary()}" for lora in self.loras)]
        return "; ".join(told) + ("" if self.trained else "; UNTRAINED weights")


def geometry_of(video_codec: VideoCodec | None, audio_codec: AudioCodec | None) -> LatentGeometry:
    """The latent geometry of a pair of codecs; Wan 2.1's and Stable Audio Open's where one is absent.

    A codec whose latents have another form brings its geometry along.
    """
    for codec in (video_codec, audio_codec):
        own = getattr(codec, "geometry", None)
        if isinstance(own, LatentGeometry):
            return own
    default = LatentGeometry()
    return LatentGeometry(
        video_channels=video_codec.latent_channels if video_codec else default.video_channels,
        temporal_stride=video_codec.temporal_stride if video_codec else default.temporal_stride,
        spatial_stride=video_codec.spatial_stride if video_codec else default.spatial_stride,
        audio_channels=audio_codec.latent_channels if audio_codec else default.audio_channels,
        audio_hop=audio_codec.hop if audio_codec else default.audio_hop,
        sample_rate=audio_codec.sample_rate if audio_codec else default.sample_rate,
    )


def join_towers(
    video: VideoParts | None, audio: AudioParts | None, bridges: LoadedBridges | None = None
) -> JoinedModel:
    """Put towers and bridges under one root; fine-tuned blocks of the bridge file go into copies of those blocks.

    Raises:
        InputError: no tower, or towers that were loaded for different places.
        IncompatibleWeightsError: bridges that do not fit the towers.
    """
    sides = [parts for parts in (video, audio) if parts is not None]
    if not sides:
        raise InputError("there is nothing to join", expected="a video tower, an audio tower or both")
    whole = next((parts for parts in sides if parts.tower is None), None)
    if whole is not None:
        got = f"parts of {whole.name}, which makes picture and sound by itself"
        raise InputError("there is no tower to join", got=got, expected="towers of models that are made of two")
    placement = _common_placement([parts.placement for parts in sides])
    towers = {"video": video and video.tower, "audio": audio and audio.tower}
    for modality, weights in (bridges.tower_weights if bridges else {}).items():
        if towers[modality] is not None:
            towers[modality] = with_tuned_blocks(towers[modality], weights)
    stack = bridges.stack.to(placement.dtype) if bridges else None
    if stack is not None:
        # The file's own stack stays as it is: it may be joined again with another storage.
        stack = stack if placement.storage == "native" else store(copy.deepcopy(stack), placement)
        use_kernel(stack, AttentionKernel(placement.attention))
    joint = JointModel(towers["video"], towers["audio"], stack).eval()
    told = None if bridges is None else bridges.summary()
    trained, use = (True, None) if bridges is None else (bridges.trained, bridges.use)
    return JoinedModel(joint, video, audio, placement, told, trained, use=use)


def _common_placement(placements: Sequence[Placement]) -> Placement:
    """Where joined towers run; each keeps its weights as it was loaded, be that fp8 on one side only.

    Raises:
        InputError: another difference, which is named; weights packed by a library go with none but their own kind.
    """
    first, last = placements[0], placements[-1]
    names = [field.name for field in fields(first) if getattr(first, field.name) != getattr(last, field.name)]
    storages = {first.storage, last.storage}
    if names == ["storage"] and storages <= {"native", "fp8"}:
        return replace(first, storage="native")  # of what belongs to neither side: the bridges stay exact
    if names:
        raise InputError(
            "the two towers were loaded differently",
            got=", ".join(f"{name} {getattr(first, name)} and {getattr(last, name)}" for name in names),
            expected="the same dtype, attention and offload on both loaders, and the same storage or fp8 with native",
        )
    return first


def add_lora(model: FamilyModel, lora: LoraFile, strength: float = 1.0, *, part: str | None = None) -> FamilyModel:
    """The model with a LoRA beside its layers; the given model stays as it is and shares its weights.

    Args:
        model: With or without LoRAs; the order in which several are added does not matter.
        lora: From :func:`~.lora.files.read_lora`.
        strength: Factor of the change.
        part: "video", "audio" or "bridge" to insist on one; None takes the part whose layers the file names.

    Raises:
        InputError, WeightsError: see :func:`~.lora.apply.with_lora`; a family that takes no LoRA.
    """
    return model.with_lora(lora, strength, part=part)
