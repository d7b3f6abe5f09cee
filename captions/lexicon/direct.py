"""Captions straight from the prompt's words, without anchors: the ablation that shows what the anchors are worth."""

from __future__ import annotations

import re

from ...core.types import Captions
from ..profiles import LengthProfile, WordRange, num_words
from ..purity import IMPURE, find_impurities
from .choice import Chooser
from .tokens import normalise
from .video import sentences

_MOST_PROMPT_SHARE = 0.6


def write_directly(prompt: str, profile: LengthProfile) -> Captions:
    """The prompt without sound words and general sentences for the picture; without sight words for the sound."""
    text = re.sub(r"\s+", " ", normalise(prompt)).strip().rstrip(".!?;:, ")
    chooser = Chooser(text.casefold())
    video = _without_impure(text, "video")
    audio = re.sub(r"[.!?]+(?=\s)", ",", _without_impure(text, "audio"))
    patterns = sentences()
    seen = _grown(
        f"The clip shows {video or 'the scene'}.", chooser.shuffled(patterns["general"], "direct"), profile.video, " "
    )
    fillers = [f"{filler}" for filler in chooser.shuffled(patterns["audio_general"], "direct")]
    heard = _grown(f"The sound of {audio or 'the place'}", fillers, profile.audio, ", ")
    return Captions(video=seen, audio=heard + ".")


def _without_impure(text: str, modality: str) -> str:
    captions = Captions(text, "") if modality == "video" else Captions("", text)
    for finding in reversed([item for item in find_impurities(captions) if item.kind in IMPURE]):
        text = text[: finding.start] + text[finding.end :]
    return re.sub(r"\s+([,.])", r"\1", re.sub(r"\s+", " ", text)).strip(" ,")


def _grown(start: str, fillers: list[str], wanted: WordRange, joint: str) -> str:
    words = start.split()
    most = round(wanted.high * _MOST_PROMPT_SHARE)
    text = start if len(words) <= most else " ".join(words[:most]).rstrip(",.;") + ("." if start.endswith(".") else "")
    for filler in fillers:
        if num_words(text) >= 0.85 * wanted.target:
            break
        if num_words(text) + num_words(filler) <= wanted.high:
            text += joint + filler
    return text
