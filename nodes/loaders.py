"""Nodes that load the towers and the bridge, and join them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.device import ATTENTION_KERNELS, DTYPE_NAMES, OFFLOAD_CHOICES, STORAGES, Placement, resolve_placement
from ..core.progress import stoppable
from ..models.bridges import BRIDGES
from ..models.points import PLACEMENTS
from ..models.ropes import ROPES
from .host import default_device, io, progress
from .host.folders import list_models, resolve_model, why_not_listed
from .listing import ADVANCED, listing
from .sockets import CATEGORY, AudioCodec, AudioText, AudioTower, Bridge, JointModel, VideoCodec, VideoText, VideoTower
from .telling import told
from .wiring import idle_bridge, incomplete

if TYPE_CHECKING:
    from ..models.parts import AudioParts, VideoParts
    from ..models.weights.bridges import LoadedBridges

FUSION_FROM_FILE = "from file"
PLACEMENT_FROM_FILE = "from file"
ROPE_FROM_FILE = "from file"
FREE_TEXT = "free after use"
TEXT_ENCODER_CHOICES = ("keep", FREE_TEXT)
# Under this name the page finds the plan in a node's results.
PLAN_KEY = "sounding_video_plan"


def _placement_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "dtype",
            options=list(DTYPE_NAMES),
            default="auto",
            tooltip="Number type of the weights. auto: bfloat16 on cards that compute in it, float32 on a CPU. "
            "official-bf16 rounds everything as the published system does.",
            **ADVANCED,
        ),
        io.Combo.Input(
            "attention",
            options=list(ATTENTION_KERNELS),
            default="auto",
            tooltip="Attention kernel. auto picks one that runs here; an explicit one runs or says why it cannot.",
            **ADVANCED,
        ),
        io.Combo.Input(
            "offload",
            options=list(OFFLOAD_CHOICES),
            default="auto",
            tooltip="none keeps the model on the device; model, group and sequential keep less and less of it there. "
            "auto picks the fastest that fits when the clip's size is known, and says which.",
        ),
    ]


def _memory_inputs() -> list[io.Input]:
    """Stand after the others: inputs are only ever appended."""
    return [
        io.Combo.Input(
            "storage",
            options=list(STORAGES),
            default="native",
            optional=True,
            tooltip="How weights are kept between uses. fp8 takes half of 16-bit weights and rounds them; int8 needs "
            "torchao and nf4 needs bitsandbytes. auto stays native.",
            **ADVANCED,
        ),
        io.Combo.Input(
            "text_encoder",
            options=list(TEXT_ENCODER_CHOICES),
            default="keep",
            optional=True,
            tooltip="free after use reads the caption encoder from disk for each new caption and lets go of it "
            "afterwards; known captions need no encoder.",
            **ADVANCED,
        ),
    ]


def _placement(dtype: str, attention: str, offload: str, storage: str) -> Placement:
    return resolve_placement(
        device=default_device(), dtype=dtype, attention=attention, offload=offload, storage=storage
    )


class LoadWanTower(io.ComfyNode):
    """Node T2SVLoadWanTower."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="T2SVLoadWanTower",
            display_name="Load Wan Tower",
            category=f"{CATEGORY}/loaders",
            description="Loads Wan 2.1 (diffusers folder): the video tower, its UMT5 caption encoder and its VAE.",
            **listing("T2SVLoadWanTower"),
            inputs=[
                io.Combo.Input(
                    "video_model",
                    options=list_models("wan"),
                    default="pocket",
                    tooltip="pocket is the bundled small model. Others: Wan 2.1 diffusers folders in "
                    "models/sounding_video or models/diffusers.",
                ),
                *_placement_inputs(),
                *_memory_inputs(),
            ],
            outputs=[
                VideoTower.Output(
                    "video_tower", display_name="video_tower", tooltip="The video tower, for Join Towers."
                ),
                VideoText.Output(
                    "video_text_encoder", display_name="video_text_encoder", tooltip="UMT5, for Encode Captions."
                ),
                VideoCodec.Output(
                    "video_codec", display_name="video_codec", tooltip="The Wan VAE, for Empty AV Latent and Decode AV."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, video_model: str | None = None) -> bool | str:
        """Say why a model is not on the list; a linked name arrives as None."""
        return why_not_listed("video_model", video_model)

    @classmethod
    def execute(
        cls,
        video_model: str,
        *,
        dtype: str,
        attention: str,
        offload: str,
        storage: str = "native",
        text_encoder: str = "keep",
    ) -> io.NodeOutput:
        """Load the folder."""
        from ..models.weights.load import load_wan

        placement = _placement(dtype, attention, offload, storage)
        source = resolve_model("wan", video_model)
        with stoppable(progress()):
            parts = load_wan(source, placement, free_text=text_encoder == FREE_TEXT)
        return io.NodeOutput(parts, parts, parts)


class LoadStableAudioTower(io.ComfyNode):
    """Node T2SVLoadStableAudioTower."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="T2SVLoadStableAudioTower",
            display_name="Load Stable Audio Tower",
            category=f"{CATEGORY}/loaders",
            description="Loads Stable Audio Open (diffusers folder): audio tower, T5 caption encoder and VAE.",
            **listing("T2SVLoadStableAudioTower"),
            inputs=[
                io.Combo.Input(
                    "audio_model",
                    options=list_models("stable_audio"),
                    default="pocket",
                    tooltip="pocket is the bundled small model. Others: Stable Audio Open diffusers folders in "
                    "models/sounding_video or "
                    "models/diffusers.",
                ),
                *_placement_inputs(),
                *_memory_inputs(),
            ],
            outputs=[
                AudioTower.Output(
                    "audio_tower", display_name="audio_tower", tooltip="The audio tower, for Join Towers."
                ),
                AudioText.Output(
                    "audio_text_encoder", display_name="audio_text_encoder", tooltip="T5, for Encode Captions."
                ),
                AudioCodec.Output(
                    "audio_codec",
                    display_name="audio_codec",
                    tooltip="The Oobleck VAE, for Empty AV Latent and Decode AV.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, audio_model: str | None = None) -> bool | str:
        """Say why a model is not on the list; a linked name arrives as None."""
        return why_not_listed("audio_model", audio_model)

    @classmethod
    def execute(
        cls,
        audio_model: str,
        *,
        dtype: str,
        attention: str,
        offload: str,
        storage: str = "native",
        text_encoder: str = "keep",
    ) -> io.NodeOutput:
        """Load the folder."""
        from ..models.weights.load import load_stable_audio

        placement = _placement(dtype, attention, offload, storage)
        source = resolve_model("stable_audio", audio_model)
        with stoppable(progress()):
            parts = load_stable_audio(source, placement, free_text=text_encoder == FREE_TEXT)
        return io.NodeOutput(parts, parts, parts)


class LoadBridge(io.ComfyNode):
    """Node T2SVLoadBridge."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="T2SVLoadBridge",
            display_name="Load Bridge (DCA)",
            category=f"{CATEGORY}/loaders",
            description="Loads the bridges between the two towers; DCA is dual cross-attention.",
            **listing("T2SVLoadBridge"),
            inputs=[
                io.Combo.Input(
                    "bridge_file",
                    options=list_models("bridge"),
                    default="pocket",
                    tooltip="pocket is the bundled bridge. Others: bridge files in models/sounding_video, "
                    "also the published checkpoints.",
                ),
                io.Combo.Input(
                    "fusion",
                    options=[FUSION_FROM_FILE, *BRIDGES.names()],
                    default=FUSION_FROM_FILE,
                    tooltip="How the bridges fuse. Four kinds share every weight name, so a published file that "
                    "does not state its kind needs a choice here: bicross files are dual_cross.",
                ),
                io.Combo.Input(
                    "placement",
                    options=[PLACEMENT_FROM_FILE, *PLACEMENTS],
                    default=PLACEMENT_FROM_FILE,
                    optional=True,
                    tooltip="After which blocks the bridges stand, by the names of the paper's Table 7. 'late' is kept "
                    "as printed and lies past the towers; late_shifted is the one that fits. layerwise is "
                    "SyncFlow's, interleaved_8 is AV-Link's.",
                    **ADVANCED,
                ),
                io.Combo.Input(
                    "rope",
                    options=[ROPE_FROM_FILE, *ROPES.names()],
                    default=ROPE_FROM_FILE,
                    optional=True,
                    tooltip="Positions that the bridges were trained with, for files that do not say it. Published "
                    "files are official; clock puts pictures where they sound, and so does token_clock, which "
                    "counts in latent frames as AV-Link does.",
                    **ADVANCED,
                ),
            ],
            outputs=[
                Bridge.Output(
                    "bridge",
                    display_name="bridge",
                    tooltip="The bridges and the tower blocks trained with them, for Join Towers.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, bridge_file: str | None = None) -> bool | str:
        """Say why a bridge is not on the list; a linked name arrives as None."""
        return why_not_listed("bridge_file", bridge_file)

    @classmethod
    def execute(
        cls, bridge_file: str, fusion: str, placement: str = PLACEMENT_FROM_FILE, rope: str = ROPE_FROM_FILE
    ) -> io.NodeOutput:
        """Read the file."""
        from ..models.points import placement as named_placement
        from ..models.weights.bridges import BridgeOptions, load_bridges

        options = BridgeOptions(
            fusion=None if fusion == FUSION_FROM_FILE else fusion,
            points=None if placement == PLACEMENT_FROM_FILE else named_placement(placement),
            rope=None if rope == ROPE_FROM_FILE else rope,
        )
        path = resolve_model("bridge", bridge_file)
        with stoppable(progress()):
            bridges = load_bridges(path, options)
        return io.NodeOutput(bridges, ui=told(bridges.summary(), as_text=True))


class JoinTowers(io.ComfyNode):
    """Node T2SVJoinTowers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs, outputs and texts."""
        return io.Schema(
            node_id="T2SVJoinTowers",
            display_name="Join Towers",
            category=f"{CATEGORY}/loaders",
            description="Joins the towers through the bridge. One tower alone, or two without a bridge, work too. "
            "Shows how long the clip that the model was made for takes, and whether it fits the memory.",
            **listing("T2SVJoinTowers"),
            inputs=[
                VideoTower.Input(
                    "video_tower", optional=True, tooltip="From Load Wan Tower; leave open to make sound only."
                ),
                AudioTower.Input(
                    "audio_tower",
                    optional=True,
                    tooltip="From Load Stable Audio Tower; leave open to make a silent video.",
                ),
                Bridge.Input(
                    "bridge",
                    optional=True,
                    tooltip="From Load Bridge; leave open and the towers run side by side, unaware of each other.",
                ),
            ],
            outputs=[
                JointModel.Output("model", display_name="model", tooltip="The joint model, for the Joint Sampler.")
            ],
        )

    @classmethod
    def execute(
        cls,
        video_tower: VideoParts | None = None,
        audio_tower: AudioParts | None = None,
        bridge: LoadedBridges | None = None,
    ) -> io.NodeOutput:
        """Join what is connected."""
        from ..forecast import forecast_of
        from ..pipeline import join_towers

        with stoppable(progress()):
            if video_tower is None and audio_tower is None:
                raise incomplete(
                    "there is nothing to join", connect="Load Wan Tower, Load Stable Audio Tower or both to this node"
                )
            model = join_towers(video_tower, audio_tower, bridge)
            said = told(idle_bridge(video_tower, audio_tower, bridge))
            return io.NodeOutput(model, ui={PLAN_KEY: [forecast_of(model)], **said})
