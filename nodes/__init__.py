"""The nodes: each is one stage of the pipeline behind a V3 schema. ComfyUI is reached only through ``nodes.host``."""

from __future__ import annotations

from .alignment import ConditionOnPicture, ConditionOnSound, LoadAlignment
from .captions import CaptionVideo, EditAnchors, ExpandPrompt, anchors_problem
from .conditioning import EmptyAVLatent, EncodeCaptions
from .decode import DecodeAV
from .download import DownloadModels
from .encode import EncodeClip
from .evaluation import SyncReport
from .host import ComfyExtension, answer_posts, io, rename_nodes
from .joining import JoinClips
from .loaders import JoinTowers, LoadBridge, LoadStableAudioTower, LoadWanTower
from .lora import LoadLora
from .native import NativeSampler
from .output import Mux
from .pav_dit import LoadPavDit
from .renames import RENAMES
from .sampling import JointSampler

NODES: tuple[type[io.ComfyNode], ...] = (
    LoadWanTower,
    LoadStableAudioTower,
    LoadBridge,
    JoinTowers,
    EncodeCaptions,
    EmptyAVLatent,
    JointSampler,
    DecodeAV,
    Mux,
    ExpandPrompt,
    EditAnchors,
    CaptionVideo,
    LoadLora,
    NativeSampler,
    SyncReport,
    DownloadModels,
    EncodeClip,
    JoinClips,
    LoadPavDit,
    LoadAlignment,
    ConditionOnPicture,
    ConditionOnSound,
)


class SoundingVideoExtension(ComfyExtension):
    """What ComfyUI asks for our nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Every node class."""
        return list(NODES)

    async def on_load(self) -> None:
        """Called once by ComfyUIs that have something to say renames to."""
        await rename_nodes(RENAMES)


def extension() -> SoundingVideoExtension:
    """The object that ``comfy_entrypoint`` gives to ComfyUI; the page may ask whether edited anchors can be read."""
    answer_posts("/sounding_video/anchors", anchors_problem)
    return SoundingVideoExtension()
