"""What a loader gives: a tower with its codec and text encoder, ready to be joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .own import PUBLISHED, OwnSettings

if TYPE_CHECKING:
    from ..core.device import Placement
    from .codecs.oobleck import OobleckCodec
    from .codecs.wan_vae import WanVAECodec
    from .text.t5 import T5TextEncoder
    from .text.umt5 import UMT5TextEncoder
    from .towers.base import Tower


@dataclass(frozen=True)
class VideoParts:
    """Everything of the video side.

    Args:
        tower: Video tower.
        codec: Between frames and latents.
        text: Caption encoder.
        placement: Where and how these run.
        name: Shown to the user.
        trained: False for weights that are random and only show the form.
        own: What the model was made for.
    """

    tower: Tower
    codec: WanVAECodec
    text: UMT5TextEncoder
    placement: Placement
    name: str
    trained: bool = True
    own: OwnSettings = PUBLISHED


@dataclass(frozen=True)
class AudioParts:
    """Everything of the audio side; fields as in :class:`VideoParts`."""

    tower: Tower
    codec: OobleckCodec
    text: T5TextEncoder
    placement: Placement
    name: str
    trained: bool = True
    own: OwnSettings = PUBLISHED
