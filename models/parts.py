"""What a loader gives: a tower with its codec and text encoder, ready to be joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .own import PUBLISHED, OwnSettings

if TYPE_CHECKING:
    from ..core.device import Placement
    from ..core.protocols import AudioCodec, VideoCodec
    from .text._encoder import PromptEncoder
    from .text._handle import TextEncoderHandle
    from .towers.base import Tower


@dataclass(frozen=True)
class VideoParts:
    """Everything of the video side.

    Args:
        tower: Video tower; None of a model that is no pair of towers, and where only the codec was asked for.
        codec: Between frames and latents.
        text: Caption encoder; None where only the codec was asked for.
        placement: Where and how these run.
        name: Shown to the user.
        trained: False for weights that are random and only show the form.
        own: What the model was made for.
    """

    tower: Tower | None
    codec: VideoCodec
    text: PromptEncoder | TextEncoderHandle | None
    placement: Placement
    name: str
    trained: bool = True
    own: OwnSettings = PUBLISHED


@dataclass(frozen=True)
class AudioParts:
    """Everything of the audio side; fields as in :class:`VideoParts`."""

    tower: Tower | None
    codec: AudioCodec
    text: PromptEncoder | TextEncoderHandle | None
    placement: Placement
    name: str
    trained: bool = True
    own: OwnSettings = PUBLISHED
