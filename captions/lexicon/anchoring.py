"""From what was understood of a prompt to semantic anchors, with a note for everything that was assumed or left out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ..anchors import Entity, Event, SemanticAnchors, Sound
from ..vocabulary import ACOUSTIC_WORDS
from .choice import Chooser
from .data import ANIMATE, PASSIVE_KINDS, Lexicon, Modifier, Place
from .grammar import TOOLS
from .sounding import cause_of, heard_in, is_countable
from .understood import Happening, Parsed, Thing
from .words import article, listed, number_word, plural, third_person, times

MOST_ENTITIES = 8
MOST_EVENTS = 6
ROOM_TONE, OPEN_AIR = "quiet room tone", "calm open air"
# People of whom nothing is said are not made to talk.
UNSPOKEN = frozenset({"man", "woman", "person", "people", "child", "family"})
SEEN_ADJECTIVES = ("size", "age", "colour", "look", "shape", "material")
# Prepositions after which a fire or water is heard in the background.
NEARBY = frozenset(["by", "near", "beside", "in", "around", "behind", "before", "next", "along", "under"])
# Kinds of which several are seen one by one.
SINGLE_KINDS = frozenset(
    {"animal", "person", "bell", "vehicle", "machine", "instrument", "drum", "tool", "door", "clock"}
)
# What each of several has one of.
_ONE_EACH = re.compile(
    r"their (head|mouth|neck|chest|throat|tail|beak|body|face|nose|muzzle|chin|tongue|snout|mane|back|jaw|bill|trunk)\b"
)
CAMERAS = (
    "a steady medium shot at eye level with a very slow push-in",
    "a static medium-wide shot at eye level",
    "a gentle sideways glide at eye level",
    "a locked-off view that slowly drifts closer",
)
# What has a mouth; the rest trembles when it "screams" or "roars".
VOICED = ANIMATE | {"body", "event", "crowd"}
UNVOICED_LOOK = "*quiver and *strain, the outline blurring slightly with every surge"
RUNNING_LOOK = "*keep up a steady motion, small parts moving in a regular rhythm"
_AGREEING = re.compile(r"\*([\w-]+)")
_OBJECT = re.compile(r"\{o=([^}]*)\}")


@dataclass
class Draft:
    """Anchors in the making."""

    lexicon: Lexicon
    chooser: Chooser
    notes: list[str] = field(default_factory=list)
    names: dict[Thing, str] = field(default_factory=dict)
    excluded: set[str] = field(default_factory=set)
    ambient: list[str] = field(default_factory=list)


def build_anchors(parsed: Parsed, lexicon: Lexicon, chooser: Chooser) -> tuple[SemanticAnchors, list[str]]:
    """Anchors and notes for a parsed prompt."""
    draft = Draft(lexicon, chooser)
    _drop_negated(parsed, draft)
    _add_usual_actions(parsed, draft)
    _name_actors(parsed, draft)
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
    parsed.things = [thing for thing in parsed.things if thing not in gone]
    parsed.happenings = [happening for happening in parsed.happenings if happening not in denied]
    for happening in parsed.happenings:
        happening.target = None if happening.target in gone else happening.target
    names = [thing.shown for thing in gone] + [happening.verb.lemma for happening in denied]
    if names:
        draft.notes.append("Left out, as the prompt says: " + ", ".join(dict.fromkeys(names)) + ".")


def _add_usual_actions(parsed: Parsed, draft: Draft) -> None:
    """A thing that stands alone does what it usually does; the note says which was assumed."""
    busy = {id(part) for happening in parsed.happenings for part in (happening.actor, happening.target)}
    alone = [thing for thing in parsed.things if id(thing) not in busy and not thing.acts and thing.role in ("", "of")]
    if not parsed.happenings and not any(_may_act(thing) for thing in alone):
        alone += [thing for thing in parsed.things if id(thing) not in busy and thing not in alone]
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
        if not doers:
            continue
        source = next((one for one in doers if one.usual == lemma), doers[0])
        happening.actor = Thing(source, source.name, False, "", happening.clause, acts=True)
        parsed.things.append(happening.actor)
        draft.notes.append(
            f"Assumed: {article(source.name)} is what {third_person(lemma)}, since the prompt names none."
        )
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
    settings = [
        thing for thing in parsed.things if thing.role in ("in", "by", "near", "along") and thing.source.kind == "water"
    ]
    for thing in [*settings, *actors]:
        meaning = draft.lexicon.find(tuple(thing.source.place.split()))
        if meaning is not None and meaning[1].place is not None:
            return meaning[1].place
    return draft.lexicon.places["living room"]


# entities


def _entities(parsed: Parsed, draft: Draft) -> list[Entity]:
    shown = [thing for thing in parsed.things if thing in draft.names]
    order = [item.actor or item.target for item in parsed.happenings]
    shown.sort(key=lambda thing: order.index(thing) if thing in order else len(order))
    return [_entity(thing, draft) for thing in shown]


def _name(thing: Thing, draft: Draft) -> str:
    """A name of its own, without a word for sound; "" for something that is only heard."""
    if thing in draft.names:
        return draft.names[thing]
    if not thing.source.looks:
        return ""
    pure = not set(thing.shown.split()) & ACOUSTIC_WORDS and thing.source.seen_name == thing.source.name
    base = thing.shown if pure else plural(thing.source.seen_name) if thing.is_plural else thing.source.seen_name
    counted = f"{number_word(thing.count)} {base}" if thing.count and thing.count > 1 else base
    colour = next((item.seen for item in thing.modifiers if item.kind in ("colour", "size", "age") and item.seen), "")
    taken = set(draft.names.values())
    candidates = [counted, f"{colour} {base}".strip(), f"second {base}", f"third {base}", f"other {base}"]
    name = next((candidate for candidate in candidates if candidate not in taken), f"{base} {len(taken) + 1}")
    draft.names[thing] = name
    return name


def _adjectives(thing: Thing) -> list[str]:
    found = [item for kind in SEEN_ADJECTIVES for item in thing.modifiers if item.kind == kind and item.seen]
    return list(dict.fromkeys(item.seen for item in found))[:3]


def _entity(thing: Thing, draft: Draft) -> Entity:
    name, adjectives = draft.names[thing], _adjectives(thing)
    fresh = [word for word in adjectives if word not in name.split()]
    lead = name.split()[0] if thing.count and thing.count > 1 and name.split()[0] == number_word(thing.count) else ""
    rest = name.removeprefix(lead).strip()
    noun = " ".join([lead, *fresh, rest]).strip()
    phrase = noun if thing.is_plural or not is_countable(thing) else article(noun)
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
        seen = _seen(happening)
        events.append(Event(f"e{len(events) + 1}", number, *(_rounded(time) for time in timing), name, seen, sound))
    used = {id(part) for happening in parsed.happenings for part in (happening.actor, happening.target)}
    for thing in parsed.things:
        _name(thing, draft)
        if id(thing) not in used and thing.role in NEARBY and thing.source.kind in ("fire", "water", "weather", "city"):
            usual = thing.source.usual
            heard = (thing.source.actions[usual] or draft.lexicon.verbs[usual].heard) if usual else None
            known = [event.sound.heard for event in events if event.sound]
            draft.ambient += [heard] if heard and heard not in known else []
    return events


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _seen(happening: Happening) -> str:
    """The visible action of a happening, agreeing with its subject."""
    subject = happening.actor or happening.target
    if happening.passive:
        contact = "*take {n} after another, the surface shivering at each contact"
        text = (
            contact.replace("{n}", "one stroke")
            if happening.verb.kind in ("impact", "operate", "string")
            else happening.verb.seen
        )
    else:
        text = _look(happening)
    target = None if happening.passive else happening.target
    text = _OBJECT.sub(lambda match: _object_phrase(target, match[1]), text)
    many = subject.is_plural
    text = _AGREEING.sub(lambda match: match[1] if many else third_person(match[1]), text)
    personal = many or subject.source.kind in ("person", "people", "body")
    text = text.replace("{its}", "their" if personal else "its")
    if many:
        text = _ONE_EACH.sub(lambda match: f"their {plural(match[1])}", text)
    if target is not None and "{o=" not in _look(happening) and target.source.looks:
        text += f", close to the {_pure_name(target)}"
    manner = [item.seen for item in happening.manner if item.seen and item.kind in ("tempo", "distance")]
    count = [times(happening.count)] if happening.count else []
    return ", ".join([text, *dict.fromkeys(manner + count)])


def _look(happening: Happening) -> str:
    """The source's own motion where it has one for this verb, else the verb's look."""
    source = happening.actor.source if happening.actor else None
    if source is not None and source.motion is not None and happening.verb.lemma in source.actions:
        return source.motion.seen
    kind = happening.verb.kind
    if source is not None and source.kind not in VOICED and kind in ("vocal", "operate"):
        return UNVOICED_LOOK if kind == "vocal" else RUNNING_LOOK
    if source is not None and happening.tool is not None and kind == "motor" and source.kind in ANIMATE:
        return f"*hold the {_pure_name(happening.tool)} firmly in both hands and *lean into the work"
    return happening.verb.seen


def _object_phrase(target: Thing | None, otherwise: str) -> str:
    if target is None or not target.source.looks:
        return otherwise
    return "the " + " ".join([*_adjectives(target)[:1], _pure_name(target)])


def _pure_name(thing: Thing) -> str:
    impure = set(thing.shown.split()) & ACOUSTIC_WORDS or thing.source.seen_name != thing.source.name
    return thing.source.seen_name if impure else thing.shown


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
