"""Who does what a verb says: the subject, what "it" stands for, nobody at all, or somebody who is not named."""

from __future__ import annotations

from ..english.data import ANIMATE, Verb
from ..english.function_words import ACTED_ON, INANIMATE, NATURE
from .understood import Thing


def what_it_is(verb: Verb, acted_on: Thing | None, subject: Thing | None) -> Thing | None:
    """What "it" stands for: never a person, and rather what does such things ("drops a glass and it shatters").

    Args:
        verb: What it does.
        acted_on: What the subject acted on last.
        subject: Who acted.
    """
    if acted_on is None or subject is None:
        return subject
    person = subject.source.kind in ("person", "people")
    fits = verb.lemma in acted_on.source.actions and verb.lemma not in subject.source.actions
    return acted_on if person or fits else subject


def is_weather_itself(verb: Verb, subject: Thing | None, *, impersonal: bool, carried: bool) -> bool:
    """Whether nobody does it: "a dog barks while it rains".

    Args:
        verb: The verb.
        subject: Who would do it.
        impersonal: Whether "it" stands before the verb.
        carried: Whether the subject comes from an earlier clause.
    """
    if impersonal and (verb.kind == "weather" or verb.lemma == "pour"):
        return subject is None or verb.lemma not in subject.source.actions
    return verb.kind == "weather" and carried and subject.source.kind not in NATURE


def is_acted_on(verb: Verb, tenses: set[str], subject: Thing, *, passive: bool) -> bool:
    """Whether the subject undergoes the verb: "the drum is hit", "a nail hammered into a wall"."""
    kind = subject.source.kind
    touched = verb.kind in ACTED_ON or "{o=" in verb.seen
    if passive and touched and "pp" in tenses and "ing" not in tenses:
        return True
    past_only = bool(tenses & {"pp"}) and not tenses & {"base", "s"}
    unasked = kind in INANIMATE and verb.kind in ACTED_ON
    return past_only and (passive or unasked) and kind not in ANIMATE | {"weather"}


def do_alike(one: Thing, other: Thing) -> bool:
    """Whether two that are named together can share a verb: "a dog and a cat play"."""
    kinds = {one.source.kind, other.source.kind}
    return len(kinds) == 1 or kinds <= ANIMATE


def is_wet(thing: Thing | None) -> bool:
    """Whether it is water itself, which does not splash into water."""
    return thing is not None and thing.source.kind in ("water", "liquid", "weather")
