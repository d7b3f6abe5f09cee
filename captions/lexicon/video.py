"""The picture's caption from anchors: place, looks, actions in order with their physics, camera, style."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...core.errors import InputError
from ...core.json_text import read_json
from ...core.types import Captions
from ..anchors import Event, SemanticAnchors
from ..english.data import Lexicon
from ..english.foreign import require_english_text
from ..english.words import latin_words, listed, third_person
from ..profiles import WordRange, num_words
from ..purity import IMPURE, anchors_text, find_impurities, repair
from ..vocabulary import ACOUSTIC_WORDS, WORD
from .choice import Chooser

FOLDER = Path(__file__).parent
# Below this target a profile asks for the essentials only.
DENSE_FROM_WORDS = 100
_LONGEST_DENSE, _LONGEST_SHORT = 45, 26
_FULLNESS = 0.93
# The look of something that is struck by nobody in particular.
STRUCK = "*take one stroke after another, the surface shivering at each contact"
_ANY_SOUND = "soft air"


@lru_cache(maxsize=1)
def sentences() -> dict[str, Any]:
    """The sentence patterns, by what they tell."""
    return read_json(FOLDER / "sentences.json", what="the lexicon's sentences")


def write_video(anchors: SemanticAnchors, wanted: WordRange, lexicon: Lexicon) -> str:
    """The video caption within the wanted length.

    Raises:
        InputError: no field of the anchors can be used in an English caption, or they are in another language.
    """
    chooser = Chooser(anchors.to_json())
    dense = wanted.target >= DENSE_FROM_WORDS
    needed = _needed(anchors, chooser, lexicon, dense=dense)
    longest = _LONGEST_DENSE if dense else _LONGEST_SHORT
    room = min(wanted.high, round(wanted.target * 1.25))
    kept: list[tuple[int, str]] = []
    for rank, position, sentence in sorted(needed):
        pure = _purified(_clipped(sentence, longest), anchors)
        if (
            pure
            and _total(kept) + num_words(pure) <= room
            and (rank < 2 or dense or _total(kept) < wanted.target * _FULLNESS)
        ):
            kept.append((position, pure))
    if not kept:
        raise InputError(
            "the anchors hold nothing that can be seen and said in English",
            expected="an entity, an event or an environment described in English",
            remedy="Edit the anchors.",
        )
    require_english_text(anchors_text(anchors), "the anchors")
    fillers = chooser.shuffled(sentences()["general"], "general")
    last = max((position for position, _ in kept), default=0)
    for number, filler in enumerate(fillers, 1):
        if _total(kept) >= wanted.target * _FULLNESS or (not dense and _total(kept) >= wanted.low + 10):
            break
        if _total(kept) + num_words(filler) <= room:
            kept.append((last + number, filler))
    text = " ".join(text for _, text in sorted(kept))
    require_english_text(text, "the anchors' pictures")
    return text


def _total(kept: list[tuple[int, str]]) -> int:
    return sum(num_words(text) for _, text in kept)


def _needed(anchors: SemanticAnchors, chooser: Chooser, lexicon: Lexicon, *, dense: bool) -> list[tuple[int, int, str]]:
    """Sentences as (rank, position, text): the rank says which go first into a small space, the position where."""
    patterns = sentences()
    found: list[tuple[int, int, str]] = []

    def add(rank: int, pattern: str, **values: str) -> None:
        if not all(values.values()):
            return  # the field has no word in Latin script
        options = patterns[pattern]
        text = chooser.pick(options, f"{pattern} {len(found)}" if dense else pattern)
        found.append((rank, len(found), _sentence(text.format(**values))))

    add(1 if dense else 2, "environment", environment=_plain(anchors.environment))
    for number, entity in enumerate(anchors.entities):
        visual = _plain(entity.visual)
        if visual in anchors.environment:
            continue  # nothing but the place is shown, or nothing in Latin script
        missing = [attribute for attribute in entity.attributes if _plain(attribute).lower() not in visual.lower()]
        if missing and dense:
            visual += ", " + listed([_plain(attribute) for attribute in missing])
        add(2 if dense or number else 1, "next_entity" if number else "entity", visual=visual)
    previous = 0
    kinds: list[str] = []
    for event in anchors.in_order:
        pattern = "first_event" if not previous else "same_event" if event.order == previous else "later_event"
        add(0, pattern, entity=_pure_words(event.entity), action=_action(event, lexicon))
        previous = event.order
        kind = kind_of(event, lexicon)
        if dense and kind in patterns["kinds"]:
            options = chooser.shuffled(patterns["kinds"][kind], f"physics {kind}")
            used = kinds.count(kind)
            more = options[used : used + (2 if len(anchors.events) == 1 else 1)]
            found += [(3, len(found) + offset, text) for offset, text in enumerate(more)]
            kinds.append(kind)
    if not anchors.events:
        add(1, "still", entity=_pure_words(anchors.entities[0].name))
    for rank, field in ((4, "camera"), (4, "style"), (5, "mood")):
        add(rank, field, **{field: _plain(getattr(anchors, field))})
    return found


def _plain(text: str) -> str:
    """A field as the middle of a sentence: one line, no full stop, no capital of a sentence's start."""
    text = latin_words(text).rstrip(".!?;:, ")
    text = re.sub(r"[.!?]+\s+", ", ", text)
    first = text.split(" ", 1)[0]
    return text[:1].lower() + text[1:] if first[1:].islower() or first == "A" else text


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _pure_words(text: str) -> str:
    """A name without words for sound; "subject" when nothing is left."""
    words = [word for word in _plain(text).split() if not set(re.findall(r"[\w']+", word.lower())) & ACOUSTIC_WORDS]
    return " ".join(words).removeprefix("the ") or "subject"


