"""Unidirectional cross-attention: the sound hears the picture (BridgeDiT section 3.3)."""

from __future__ import annotations

from . import BRIDGES
from ._one_way import OneWayBridge
from .base import BridgeConfig


@BRIDGES.register("video_to_audio")
class VideoToAudioBridge(OneWayBridge):
    """Audio queries attend to video keys and values. The official name of this kind is ``v2a``."""

    def __init__(self, config: BridgeConfig) -> None:
        super().__init__(config, listener=2)
