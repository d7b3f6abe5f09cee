"""What a happening looks like: the visible action, agreeing with who does it, without words for sound."""

from __future__ import annotations

import re

from ..english.data import ANIMATE
from ..english.words import plural, third_person, times
from ..vocabulary import ACOUSTIC_WORDS
from .understood import Happening, Thing

SEEN_ADJECTIVES = ("size", "age", "colour", "look", "shape", "material")
# What has a mouth; the rest trembles when it "screams" or "roars".
VOICED = ANIMATE | {"body", "event", "crowd"}
UNVOICED_LOOK = "*quiver and *strain, the outline blurring slightly with every surge"
RUNNING_LOOK = "*keep up a steady motion, small parts moving in a regular rhythm"
# What undergoes one of these takes strokes; what undergoes one of the kinds below is in somebody's hands.
_STROKES = """
hammer hit strike beat pound bang knock tap slap punch drum stomp chop chisel peck
"""
STROKES = frozenset(_STROKES.split())
HANDLED = frozenset({"impact", "scrape", "flow", "burst", "rattle", "fire", "motor"})
# What each of several has one of.
_ONE_EACH = re.compile(
    r"their (head|mouth|neck|chest|throat|tail|beak|body|face|nose|muzzle|chin|tongue|snout|mane|back|jaw|bill|trunk)\b"
)
_AGREEING = re.compile(r"\*([\w-]+)")
_OBJECT = re.compile(r"\{o=([^}]*)\}")


def action_of(happening: Happening) -> str:
    """The visible action of a happening, agreeing with its subject."""
    subject = happening.actor or happening.target
    target = None if happening.passive else happening.target
    look = _undergone(happening) if happening.passive else _look(happening)
    text = _OBJECT.sub(lambda match: _object_phrase(target, match[1]), look)
    many = subject.is_plural
    text = _AGREEING.sub(lambda match: _agreeing(match[1], many=many), text)
    personal = many or subject.source.kind in ("person", "people", "body")
    text = text.replace("{its}", "their" if personal else "its")
    if many:
        text = _ONE_EACH.sub(lambda match: f"their {plural(match[1])}", text)
    if target is not None and "{o=" not in look and target.source.looks and target.source.kind != "backdrop":
        text += f", close to the {pure_name(target)}"
    manner = [item.seen for item in happening.manner if item.seen and item.kind in ("tempo", "distance")]
    count = [times(happening.count)] if happening.count else []
    return ", ".join([text, *dict.fromkeys(manner + count)])


def _agreeing(verb: str, *, many: bool) -> str:
    if many:
        return "are" if verb == "be" else verb
    return third_person(verb)


def _undergone(happening: Happening) -> str:
    """The look of what is acted on by nobody in particular."""
    verb = happening.verb
    strokes = "one stroke" if verb.kind in ("impact", "operate", "string") else "one touch"
    struck = f"*take {strokes} after another, the surface shivering at each contact"
    if verb.lemma in STROKES or verb.kind in ("operate", "string"):
        return struck
    if "{o=" not in verb.seen:
        return verb.seen
    if set(verb.participle.split()) & ACOUSTIC_WORDS:
        return struck
    by_hand = verb.kind in HANDLED and verb.lemma != "kick"
    return f"*be {verb.participle}" + (" by a pair of steady hands" if by_hand else "")


def _look(happening: Happening) -> str:
    """The source's own motion where it has one for this verb, else the verb's look."""
    source = happening.actor.source if happening.actor else None
    if source is not None and source.motion is not None and happening.verb.lemma in source.actions:
        return source.motion.seen
    kind = happening.verb.kind
    if source is not None and source.kind not in VOICED and kind in ("vocal", "operate"):
        return UNVOICED_LOOK if kind == "vocal" else RUNNING_LOOK
    if source is not None and happening.tool is not None and kind == "motor" and source.kind in ANIMATE:
        return f"*hold the {pure_name(happening.tool)} firmly in both hands and *lean into the work"
    return happening.verb.seen


def _object_phrase(target: Thing | None, otherwise: str) -> str:
    if target is None or not target.source.looks:
        return otherwise
    return "the " + " ".join([*adjectives_of(target)[:1], pure_name(target)])


def pure_name(thing: Thing) -> str:
    """Its name, or what a picture's description calls it when the name is a word for a sound."""
    impure = set(thing.shown.split()) & ACOUSTIC_WORDS or thing.source.seen_name != thing.source.name
    return thing.source.seen_name if impure else thing.shown


def adjectives_of(thing: Thing) -> list[str]:
    """Its visible properties, the most telling kinds first."""
    found = [item for kind in SEEN_ADJECTIVES for item in thing.modifiers if item.kind == kind and item.seen]
    return list(dict.fromkeys(item.seen for item in found))[:3]
