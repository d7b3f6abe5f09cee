"""Unidirectional cross-attention: the picture hears the sound (BridgeDiT section 3.3)."""

from __future__ import annotations

from . import BRIDGES
from ._one_way import OneWayBridge


@BRIDGES.register("audio_to_video")
class AudioToVideoBridge(OneWayBridge):
    """Video queries attend to audio keys and values. The official name of this kind is ``a2v``."""

    listeners = frozenset({"video"})
