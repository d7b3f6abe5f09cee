"""The word lists, read once: sound sources, verbs, places, modifiers and plain words, and an index over their forms.

Tables are tab-separated beside this file. In a verb's looks ``*`` marks a word that agrees with the subject, ``{its}``
its possessive and ``{o=the floor}`` the object with what stands for it when none is named; in a verb's sound
``{m=hard}`` is the timbre of the material that is touched.

``verb_senses.tsv`` names who does what to what: kinds or names of sources, ``any``, ``none``, ``some`` for any at all,
``own`` for a source that lists the verb, ``unread`` for an object that is not known. The first row that fits counts.
``=`` keeps the verb as it is; ``@who`` and ``@what`` are the usual sound of who does it and of what it is done to,
``@fall`` is how the latter falls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from .words import NUMBERS, gerund, past, plural, third_person

FOLDER = Path(__file__).parent
MAX_PHRASE_WORDS = 4
ANIMATE = frozenset({"animal", "person", "people"})
# Words for somebody that are no name in a caption.
UNNAMED = frozenset({"someone", "somebody", "he", "she", "anyone", "human", "figure", "individual", "people person"})
# Kinds that are seen or touched but do not sound unless somebody acts on them.
PASSIVE_KINDS = frozenset(
    {"surface", "object", "body", "food", "liquid", "backdrop", "kitchen", "door", "quiet", "depiction"}
)


@dataclass(frozen=True)
class Verb:
    """An action: its kind, how it looks, how it sounds by itself (None for a silent one) and its past participle."""

    lemma: str
    kind: str
    seen: str
    heard: str | None
    participle: str
    # What sound it takes instead of its own: "who", "what", "fall", or "".
    borrows: str = ""


@dataclass(frozen=True)
class VerbSense:
    """Another sense of a verb.

    Args:
        who: Kinds or names of sources that act, or a word of the table.
        what: The same for what is acted on.
        verb: The verb as it looks and sounds then; None to keep it as it is.
    """

    who: frozenset[str]
    what: frozenset[str]
    verb: Verb | None


@dataclass(frozen=True)
class Motion:
    """How one source moves when it sounds, and the kind of motion that is."""

    kind: str
    seen: str


@dataclass(frozen=True)
class Source:
    """Something that can sound.

    Args:
        name: Singular name.
        kind: Its class: animal, vehicle, bell, …
        looks: What one sees of it, a few words each; empty when it is only heard.
        seen_name: What a picture's description calls it.
        place: Name of its usual place.
        actions: Verb to sound, None where the verb's own sound fits; the first one is its usual action.
        motion: How it looks in any of these actions; None where each verb's own looks fit.
    """

    name: str
    kind: str
    looks: tuple[str, ...]
    seen_name: str
    place: str
    actions: dict[str, str | None]
    motion: Motion | None = None

    @property
    def usual(self) -> str | None:
        """The verb of its usual action; None for a silent thing."""
        return next(iter(self.actions), None)


@dataclass(frozen=True)
class Place:
    """A place: how it looks and what it sounds like when nothing happens."""

    name: str
    indoor: bool
    look: str
    ambient: str


@dataclass(frozen=True)
class Modifier:
    """An adjective or adverb: its kind, its word in the picture and its word in the sound (None where it has none)."""

    word: str
    kind: str
    seen: str | None
    heard: str | None


@dataclass
class Meaning:
    """Everything one form can mean; absent parts are None."""

    source: Source | None = None
    shown: str = ""
    is_plural: bool = False
    verb: Verb | None = None
    tenses: set[str] = field(default_factory=set)
    place: Place | None = None
    modifier: Modifier | None = None
    number: int | None = None
    plain: bool = False

    @property
    def known(self) -> bool:
        """Whether the form means anything."""
        return self.plain or self.number is not None or any((self.source, self.verb, self.place, self.modifier))


@dataclass(frozen=True, eq=False)
class Lexicon:
    """All lists, the index from a form's words to its meaning, and words whose sense depends on what stands with them.

    Args:
        senses: Noun and the word after it, to the source that is meant then and its name.
        verb_senses: Senses of a verb in the order in which they are tried.
    """

    sources: dict[str, Source]
    verbs: dict[str, Verb]
    places: dict[str, Place]
    index: dict[tuple[str, ...], Meaning]
    senses: dict[tuple[str, str], tuple[Source, str]]
    verb_senses: dict[str, list[VerbSense]]

    def find(self, words: tuple[str, ...]) -> tuple[int, Meaning] | None:
        """The longest phrase at the start of ``words`` that means something: its number of words and its meaning."""
        for length in range(min(MAX_PHRASE_WORDS, len(words)), 0, -1):
            meaning = self.index.get(words[:length])
            if meaning is not None:
                return length, meaning
        return None


@lru_cache(maxsize=1)
def load_lexicon() -> Lexicon:
    """Read the tables."""
    lexicon = Lexicon(sources={}, verbs={}, places={}, index={}, senses={}, verb_senses={})
    for row in _rows("verbs.tsv"):
        _add_verb(lexicon, *row)
    for row in _rows("places.tsv"):
        _add_place(lexicon, *row)
    motions = {name: Motion(kind, seen) for name, kind, seen in _rows("motions.tsv")}
    for row in _rows("sources.tsv"):
        _add_source(lexicon, motions, *row)
    for word, before, name, shown in _rows("senses.tsv"):
        lexicon.senses[word, before] = (lexicon.sources[name], shown)
    for row in _rows("verb_senses.tsv"):
        _add_verb_sense(lexicon, *row)
    for words, kind, seen, heard in _rows("modifiers.tsv"):
        for word in words.split(","):
            meaning = Modifier(word, kind, None if seen == "-" else seen, None if heard == "-" else heard)
            _meaning(lexicon, word).modifier = meaning
    for word, value in NUMBERS.items():
        _meaning(lexicon, word).number = value
    for word in (FOLDER / "words.txt").read_text(encoding="utf-8").split():
        _meaning(lexicon, word).plain = True
    return lexicon


def _rows(name: str) -> Iterator[list[str]]:
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    yield from (line.split("\t") for line in lines[1:])


def _meaning(lexicon: Lexicon, phrase: str) -> Meaning:
    return lexicon.index.setdefault(tuple(phrase.replace("-", " ").split()), Meaning())


def _add_verb(lexicon: Lexicon, lemma: str, also: str, kind: str, seen: str, heard: str) -> None:
    irregular, *others = also.split(",") if "/" in also else ("", *also.split(","))
    pasts = irregular.split("/") if irregular else [past(lemma), past(lemma)]
    verb = Verb(lemma, kind, seen, None if heard == "-" else heard, pasts[1])
    lexicon.verbs[lemma] = verb
    forms = {"base": [lemma], "s": [third_person(lemma)], "ing": [gerund(lemma)], "past": [pasts[0]], "pp": [pasts[1]]}
    for other in filter(None, others):
        if " " in other or other.endswith("ing"):
            forms["ing" if other.split()[0].endswith("ing") else "s"].append(other)
        else:
            for tense, form in (("base", other), ("s", third_person(other)), ("ing", gerund(other))):
                forms[tense].append(form)
            forms["past"].append(past(other))
    for tense, names in forms.items():
        for name in names:
            meaning = _meaning(lexicon, name)
            meaning.verb = meaning.verb or verb
            meaning.tenses.add(tense)


def _add_verb_sense(lexicon: Lexicon, lemmas: str, who: str, what: str, kind: str, seen: str, heard: str) -> None:
    for lemma in lemmas.split(","):
        base = lexicon.verbs[lemma]
        borrows = heard[1:] if heard.startswith("@") else ""
        own = base.heard if heard == "-" or borrows else heard
        verb = None if kind == "=" else Verb(lemma, kind, seen, own, base.participle, borrows)
        sense = VerbSense(frozenset(who.split(",")), frozenset(what.split(",")), verb)
        lexicon.verb_senses.setdefault(lemma, []).append(sense)


def _add_place(lexicon: Lexicon, name: str, also: str, where: str, look: str, ambient: str) -> None:
    place = Place(name, where == "in", look, ambient)
    lexicon.places[name] = place
    for form in [name, *filter(None, also.split(","))]:
        for shape in (form, plural(form)):
            meaning = _meaning(lexicon, shape)
            meaning.place = meaning.place or place


def _add_source(lexicon: Lexicon, motions: dict[str, Motion], *row: str) -> None:
    name, also, kind, looks, place, actions = row
    seen_name, colon, details = looks.rpartition(":")
    pairs = (item.partition("=") for item in actions.split("/") if item != "-")
    source = Source(
        name.partition("/")[0],
        kind,
        tuple(details.split(";")) if details != "-" else (),
        seen_name if colon else name.partition("/")[0],
        place,
        {verb: heard or None for verb, _, heard in pairs},
        motions.get(name.partition("/")[0]),
    )
    lexicon.sources[source.name] = source
    for form in [name, *filter(None, also.split(","))]:
        single, _, many = form.partition("/")
        for shape, is_plural in ((single, False), (many or plural(single), True)):
            meaning = _meaning(lexicon, shape)
            if meaning.source is None or shape == source.name:
                meaning.source = source
                meaning.shown = "person" if shape in UNNAMED else shape
                meaning.is_plural = is_plural or _looks_plural(shape)


def _looks_plural(form: str) -> bool:
    """Listed forms that are plural already: "waves", "people"."""
    last = form.partition(" of ")[0].split()[-1]
    if last in ("people", "children", "men", "women", "mice", "geese", "cattle", "folks"):
        return True
    return last.endswith("s") and not last.endswith(("ss", "us", "sis"))
