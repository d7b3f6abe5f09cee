"""Families of sounding things, from the word lists: every source under its names, and the voices of animals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .data import Lexicon, Meaning, Source, Verb, load_lexicon
from .words import gerund, past, plural, third_person

# Kinds of source that a caption must not add: what they do is heard wherever they stand.
KINDS = frozenset({"animal", "vehicle", "machine", "alarm", "clock", "bell", "instrument", "drum", "weapon"})
# Names that also mean something else, that hold too much, or that are mere scenery.
_UNTELLING = """
seal ram calf cub mouse bug bat crane tank plane coach cart wagon carriage bike monster ghost alien giant ogre
engine motor machine machinery device gadget apparatus conveyor washer oven microwave refrigerator fridge freezer
heater fan ventilator scanner computer laptop keyboard pc camera mill gear crank lever winch lift pump factory mixer
horn recorder triangle organ shaker instrument bob watch lighthouse arrow archer whip lasso herd
"""
UNTELLING = frozenset(_UNTELLING.split())
_UNTELLING_FORMS = UNTELLING | {plural(word) for word in UNTELLING}
# Voices that engines, winds and hinges borrow.
_BORROWED = """
growl howl roar scream squeal hiss groan moan whine sing hum wail call cry whistle shriek screech purr low whisper
murmur chatter grunt bray trumpet crow bellow snarl pant snort sniff yelp whimper cackle breathe
"""
BORROWED = frozenset(_BORROWED.split())
MUSICAL = frozenset({"person", "people", "event", "machine"})


@dataclass(frozen=True)
class Family:
    """Words of one sounding thing.

    Args:
        claims: Words that say it is there.
        grounds: Words that allow the claims when the anchors hold one; the claims are among them.
    """

    claims: frozenset[str]
    grounds: frozenset[str]


def source_families() -> list[Family]:
    """One family for every source of :data:`KINDS`: its names and the voices that only animals have."""
    lexicon = load_lexicon()
    names: dict[str, list[tuple[str, Meaning]]] = {}
    voices = _animal_voices(lexicon)
    for form, meaning in lexicon.index.items():
        if len(form) == 1 and meaning.source is not None:
            names.setdefault(meaning.source.name, []).append((form[0], meaning))
    return [
        _family(source, names.get(source.name, []), voices, lexicon)
        for source in lexicon.sources.values()
        if source.kind in KINDS
    ]


def _family(source: Source, names: list[tuple[str, Meaning]], voices: set[str], lexicon: Lexicon) -> Family:
    claims = {name for name, meaning in names if _only_names(meaning) and name not in _UNTELLING_FORMS}
    for lemma in voices & set(source.actions):
        claims |= set(verb_forms(lexicon.verbs[lemma]))
    return Family(frozenset(claims), frozenset(claims | {name for name, _ in names}))


def _only_names(meaning: Meaning) -> bool:
    return meaning.verb is None and meaning.modifier is None and meaning.place is None and not meaning.plain


def _animal_voices(lexicon: Lexicon) -> set[str]:
    """The vocal verbs of which nothing but animals is told."""
    told = {lemma for source in lexicon.sources.values() if source.kind != "animal" for lemma in source.actions}
    return {verb.lemma for verb in lexicon.verbs.values() if verb.kind == "vocal"} - told - BORROWED


def verb_forms(verb: Verb) -> Iterator[str]:
    """The inflections of a verb."""
    yield from (verb.lemma, third_person(verb.lemma), gerund(verb.lemma), past(verb.lemma), verb.participle)


def players() -> frozenset[str]:
    """Names of instruments and of people who make music."""
    lexicon = load_lexicon()
    makers = {
        source.name
        for source in lexicon.sources.values()
        if source.kind in ("instrument", "drum")
        or (source.kind in MUSICAL and source.usual in ("play", "perform", "sing", "strum", "bow", "drum"))
    }
    return frozenset(
        form[0]
        for form, meaning in lexicon.index.items()
        if len(form) == 1 and meaning.source is not None and meaning.source.name in makers
    )


def speech_verbs() -> frozenset[str]:
    """All forms of the verbs of speaking."""
    spoken = (verb for verb in load_lexicon().verbs.values() if verb.kind == "speech")
    return frozenset(form for verb in spoken for form in verb_forms(verb))
