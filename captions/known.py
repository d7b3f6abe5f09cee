"""What a model of few scenes knows: whether captions are about one of them, told by the words of its note."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..core.dialect import read
from ..core.types import Captions
from .english.data import load_lexicon
from .english.foreign import is_foreign
from .english.words import listed, number_word

Scenes = Sequence[tuple[str, Sequence[str]]]
# Sources of these kinds are what a clip is about; others may stand around in any scene.
_SUBJECTS = frozenset({"animal", "vehicle", "instrument", "bell", "weapon", "alarm", "people"})
_NO_SUBJECTS = frozenset({"show", "shows"})  # written captions say what the foreground shows
_WORD = re.compile(r"[a-z]+")
_LETTER = re.compile(r"[^\W\d_]")


def unknown_to_model(captions: Captions, scenes: Scenes) -> str:
    """A sentence for captions about something that a model was never shown; empty when it can know all of it.

    Args:
        captions: As they are encoded; other languages than English are said not to be read.
        scenes: All that the model knows, each with the words that tell a text about it; none for a model of anything.
    """
    text = " ".join(read(caption).plain for caption in (captions.video, captions.audio))
    if not scenes or not _LETTER.search(text):
        return ""
    known = "it knows " + number_word(len(scenes)) + " scenes: " + listed([scene for scene, _ in scenes])
    if not known_scenes(text, scenes):
        if is_foreign(text) or not _WORD.search(text.lower()):
            return f"This model reads English only, and {known}."
        return f"This model cannot know what is asked for: {known}. The clip will show one of these, or nothing clear."
    others = strangers(text, scenes)
    return f"This model does not know: {', '.join(others)}; {known}." if others else ""


def known_scenes(text: str, scenes: Scenes) -> list[str]:
    """The scenes that a text may be about: those of which one entry's words all occur, in any form."""
    words = set(_WORD.findall(text.lower()))
    return [scene for scene, entries in scenes if any(_occurs(entry, words) for entry in entries)]


def strangers(text: str, scenes: Scenes) -> list[str]:
    """Nouns of a text, as the lexicon knows them, that are subjects of their own and belong to no scene."""
    own = {word for _, entries in scenes for entry in entries for word in entry.split()}
    index, found = load_lexicon().index, {}
    for word in _WORD.findall(text.lower()):
        meaning = index.get((word,))
        if meaning is None or meaning.source is None or meaning.source.kind not in _SUBJECTS:
            continue
        is_noun = meaning.verb is None and meaning.modifier is None and word not in _NO_SUBJECTS
        if is_noun and not any(_is_form(word, stem) for stem in own):
            found[word] = None
    return list(found)


def _occurs(entry: str, words: set[str]) -> bool:
    return all(any(_is_form(word, stem) for word in words) for stem in entry.split())


def _is_form(word: str, stem: str) -> bool:
    """Whether a word is a noun's plural, or a form of a verb: knock, knocks, knocking, dripped."""
    short = stem.removesuffix("e")
    if not word.startswith(short):
        return False
    rest = word[len(short) :]
    doubled = tuple(f"{stem[-1]}{ending}" for ending in ("ed", "ing", "er"))
    return rest in (stem[len(short) :], "s", "es", "ed", "ing", "er", "ers", *doubled)
