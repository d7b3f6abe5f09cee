"""What a happening sounds like, and how the ear names its cause: without colours and looks."""

from __future__ import annotations

import re

from ..english.data import ANIMATE, Lexicon, Source, Verb
from ..english.words import article, gerund, number_word, times
from .understood import Happening, Thing

# Kinds of action and of surface whose contact is named in the sound: "rain on a tin roof".
TOUCHING = frozenset({"weather", "flow", "impact", "motion", "scrape"})
TOUCHED = frozenset({"surface", "object", "door", "water", "toy"})
# Kinds that sound by themselves, whatever they touch.
NATURAL = frozenset({"weather", "event", "nature", "fire", "water"})
HEARD_MANNERS = ("loudness", "tempo", "distance", "pitch", "mood")
_UNCOUNTABLE = """
water traffic fire thunder lava steam smoke electricity music bacon popcorn sand dust mud soil ash ice foliage grass
wheat bamboo gravel iron steel wood metal bread fabric cloth paper jewelry machinery surf snow furniture applause glass
laughter birdsong gunfire lightning silence static noise speech rush_hour broken_glass red-hot_metal
chess table_tennis ping_pong billiards bowling
"""
_STORMS = """
storm thunderstorm tempest tornado hurricane cyclone typhoon sandstorm blizzard snowstorm hailstorm rainstorm breeze
gale gust draft snowflake hailstone
"""
_COUNTABLE_WEATHER = frozenset(_STORMS.split())
UNCOUNTABLE = frozenset(word.replace("_", " ") for word in _UNCOUNTABLE.split())
_TIMBRE = re.compile(r"\{m=([^}]*)\}")
# Prepositions after which what is touched belongs to the sound.
NAMED_AFTER = frozenset({"on", "against", "at", "into", "onto", "over"})


def heard_in(happening: Happening, lexicon: Lexicon) -> str | None:
    """The sound: what the object sounds like under this verb, else the actor's own, else the verb's."""
    verb = happening.verb
    actor, target = happening.actor, happening.target
    heard = _tool_sound(happening, lexicon) or _borrowed(happening, lexicon)
    if heard is None:
        heard = _known_sound(verb, actor.source if actor else None, target.source if target else None, lexicon)
    if heard is None:
        return None
    material = _material(target, lexicon) or _material(actor, lexicon)
    heard = _TIMBRE.sub(lambda match: material or match[1], heard)
    for item in happening.manner + (actor.modifiers if actor else []):
        if item.kind in HEARD_MANNERS and item.heard and item.heard not in heard:
            heard = _with_adjective(heard, item.heard)
    touches = target is not None and verb.kind in TOUCHING and target.source.kind in TOUCHED
    if actor is not None and touches and target.role in NAMED_AFTER and target.shown not in heard:
        first, each, rest = heard.partition(", each")
        heard = f"{first} {'into' if target.role == 'into' else 'on'} {heard_phrase(target)}{each}{rest}"
    if happening.splashes and not re.search("splash|plunge|plop", heard):
        heard += " and an open, wet splash"
    return heard + (f", {times(happening.count)}" if happening.count else "")


def _borrowed(happening: Happening, lexicon: Lexicon) -> str | None:
    """In some senses a verb takes the usual sound of who does it or of what it is done to."""
    if happening.verb.borrows == "fall":
        return next(filter(None, (happening.target.source.actions.get(way) for way in ("fall", "drop", "break"))), None)
    lender = {"who": happening.actor, "what": happening.target}.get(happening.verb.borrows)
    return usual_sound(lender.source, lexicon) if lender is not None else None


def _tool_sound(happening: Happening, lexicon: Lexicon) -> str | None:
    """The sound of what it is done with: "cuts a log with a chainsaw", "a boat with a motor crosses a lake"."""
    if happening.tool is None:
        return None
    source = happening.tool.source
    if happening.verb.kind in ("motion", "operate", "motor") and source.kind == "machine":
        return usual_sound(source, lexicon)
    return source.actions.get(happening.verb.lemma)


