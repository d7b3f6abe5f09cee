"""How long captions should be, in words: the checkpoints saw long video captions and one sentence of sound."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.registry import Registry


@dataclass(frozen=True)
class WordRange:
    """A wanted length.

    Args:
        target: Words to aim at.
        low: Fewest words that pass.
        high: Most words that pass.
        sentences: Most sentences that pass; None for any number.
    """

    target: int
    low: int
    high: int
    sentences: int | None = None


@dataclass(frozen=True)
class LengthProfile:
    """Wanted lengths of both captions."""

    name: str
    video: WordRange
    audio: WordRange


PROFILES: Registry[LengthProfile] = Registry("length profile")
# Medians and 95th percentiles of the 2650 released training captions (BridgeDiT reference, section 7):
# video 216 / 260 words, audio 26 / 39 words in one sentence.
PROFILES.register("bridgedit")(
    LengthProfile("bridgedit", video=WordRange(216, 120, 260), audio=WordRange(26, 12, 39, sentences=1))
)
# For small models with short text windows, and for models that cannot keep up 200 words.
PROFILES.register("short")(LengthProfile("short", video=WordRange(48, 20, 80), audio=WordRange(16, 6, 28, sentences=1)))


def num_words(text: str) -> int:
    """Words separated by white space, as the training captions were counted."""
    return len(text.split())
