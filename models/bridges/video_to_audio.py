"""Unidirectional cross-attention: the sound hears the picture (BridgeDiT section 3.3)."""

from __future__ import annotations

from . import BRIDGES
from ._one_way import OneWayBridge


@BRIDGES.register("video_to_audio")
class VideoToAudioBridge(OneWayBridge):
    """Audio queries attend to video keys and values. The official name of this kind is ``v2a``."""

    listeners = frozenset({"audio"})
