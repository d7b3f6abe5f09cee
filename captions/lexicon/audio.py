"""The sound's caption from anchors: one sentence of what is heard, its cause and the background. No words for looks."""

from __future__ import annotations

import re

from ...core.errors import InputError
from ...core.types import Captions
from ..anchors import Event, SemanticAnchors
from ..english.data import Lexicon
from ..english.foreign import require_english_text
from ..english.words import latin_words
from ..profiles import WordRange, num_words
from ..purity import IMPURE, find_impurities
from .choice import Chooser
from .video import kind_of, sentences

_FULLNESS = 0.85
_LONGEST_PART = 24
# With causes, tails of descriptions and background: all of it, then less until it fits.
_DETAIL = ((True, True, True), (False, True, True), (False, True, False), (False, False, False))
_COUNT = re.compile(r", (once|twice|\w+ times)$")
_TAIL = re.compile(
    r"\s+(?:with|that|of|ending|followed|broken|held|under|over|as)\s.*|,\s+(?:each|then|the|like|almost|quickly|once|twice)\b.*"
)


def write_audio(anchors: SemanticAnchors, wanted: WordRange, lexicon: Lexicon) -> str:
    """The audio caption, one sentence within the wanted length.

    Raises:
        InputError: no sound of the anchors can be used in an English caption, or they are in another language.
    """
    chooser = Chooser(anchors.to_json())
    events = [event for event in anchors.in_order if event.sound is not None]
    ambient = _pure(anchors.ambient_sound)
    for causes, tails, background in (
        (True, True, True),
        (False, True, True),
        (False, True, False),
        (False, False, False),
    ):
        parts = _parts(events, chooser, causes=causes, tails=tails)
        use_ambient = bool(ambient) and (background or not parts)
        text = _joined(parts, ambient if use_ambient else "", chooser)
        if num_words(text) <= min(wanted.high, round(wanted.target * 1.25)):
            break
    if not re.search(r"\w", text):
        raise InputError(
            "the anchors hold nothing that can be heard and said in English",
            expected="an event's sound or an ambient sound described in English",
            remedy="Edit the anchors.",
        )
    most = wanted.high
    while num_words(text) > most and len(parts) > 1:
        parts = parts[:-1]
        text = _joined(parts, "", chooser)
    tail = text[len(_joined(parts, "", chooser)) :] if parts else ""
    text = _filled(text.removesuffix(tail), tail, events, lexicon, wanted, chooser)
    words = text.split()
    text = " ".join(words[:most]).rstrip(" ,;:-")
    require_english_text(text, "the anchors' sounds")
    return text[:1].upper() + text[1:] + "."


def _parts(events: list[Event], chooser: Chooser, *, causes: bool, tails: bool) -> list[tuple[int, str]]:
    """Each sound once, with its place in the order."""
    parts: dict[str, tuple[int, str]] = {}
    counted = {_COUNT.sub("", event.sound.heard) for event in events if _COUNT.search(event.sound.heard)}
    for event in events:
        heard = _pure(event.sound.heard)
        if not heard or event.sound.heard in counted:
            continue  # the same sound is told with its number elsewhere
        phrase = heard if tails else _TAIL.sub("", heard)
        source = _pure(event.sound.source)
        if causes and source and not _named_in(source, heard):
            count = _COUNT.search(phrase)
            phrase = f"{_COUNT.sub('', phrase)} from {source}{count[0] if count else ''}"
        parts.setdefault(heard.lower(), (event.order, " ".join(phrase.split()[:_LONGEST_PART])))
    return list(parts.values())


def _named_in(source: str, heard: str) -> bool:
    """Whether the sound already names its cause."""
    content = [word for word in re.findall(r"[a-z]+", source.lower()) if word not in ("a", "an", "the", "two", "three")]
    heard_words = re.findall(r"[a-z]+", heard.lower())
    return any(word[:5] == content[0][:5] or word[:5] == content[-1][:5] for word in heard_words) if content else True


def _joined(parts: list[tuple[int, str]], ambient: str, chooser: Chooser) -> str:
    patterns = sentences()
    text, previous = "", 0
    for number, (order, phrase) in enumerate(parts):
        name = "heard_first" if not number else "heard_same" if order == previous else "heard_later"
        piece = chooser.pick(patterns[name], f"{name} {number}").format(heard=phrase)
        text += f", {piece}" if text else piece
        previous = order
    if ambient:
        text += ", " + chooser.pick(patterns["ambient"], "ambient").format(ambient=ambient) if text else ambient
    return text


def _filled(text: str, tail: str, events: list[Event], lexicon: Lexicon, wanted: WordRange, chooser: Chooser) -> str:
    """Texture added before the background until the sentence is long enough."""
    patterns = sentences()
    kinds = [kind_of(event, lexicon) for event in events]
    fillers = [patterns["audio_fill"][kind][0] for kind in dict.fromkeys(kinds) if kind in patterns["audio_fill"]][:1]
    fillers += chooser.shuffled(patterns["audio_general"], "audio general")
    most = min(wanted.high, round(wanted.target * 1.25))
    for filler in fillers:
        if num_words(text + tail) >= _FULLNESS * wanted.target:
            break
        if num_words(text + tail) + num_words(filler) <= most:
            text += f", {filler}"
    return text + tail


def _pure(text: str) -> str:
    """A field without words for looks, as the middle of a sentence."""
    text = latin_words(text).rstrip(".!?;:, ")
    text = re.sub(r"[.!?]+\s+", ", ", text)
    findings = find_impurities(Captions(video="", audio=text))
    for finding in reversed([item for item in findings if item.modality == "audio" and item.kind in IMPURE]):
        text = text[: finding.start] + text[finding.end :]
    text = re.sub(r"\s+([,;])", r"\1", re.sub(r"\s+", " ", text)).strip(" ,;")
    first = text.split(" ", 1)[0]
    return text[:1].lower() + text[1:] if first[1:].islower() or first == "A" else text
