"""Which sense of a verb is meant: the same verb looks and sounds otherwise by who does it to what."""

from __future__ import annotations

from ..english.data import Lexicon, VerbSense
from .understood import Happening, Parsed, Thing


def settle_senses(parsed: Parsed, lexicon: Lexicon) -> None:
    """Give every happening the sense that fits its actor and its object (the table ``verb_senses.tsv``)."""
    for happening in parsed.happenings:
        if happening.target is None:
            happening.target = _implied(happening, parsed)
        for sense in lexicon.verb_senses.get(happening.verb.lemma, ()):
            if _fits(sense, happening):
                happening.verb = sense.verb or happening.verb
                break


def _implied(happening: Happening, parsed: Parsed) -> Thing | None:
    """Whom or what somebody plays with; the ball that somebody had before and now shoots."""
    if happening.verb.lemma == "play":
        found = [thing for thing in parsed.things if thing.clause == happening.clause and thing.role == "with"]
        return found[0] if found else None
    if happening.verb.lemma == "shoot":
        balls = [item.target for item in parsed.happenings if item.actor is happening.actor and item.target]
        return next((thing for thing in balls if thing.source.kind == "toy"), None)
    return None


def _fits(sense: VerbSense, happening: Happening) -> bool:
    lemma, actor, target = happening.verb.lemma, happening.actor, happening.target
    if happening.unread and target is None and "unread" in sense.what:
        return _names(sense.who, actor, lemma)
    return _names(sense.who, actor, lemma) and _names(sense.what, target, lemma)


def _names(wanted: frozenset[str], thing: Thing | None, lemma: str) -> bool:
    if "any" in wanted:
        return True
    if thing is None:
        return "none" in wanted
    source = thing.source
    own = "own" in wanted and lemma in source.actions
    return own or "some" in wanted or bool(wanted & {source.kind, source.name})