def _action(event: Event, lexicon: Lexicon) -> str:
    """The visible action; one that names a sound becomes the look of that verb."""
    action = _plain(event.visual_action).removeprefix(f"the {event.entity} ")
    for match in WORD.finditer(action):
        if match[0].lower() in ACOUSTIC_WORDS:
            meaning = lexicon.index.get((match[0].lower(),))
            if meaning is not None and meaning.verb is not None:
                return _look_of(meaning.verb.seen)
    return action


def _look_of(seen: str) -> str:
    text = re.sub(r"\{o=([^}]*)\}", r"\1", seen).replace("{its}", "its")
    return re.sub(r"\*([\w-]+)", lambda match: third_person(match[1]), text)


def kind_of(event: Event, lexicon: Lexicon) -> str:
    """The kind of an event: that of the verb whose looks or sound it carries, or of the first verb it names; or ""."""
    texts = [event.sound.source, event.visual_action, event.sound.heard] if event.sound else [event.visual_action]
    exact = _kinds_by_look(lexicon).get(_stem_of_look(event.visual_action))
    if exact is not None:
        return exact
    for text in texts:
        for match in WORD.finditer(text.lower()):
            meaning = lexicon.index.get((match[0],))
            if meaning is not None and meaning.verb is not None and meaning.verb.kind != "silent":
                return meaning.verb.kind
    return ""


@lru_cache(maxsize=1)
def _kinds_by_look(lexicon: Lexicon) -> dict[str, str]:
    kinds = {_stem_of_look(_look_of(verb.seen)): verb.kind for verb in lexicon.verbs.values()}
    senses = (sense.verb for found in lexicon.verb_senses.values() for sense in found if sense.verb is not None)
    kinds |= {_stem_of_look(_look_of(verb.seen)): verb.kind for verb in senses}
    motions = (source.motion for source in lexicon.sources.values() if source.motion is not None)
    kinds |= {_stem_of_look(_look_of(motion.seen)): motion.kind for motion in motions}
    return kinds | {_stem_of_look(STRUCK): "impact"}


def _stem_of_look(text: str) -> str:
    """The first words of an action, verbs unbent, for comparing looks."""
    words = [word for word in re.findall(r"[a-z]+", text.lower()) if word not in ("its", "their")]
    return " ".join(word.removesuffix("s") for word in words[:4])


def _clipped(sentence: str, longest: int) -> str:
    """A sentence of at most so many words, cut where a comma allows it."""
    words = sentence.split()
    if len(words) <= longest:
        return sentence
    text = " ".join(words[:longest])
    head = text.rpartition(",")[0]
    text = head if num_words(head) >= longest // 2 else text
    return text.rstrip(",;: ") + "."


def _purified(sentence: str, anchors: SemanticAnchors) -> str:
    """The sentence without impure parts; "" when nothing useful is left."""
    captions = Captions(video=sentence, audio=_ANY_SOUND)
    if not any(item.kind in IMPURE and item.modality == "video" for item in find_impurities(captions, anchors)):
        return sentence
    try:
        return repair(captions)[0].video
    except InputError:
        return ""
