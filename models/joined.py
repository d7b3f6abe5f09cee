"""A joined model: towers, bridges, codecs and text encoders under one name, from files or from parts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.clock import LatentGeometry
from ..core.errors import InputError
from ..core.pair import MODALITIES
from .attention import AttentionKernel, use_kernel
from .joint import JointModel
from .lora.apply import LoraReport, with_lora
from .own import OwnSettings, joint_settings
from .patching import with_tuned_blocks
from .storage import store
from .weights.bridges import BridgeOptions, LoadedBridges, load_bridges
from .weights.find import find_models
from .weights.load import load_stable_audio, load_wan

if TYPE_CHECKING:
    from ..core.device import Placement
    from .codecs.oobleck import OobleckCodec
    from .codecs.wan_vae import WanVAECodec
    from .lora.files import LoraFile
    from .parts import AudioParts, VideoParts
    from .weights.find import ModelSet


@dataclass(frozen=True)
class JoinedModel:
    """Towers, bridges, codecs and text encoders that belong together.

    Args:
        joint: What the sampler drives.
        video: Video side or None.
        audio: Audio side or None.
        placement: Where it runs.
        bridges: The bridge file's summary, or None without bridges.
        bridges_trained: False for bridges that only show the form.
        loras: What was laid beside the layers, in the order of loading.
    """

    joint: JointModel
    video: VideoParts | None
    audio: AudioParts | None
    placement: Placement
    bridges: str | None = None
    bridges_trained: bool = True
    loras: tuple[LoraReport, ...] = ()

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
        return geometry_of(self.video and self.video.codec, self.audio and self.audio.codec)

    @property
    def description(self) -> str:
        """One line for the user."""
        names = [f"{parts.name}" for parts in (self.video, self.audio) if parts is not None]
        told = [" + ".join(names), self.bridges or "no bridges", *(f"LoRA {lora.summary()}" for lora in self.loras)]
        return "; ".join(told) + ("" if self.trained else "; UNTRAINED weights")


def geometry_of(video_codec: WanVAECodec | None, audio_codec: OobleckCodec | None) -> LatentGeometry:
    """The latent geometry of a pair of codecs; Wan 2.1's and Stable Audio Open's where one is absent."""
    default = LatentGeometry()
    return LatentGeometry(
        video_channels=video_codec.latent_channels if video_codec else default.video_channels,
        temporal_stride=video_codec.temporal_stride if video_codec else default.temporal_stride,
        spatial_stride=video_codec.spatial_stride if video_codec else default.spatial_stride,
        audio_channels=audio_codec.latent_channels if audio_codec else default.audio_channels,
        audio_hop=audio_codec.hop if audio_codec else default.audio_hop,
        sample_rate=audio_codec.sample_rate if audio_codec else default.sample_rate,
    )


def load_models(
    models: str | Path | ModelSet = "pocket",
    *,
    placement: Placement,
    bridge: str | Path = "auto",
    bridge_options: BridgeOptions | None = None,
    free_text: bool = False,
) -> JoinedModel:
    """Load both towers and the bridges from one folder.

    Args:
        models: ``pocket`` for the bundled model, a folder or a hub id as :func:`find_models` takes it, or what it gave.
        placement: Device, dtype, offload, kernel.
        bridge: A file, ``none``, or ``auto`` for the one beside the towers.
        bridge_options: What a bridge file without metadata does not say.
        free_text: Read the text encoders when they are used and let go of them afterwards.

    Raises:
        MissingModelError, WeightsError: see the messages.
    """
    found = find_models(models)
    chosen = found.bridge if str(bridge) == "auto" else None if str(bridge) == "none" else Path(bridge)
    bridges = load_bridges(chosen, bridge_options) if chosen else None
    video = load_wan(found.video, placement, free_text=free_text)
    return join_towers(video, load_stable_audio(found.audio, placement, free_text=free_text), bridges)


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
    return JoinedModel(
        joint, video, audio, placement, bridges.summary() if bridges else None, not bridges or bridges.trained
    )


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


def add_lora(model: JoinedModel, lora: LoraFile, strength: float = 1.0, *, part: str | None = None) -> JoinedModel:
    """The model with a LoRA beside its layers; the given model stays as it is and shares its weights.

    Args:
        model: With or without LoRAs; the order in which several are added does not matter.
        lora: From :func:`~.lora.files.read_lora`.
        strength: Factor of the change.
        part: "video", "audio" or "bridge" to insist on one; None takes the part whose layers the file names.

    Raises:
        InputError, WeightsError: see :func:`~.lora.apply.with_lora`.
    """
    joint, report = with_lora(model.joint, lora, strength, part=part)
    return replace(model, joint=joint, loras=(*model.loras, report))
