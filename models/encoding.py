"""Encoding the captions of a clip: from the cache where they are known, else by encoders that fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.device import Placement
from ..core.dialect import Text
from ..core.progress import SILENT, Progress
from ..core.types import ModalityConditioning
from .conditioning import REMEMBERED, ConditioningCache, encode_audio, encode_video
from .counting import counted
from .plan.fit import How
from .plan.runs import encoding
from .text._encoder import PromptEncoder
from .text._handle import TextEncoderHandle, fingerprint_encoder

Texts = tuple[Text, Text | None]


def encode_cached(
    encoders: Sequence[PromptEncoder | TextEncoderHandle | None],
    texts: Sequence[Texts],
    *,
    seconds: float,
    placement: Placement,
    progress: Progress = SILENT,
    cache: ConditioningCache = REMEMBERED,
) -> list[ModalityConditioning | None]:
    """Conditioning of video and audio. What is known is taken from the cache: its encoder is neither read nor moved.

    Empty captions are encoded; who must not have them refuses them before.

    Args:
        encoders: Video and audio text encoder; None leaves a modality out. A handle's encoder is let go of afterwards.
        texts: Caption and negative of each.
        seconds: Length the audio tower is told.
        placement: Where the encoders run.
        progress: One unit a block of an encoder and text; one for what is known.
        cache: Where encoded captions are kept.
    """
    keys = [encoder and _key(encoder, text, placement, seconds) for encoder, text in zip(encoders, texts, strict=True)]
    results = [key and cache.get(*key) for key in keys]
    units = [
        0 if encoder is None else 1 if result is not None else 2 * len(_blocks(encoder))
        for encoder, result in zip(encoders, results, strict=True)
    ]
    done = 0
    for index, encoder in enumerate(encoders):
        if encoder is not None and results[index] is None:
            part = _Part(progress, done, sum(units))
            made = _encode(_encoder(encoder), texts[index], seconds if index else None, placement, part)
            results[index] = cache.put(made, *keys[index])
        elif encoder is not None:
            progress.step("encode", done + units[index], sum(units))
        if isinstance(encoder, TextEncoderHandle):
            encoder.free()
        done += units[index]
    return results


@dataclass(frozen=True)
class _Part:
    """Where one encoder's units stand in the stage."""

    progress: Progress
    done: int
    total: int


def _encode(
    encoder: PromptEncoder, texts: Texts, seconds: float | None, placement: Placement, part: _Part
) -> ModalityConditioning:
    """One caption with its negative; ``seconds`` for sound, None for a picture."""

    def encode(_: How) -> ModalityConditioning:
        with counted(_blocks(encoder), "encode", part.total, part.progress, done=part.done):
            if seconds is None:
                return encode_video(encoder, *texts, may_be_empty=True)
            return encode_audio(encoder, *texts, seconds=seconds, may_be_empty=True)

    return encoding(encoder).run(placement, encode)


def _encoder(encoder: PromptEncoder | TextEncoderHandle) -> PromptEncoder:
    return encoder.get() if isinstance(encoder, TextEncoderHandle) else encoder


def _blocks(encoder: PromptEncoder | TextEncoderHandle) -> Sequence[object]:
    return _encoder(encoder).model.encoder.block


def _key(
    encoder: PromptEncoder | TextEncoderHandle, texts: Texts, placement: Placement, seconds: float
) -> tuple[object, ...]:
    """All that an embedding depends on. A handle names its encoder without reading it."""
    if isinstance(encoder, TextEncoderHandle):
        own = (encoder.fingerprint, str(placement.dtype), placement.cast_everything)
    else:
        own = (fingerprint_encoder(encoder),)
    return (*own, placement.storage, placement.device.type, texts, float(seconds))
