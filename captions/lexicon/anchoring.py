"""From what was understood of a prompt to semantic anchors, with a note for everything that was assumed or left out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..anchors import Entity, Event, SemanticAnchors, Sound
from ..english.data import ANIMATE, PASSIVE_KINDS, Lexicon, Modifier, Place
from ..english.function_words import CONTACT, TOOLS
from ..english.words import article, listed, number_word, plural, third_person
from ..vocabulary import ACOUSTIC_WORDS
from .choice import Chooser
from .seeing import action_of, adjectives_of, pure_name
from .sounding import cause_of, heard_in, is_countable
from .understood import Happening, Parsed, Thing
from .verb_sense import settle_senses

MOST_ENTITIES = 8
MOST_EVENTS = 6
ROOM_TONE, OPEN_AIR = "quiet room tone", "calm open air"
# People of whom nothing is said are not made to talk.
UNSPOKEN = frozenset({"man", "woman", "person", "people", "child", "family"})
# Prepositions after which a fire or water is heard in the background.
NEARBY = frozenset(["by", "near", "beside", "in", "around", "behind", "before", "next", "along", "under"])
# Kinds that tell where it happens, and after which prepositions.
SETTINGS = {
    "water": frozenset({"in", "by", "near", "along"}),
    "weather": frozenset({"in", "under", "through"}),
    "kitchen": CONTACT,
}
# Kinds of which several are seen one by one.
SINGLE_KINDS = frozenset(
    {"animal", "person", "bell", "vehicle", "machine", "instrument", "drum", "tool", "door", "clock"}
)
CAMERAS = (
    "a steady medium shot at eye level with a very slow push-in",
    "a static medium-wide shot at eye level",
    "a gentle sideways glide at eye level",
    "a locked-off view that slowly drifts closer",
)


@dataclass
class Draft:
    """Anchors in the making."""

    lexicon: Lexicon
    chooser: Chooser
    notes: list[str] = field(default_factory=list)
    names: dict[Thing, str] = field(default_factory=dict)
    excluded: set[str] = field(default_factory=set)
    still: list[Thing] = field(default_factory=list)
    ambient: list[str] = field(default_factory=list)


def build_anchors(parsed: Parsed, lexicon: Lexicon, chooser: Chooser) -> tuple[SemanticAnchors, list[str]]:
    """Anchors and notes for a parsed prompt."""
    draft = Draft(lexicon, chooser)
    _drop_negated(parsed, draft)
    _name_pictures(parsed, draft)
    _add_usual_actions(parsed, draft)
    _name_actors(parsed, draft)
    settle_senses(parsed, lexicon)
    _limit(parsed, draft)
    place = _place_of(parsed, draft)
    events = _events(parsed, draft)
    entities = _entities(parsed, draft)
    if not entities:
        entities = [Entity(place.name, (), place.look)]
    ambient = _ambient(parsed, place, draft)
    if parsed.muted:
        events = [Event(e.id, e.order, e.start, e.end, e.entity, e.visual_action, None) for e in events]
        ambient = "near silence, only the faintest air"
        draft.notes.append("The prompt asks for no sound: the events are shown without one.")
    elif not any(event.sound for event in events) and not draft.ambient:
        draft.notes.append(f"Nothing in the prompt is known to sound: only {ambient} is heard.")
    anchors = SemanticAnchors(
        entities=tuple(entities),
        environment=_environment(parsed, place),
        events=tuple(events),
        ambient_sound=ambient,
        camera=_setting(parsed, "camera") or chooser.pick(CAMERAS, "camera"),
        style=_setting(parsed, "style") or "photorealistic, cinematic, sharply detailed",
        mood=_mood(parsed),
    )
    return anchors, draft.notes


def _drop_negated(parsed: Parsed, draft: Draft) -> None:
    gone = [thing for thing in parsed.things if thing.negated]
    denied = [happening for happening in parsed.happenings if happening.negated or happening.actor in gone]
    for thing in gone:
        draft.excluded |= {thing.source.name, *thing.shown.split()}
    draft.excluded |= {happening.verb.lemma for happening in denied}
    draft.still += [happening.actor for happening in denied if happening.actor]
    parsed.things = [thing for thing in parsed.things if thing not in gone]
    parsed.happenings = [happening for happening in parsed.happenings if happening not in denied]
    for happening in parsed.happenings:
        happening.target = None if happening.target in gone else happening.target
    names = [thing.shown for thing in gone] + [happening.verb.lemma for happening in denied]
    if names:
        draft.notes.append("Left out, as the prompt says: " + ", ".join(dict.fromkeys(names)) + ".")


def _name_pictures(parsed: Parsed, draft: Draft) -> None:
    """A picture or a statue is called after what it shows, which neither moves nor sounds."""
    for thing in [thing for thing in parsed.things if thing.depicted]:
        shown = [_noun_phrase(one, [*_numbered(one), *adjectives_of(one), pure_name(one)]) for one in thing.depicted]
        thing.shown = f"{thing.shown} of {listed(shown)}"
        draft.notes.append(f"What the {thing.shown} shows is only depicted and makes no sound.")


def _numbered(thing: Thing) -> list[str]:
    return [number_word(thing.count)] if thing.count and thing.count > 1 else []


def _noun_phrase(thing: Thing, words: list[str]) -> str:
    phrase = " ".join(words).strip()
    return phrase if thing.is_plural or not is_countable(thing) else article(phrase)


def _add_usual_actions(parsed: Parsed, draft: Draft) -> None:
    """A thing that stands alone does what it usually does; the note says which was assumed."""
    busy = [part for happening in parsed.happenings for part in (happening.actor, happening.target)]
    idle = [thing for thing in parsed.things if thing not in busy and thing.same is None]
    alone = [thing for thing in idle if not thing.acts and thing.role in ("", "of")]
    if not parsed.happenings and not any(_may_act(thing) for thing in alone):
        alone += [thing for thing in idle if thing not in alone + draft.still]
    listening = [happening.clause for happening in parsed.happenings if happening.verb.lemma == "listen"]
    alone += [thing for thing in parsed.things if thing.role in ("to", "object") and thing.clause in listening]
    for thing in alone:
        usual = thing.source.usual
        if not _may_act(thing) or usual in draft.excluded or (thing.role == "of" and parsed.happenings):
            continue
        tool = next((one for one in parsed.things if one.clause == thing.clause and one.role == "with"), None)
        tool = tool if tool is not None and tool.source.kind in TOOLS and thing.source.kind in ANIMATE else None
        usual = tool.source.usual if tool is not None else usual
        happening = Happening(draft.lexicon.verbs[usual], thing.clause, 1.0, actor=thing, tool=tool)
        happening.target = next(
            (part for part in parsed.things if part.clause == thing.clause and part.role in ("on", "against", "into")),
            None,
        )
        happening.order = max((item.order for item in parsed.happenings if item.clause < thing.clause), default=1.0)
        parsed.happenings.append(happening)
        draft.notes.append(f"Assumed: the {thing.shown} {usual if thing.is_plural else third_person(usual)}.")


def _may_act(thing: Thing) -> bool:
    return (
        thing.source.usual is not None and thing.source.kind not in PASSIVE_KINDS and thing.source.name not in UNSPOKEN
    )


def _name_actors(parsed: Parsed, draft: Draft) -> None:
    """A happening without an actor gets the source that usually makes it."""
    for happening in parsed.happenings:
        if happening.actor is not None or (happening.target is not None and happening.passive):
            continue
        if (
            happening.target is not None
            and happening.verb.lemma in happening.target.source.actions
            and happening.verb.kind != "impact"
        ):
            happening.actor, happening.target = happening.target, None
            continue
        lemma = happening.verb.lemma
        doers = [source for source in draft.lexicon.sources.values() if lemma in source.actions]
        doers = [source for source in doers if source.kind == "weather" or not happening.impersonal]
        if not doers or (happening.unnamed and happening.verb.kind != "vocal"):
            continue
        source = next((one for one in doers if one.usual == lemma), doers[0])
        known = [thing for thing in parsed.things if thing.source is source and happening.impersonal]
        happening.actor = known[0] if known else Thing(source, source.name, False, "", happening.clause)
        happening.actor.acts = True
        parsed.things += [] if known else [happening.actor]
        named = _noun_phrase(happening.actor, [source.name])
        draft.notes.append(f"Assumed: {named} is what {third_person(lemma)}, since the prompt names none.")
    parsed.happenings = [item for item in parsed.happenings if item.actor or item.target]


def _limit(parsed: Parsed, draft: Draft) -> None:
    parsed.happenings.sort(key=lambda happening: (happening.order, happening.clause))
    unique: dict[tuple[object, ...], Happening] = {}
    for happening in parsed.happenings:
        unique.setdefault((happening.verb.lemma, id(happening.actor), id(happening.target)), happening)
    kept = list(unique.values())
    if len(kept) > MOST_EVENTS:
        draft.notes.append(f"Only the first {MOST_EVENTS} of {len(kept)} events are kept.")
    parsed.happenings = kept[:MOST_EVENTS]
    acting = {id(part) for item in parsed.happenings for part in (item.actor, item.target)}
    doubled = {item.actor.source.name for item in parsed.happenings if item.actor}
    parsed.things = [one for one in parsed.things if id(one) in acting or one.source.name not in doubled]
    kept_things = sorted(parsed.things, key=lambda thing: id(thing) not in acting)
    if len(kept_things) > MOST_ENTITIES:
        draft.notes.append(f"Only {MOST_ENTITIES} of {len(kept_things)} things are kept.")
    parsed.things = [thing for thing in parsed.things if thing in kept_things[:MOST_ENTITIES]]
    parsed.happenings = [item for item in parsed.happenings if (item.actor or item.target) in parsed.things]


def _place_of(parsed: Parsed, draft: Draft) -> Place:
    if parsed.place is not None:
        return parsed.place
    actors = [item.actor or item.target for item in parsed.happenings]
    touched = [
        item.target for item in parsed.happenings if item.target and item.actor and item.actor.source.name in UNSPOKEN
    ]
    actors = [*touched, *actors, *parsed.things]
    settings = [thing for kind in SETTINGS for thing in parsed.things if thing.source.kind == kind]
    settings = [thing for thing in settings if thing.role in SETTINGS[thing.source.kind]]
    usual = [_usual_place(thing, draft) for thing in (*settings, *actors)]
    around = [_usual_place(thing, draft) for thing in parsed.things if _is_outside(thing)]
    if parsed.outdoors or (around and usual[0].indoor):
        usual = [place for place in (*around, *usual) if not place.indoor] or [draft.lexicon.places["backyard"]]
    return usual[0] if usual else draft.lexicon.places["living room"]


def _usual_place(thing: Thing, draft: Draft) -> Place:
    return draft.lexicon.find(tuple(thing.source.place.split()))[1].place


def _is_outside(thing: Thing) -> bool:
    """Whether somebody is on a roof, behind a fence, in a tree."""
    if thing.source.name == "house":
        return thing.role in ("behind", "near", "around", "on")
    outside = thing.source.kind == "nature" or thing.shown.split()[-1] in ("roof", "fence")
    return outside and thing.role in ("on", "in", "through", "behind", "under", "over")


# entities


def _entities(parsed: Parsed, draft: Draft) -> list[Entity]:
    named = {draft.names[thing]: thing for thing in reversed(parsed.things) if thing in draft.names}
    shown = [thing for thing in parsed.things if thing in named.values()]
    order = [item.actor or item.target for item in parsed.happenings]
    shown.sort(key=lambda thing: order.index(thing) if thing in order else len(order))
    return [_entity(thing, draft) for thing in shown]


def _name(thing: Thing, draft: Draft) -> str:
    """A name without a word for sound, its own unless it was named before; "" for something that is only heard."""
    if thing in draft.names:
        return draft.names[thing]
    if not thing.source.looks:
        return ""
    if thing.same is not None and _name(thing.same, draft):
        draft.names[thing] = _name(thing.same, draft)
        return draft.names[thing]
    pure = not set(thing.shown.split()) & ACOUSTIC_WORDS and thing.source.seen_name == thing.source.name
    base = thing.shown if pure else plural(thing.source.seen_name) if thing.is_plural else thing.source.seen_name
    counted = f"{number_word(thing.count)} {base}" if thing.count and thing.count > 1 else base
    part = [one for one in draft.names if {one.source.seen_name, base} == {thing.source.seen_name}]
    if any(one.source is not thing.source for one in part):
        draft.names[thing] = base  # the whistle of a train is seen as the train
        return base
    colour = next((item.seen for item in thing.modifiers if item.kind in ("colour", "size", "age") and item.seen), "")
    taken = set(draft.names.values())
    candidates = [counted, f"{colour} {base}".strip(), f"second {base}", f"third {base}", f"other {base}"]
    name = next((candidate for candidate in candidates if candidate not in taken), f"{base} {len(taken) + 1}")
    draft.names[thing] = name
    return name


def _entity(thing: Thing, draft: Draft) -> Entity:
    name, adjectives = draft.names[thing], adjectives_of(thing)
    fresh = [word for word in adjectives if word not in name.split()]
    lead = name.split()[0] if thing.count and thing.count > 1 and name.split()[0] == number_word(thing.count) else ""
    rest = name.removeprefix(lead).strip()
    phrase = _noun_phrase(thing, [lead, *fresh, rest])
    looks = list(thing.source.looks)
    each = ", each" if thing.is_plural and thing.source.kind in SINGLE_KINDS else ""
    return Entity(name, (*adjectives, *looks), f"{phrase}{each} with {listed(looks)}")


# events


def _events(parsed: Parsed, draft: Draft) -> list[Event]:
    orders = sorted({happening.order for happening in parsed.happenings})
    rank = {order: number for number, order in enumerate(orders, 1)}
    events: list[Event] = []
    for happening in parsed.happenings:
        heard = heard_in(happening, draft.lexicon)
        name = _name(happening.actor or happening.target, draft)
        if not name:
            draft.ambient += [heard] if heard else []
            continue
        if happening.target is not None:
            _name(happening.target, draft)
        number = rank[happening.order]
        timing = (None, None) if len(orders) == 1 else ((number - 1) / len(orders), number / len(orders))
        sound = Sound(heard, cause_of(happening)) if heard else None
        seen = action_of(happening)
        events.append(Event(f"e{len(events) + 1}", number, *(_rounded(time) for time in timing), name, seen, sound))
    watched = [happening.target for happening in parsed.happenings if happening.verb.kind == "silent"]
    used = [happening.actor for happening in parsed.happenings]
    used += [happening.target for happening in parsed.happenings if happening.verb.kind != "silent"]
    for thing in parsed.things:
        _name(thing, draft)
        near = thing in watched or thing.role in NEARBY
        if near and thing not in used and thing.source.kind in ("fire", "water", "weather", "city"):
            usual = thing.source.usual
            heard = (thing.source.actions[usual] or draft.lexicon.verbs[usual].heard) if usual else None
            known = [event.sound.heard for event in events if event.sound]
            draft.ambient += [heard] if heard and heard not in known else []
    return events


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


# surroundings


def _setting(parsed: Parsed, kind: str) -> str | None:
    return next((item.seen for item in parsed.settings if item.kind == kind and item.seen), None)


def _environment(parsed: Parsed, place: Place) -> str:
    additions = [
        item.seen for kind in ("weather", "time", "season") for item in _first(parsed.settings, kind) if item.seen
    ]
    return ", ".join([place.look, *additions])


def _first(items: list[Modifier], kind: str) -> list[Modifier]:
    return [item for item in items if item.kind == kind][:1]


def _ambient(parsed: Parsed, place: Place, draft: Draft) -> str:
    weather = [item.heard for item in parsed.settings if item.kind == "weather" and item.heard]
    parts = [part for text in (*draft.ambient, *weather, place.ambient) for part in text.split(" and ")]
    actors = [item.actor or item.target for item in parsed.happenings]
    sounding = {word for actor in actors for word in (actor.source.name.split()[0], actor.shown.split()[-1])}
    gone = draft.excluded | ({stem for stem in sounding if len(stem) > 3} if not draft.ambient else set())
    heard = [part for part in dict.fromkeys(parts) if not _is_excluded(part, gone)]
    return " and ".join(heard[:3]) or (ROOM_TONE if place.indoor else OPEN_AIR)


def _is_excluded(text: str, excluded: set[str]) -> bool:
    return any(
        word.startswith(stem.removesuffix("s"))
        for word in re.findall(r"\w+", text)
        for stem in excluded
        if len(stem) > 2
    )


def _mood(parsed: Parsed) -> str:
    spoken = [
        item.seen for happening in parsed.happenings for item in happening.manner if item.kind == "mood" and item.seen
    ]
    spoken += [item.seen for thing in parsed.things for item in thing.modifiers if item.kind == "mood" and item.seen]
    return spoken[0] if spoken else "natural and immediate"
