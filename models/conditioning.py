"""Captions to conditioning: what each tower is told, and whether it is told the duration as tokens too."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ..core.errors import InputError
from ..core.protocols import TextEncoder
from ..core.types import ModalityConditioning


class SoundTextEncoder(TextEncoder, Protocol):
    """A text encoder that also embeds durations, as :class:`~.text.t5.T5TextEncoder` does."""

    def duration(self, seconds_start: float, seconds_end: float, batch: int = 1) -> Tensor:
        """``(B, 1, 2D)``."""
        ...

    def duration_tokens(self, seconds_start: float, seconds_end: float, batch: int = 1) -> Tensor:
        """``(B, 2, D)``."""
        ...


def encode_video(
    encoder: TextEncoder, positive: str | list[str], negative: str | list[str] | None
) -> ModalityConditioning:
    """Encode the video tower's captions.

    Args:
        encoder: ``umt5`` or another video text encoder.
        positive: What to show; one caption, or one for each clip of a batch.
        negative: What to avoid: one for all or one for each; ``""`` is a choice; None turns guidance off.

    Raises:
        InputError: an empty caption, or lists of different lengths.
    """
    positives, negatives = _captions("video", positive, negative)
    # One after the other: a caption's embedding must not depend on whether guidance is on.
    return ModalityConditioning(
        positive=encoder.encode(positives), negative=None if negatives is None else encoder.encode(negatives)
    )


def encode_audio(
    encoder: SoundTextEncoder,
    positive: str | list[str],
    negative: str | list[str] | None,
    *,
    seconds: float,
    duration_tokens: bool = False,
) -> ModalityConditioning:
    """Encode the audio tower's captions and the clip's duration.

    Args:
        encoder: ``t5`` or another audio text encoder.
        positive: What to hear; one caption, or one for each clip of a batch.
        negative: What to avoid: one for all or one for each; ``""`` is a choice; None turns guidance off.
        seconds: Length of the clip; the sound starts at 0.
        duration_tokens: False is the published joint system: cross-attention reads the text only and the duration
            comes in through the global token. True is stock Stable Audio, which appends two duration tokens
            to the text (BridgeDiT reference, section 4).

    Raises:
        InputError: an empty caption, or lists of different lengths.
        NonFiniteError: a duration that is NaN or infinite.
        GeometryError: a duration that the audio model does not know.
    """
    positives, negatives = _captions("audio", positive, negative)
    batch = len(positives)
    duration = encoder.duration(0.0, seconds, batch)

    def embed(texts: list[str]) -> Tensor:
        text = encoder.encode(texts)
        return torch.cat([text, encoder.duration_tokens(0.0, seconds, batch)], dim=1) if duration_tokens else text

    return ModalityConditioning(
        positive=embed(positives), negative=None if negatives is None else embed(negatives), duration=duration
    )


def _captions(
    name: str, positive: str | list[str], negative: str | list[str] | None
) -> tuple[list[str], list[str] | None]:
    positives = [positive] if isinstance(positive, str) else positive
    if not positives or not all(text.strip() for text in positives):
        raise InputError(
            f"the {name} caption is empty",
            got=repr(positive),
            expected="a description",
            remedy="Write what the clip should contain.",
        )
    if negative is None:
        return positives, None
    negatives = [negative] * len(positives) if isinstance(negative, str) else negative
    if len(negatives) != len(positives):
        raise InputError(
            f"the {name} captions do not pair up",
            got=f"{len(negatives)} negative for {len(positives)} positive",
            expected="one negative for all, or one for each",
        )
    return positives, negatives
