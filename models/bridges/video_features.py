"""SyncFlow without its adaptor: the sound attends to the picture's features as they are (an ablation, its Table 4)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ..towers.base import TokenGrid
from . import BRIDGES
from ._into_audio import IntoAudioBridge
from .config import BridgeConfig


@BRIDGES.register("video_features")
class VideoFeaturesBridge(IntoAudioBridge):
    """As ``modality_adaptor``, with keys and values straight from the normalised video stream."""

    @staticmethod
    def source_width(config: BridgeConfig) -> int:
        """The picture's own."""
        return config.video_width

    @classmethod
    def video_width_of(cls, block: Mapping[str, Tensor]) -> int:
        """By the keys."""
        return block["cross.k_proj.weight"].shape[1]

    def read(self, features: Tensor, grid: TokenGrid) -> Tensor:
        """The features."""
        return features