def _known_sound(verb: Verb, actor: Source | None, target: Source | None, lexicon: Lexicon) -> str | None:
    """Who decides the sound: a played or driven thing, then nature and skilled people, then what is touched."""
    lemma = verb.lemma
    usual = usual_sound(target, lexicon) if target is not None and target.kind not in ANIMATE | {"event"} else None
    if verb.kind == "operate" and usual is not None:
        return target.actions.get(lemma) or usual
    if actor is not None and verb.kind != "silent":
        own_way = verb.kind == "operate" and target is not None and target.kind == "event"
        moves = verb.kind == "motion" and lemma not in actor.actions
        if actor.kind in ("vehicle", "machine", "instrument") and (own_way or moves):
            return actor.actions.get(lemma) or usual_sound(actor, lexicon)
        if actor.kind == "water" and verb.kind == "flow":
            return actor.actions.get(lemma) or verb.heard
        if moves and actor.kind == "animal" and lexicon.verbs[actor.usual].kind == "motor":
            return usual_sound(actor, lexicon)  # insects are heard wherever they go
        if actor.kind in NATURAL:
            return actor.actions.get(lemma) or (verb.heard if lemma in actor.actions else usual_sound(actor, lexicon))
        if actor.kind in ANIMATE and lemma in actor.actions:
            return actor.actions[lemma] or verb.heard
    if target is not None:
        if lemma in target.actions:
            return target.actions[lemma] or verb.heard
        ways = ("fall", "hit") if lemma == "drop" else ("hit",)
        way = next((one for one in ways if target.actions.get(one)), None)
        if verb.kind == "impact" and way:
            return target.actions[way]
    if actor is not None and actor.actions.get(lemma):
        return actor.actions[lemma]
    if verb.kind == "operate" and actor is not None and actor.kind not in ANIMATE:
        return usual_sound(actor, lexicon) or verb.heard
    if verb.kind == "motor" and target is not None and target.kind in ("vehicle", "machine", "tool"):
        return usual or verb.heard
    return verb.heard


def usual_sound(source: Source, lexicon: Lexicon) -> str | None:
    """The sound of a source's usual action."""
    return source.actions[source.usual] or lexicon.verbs[source.usual].heard if source.usual else None


def _material(thing: Thing | None, lexicon: Lexicon) -> str | None:
    """The timbre of what a thing is made of, from its adjectives or its name: "wooden door"."""
    if thing is None:
        return None
    named = (lexicon.index.get((word,)) for word in thing.shown.split())
    found = [*thing.modifiers, *(meaning.modifier for meaning in named if meaning and meaning.modifier)]
    return next((item.heard for item in found if item.kind == "material" and item.heard), None)


def _with_adjective(phrase: str, adjective: str) -> str:
    """The adjective in front, before other adjectives with a comma."""
    lead, space, rest = phrase.partition(" ")
    core = rest if lead in ("a", "an") else phrase
    joint = ", " if "," in " ".join(core.split()[:3]) else " "
    return article(adjective + joint + core) if lead in ("a", "an") and space else adjective + joint + core


def heard_phrase(thing: Thing) -> str:
    """A thing as the ear may name it: without colours and looks."""
    adjectives = [item.word for item in thing.modifiers if item.kind == "material"][:1]
    adjectives = [word for word in adjectives if word not in thing.shown.split()]
    number = [number_word(thing.count)] if thing.count and thing.count > 1 else []
    phrase = " ".join([*number, *adjectives, thing.shown])
    return phrase if thing.is_plural or not is_countable(thing) else article(phrase)


def cause_of(happening: Happening) -> str:
    """The physical cause, for example "a hammer hitting an anvil"."""
    actor, target, verb = happening.actor, happening.target, happening.verb
    if actor is None:
        return heard_phrase(target)
    phrase = heard_phrase(actor)
    if target is None or verb.kind in ("vocal", "speech", "crowd", "signal"):
        return phrase
    joint = (
        f" {target.role}"
        if target.role in ("on", "against", "at", "into", "over", "through", "across", "along", "onto", "with")
        else ""
    )
    return f"{phrase} {gerund(verb.lemma)}{joint} {heard_phrase(target)}"


def is_countable(thing: Thing) -> bool:
    """Whether the thing takes "a": a dog does, rain does not."""
    if thing.source.kind == "weather":
        return thing.shown in _COUNTABLE_WEATHER
    return thing.source.kind not in ("liquid", "game") and thing.shown not in UNCOUNTABLE
