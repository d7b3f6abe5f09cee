"""Whether a text is English: the share of its words that the word lists know or are written with."""

from __future__ import annotations

import re
from functools import lru_cache

from ...core.errors import InputError
from .data import Lexicon, Meaning, load_lexicon

# Words known least before a text counts as English, and how long a prompt must be to be judged.
LEAST_KNOWN_SHARE = 0.4
JUDGED_FROM_WORDS = 3
# Different words of a caption or of anchors.
CAPTION_JUDGED_FROM_WORDS = 5
# Small words of other languages that English does not have. They decide where the nouns are the same ("Park", "Wind").
_FOREIGN_WORDS = """
der das dem des ein eine einen einem einer und ist sind im zu zum zur mit auf von für nicht sich über beim
el los las un una unos del y en por con para que su se mientras
le les une et est dans sur au aux du qui avec pendant
il gli che nel nella sul della mentre sono
het een op te aan naar zijn terwijl
um uma os da na em ao enquanto
och ett på som att är av og det til
w się jest oraz
"""
FOREIGN_WORDS = frozenset(_FOREIGN_WORDS.split())
MOST_FOREIGN_SHARE = 0.2
_WORD = re.compile(r"[^\W_]*[^\W\d_][^\W_]*(?:['’][^\W_]+)*")
_POINTED = re.compile(r"\d+(?:[.,:]\d+)+")
_CONTRACTED = re.compile(r"n['’]t$")
# Endings that hardly any other language in Latin script has; captions use more words than the lists hold.
_ENGLISH_ENDING = re.compile(r"\w{3}(?:ing|ed|ly|ness|less|ful|ous|ish)$")
_DERIVATIONS = (("ly", ""), ("ily", "y"), ("ier", "y"), ("iest", "y"), ("est", ""), ("er", ""), ("y", ""))


def meaning_of(word: str, lexicon: Lexicon) -> Meaning:
    """What one word in lower case means; an unknown word has no meaning set.

    Numbers, contractions and simple derivations of known words have a plain meaning.
    """
    found = lexicon.index.get((word.removesuffix("'s"),))
    if found is not None:
        return found
    if _POINTED.fullmatch(word):
        return Meaning(plain=True)
    if word.isdecimal() and len(word) <= 3:
        return Meaning(number=int(word), plain=True)
    if _CONTRACTED.search(word) or "'" in word:
        return Meaning(plain=True)
    for ending, stem in _DERIVATIONS:
        base = lexicon.index.get((word.removesuffix(ending) + stem,)) if word.endswith(ending) else None
        if base is not None and len(word) > len(ending) + 2 and (base.modifier or base.plain):
            return Meaning(plain=True, modifier=base.modifier)
    return Meaning()


def too_few_known(num_words: int, num_known: int) -> bool:
    """Whether a text with so many known words is in another language; too short a text is not judged."""
    return num_words >= JUDGED_FROM_WORDS and num_known < LEAST_KNOWN_SHARE * num_words


def require_english_text(text: str, what: str) -> None:
    """Refuse a text in another language.

    Raises:
        InputError: the text is not English; ``what`` names it.
    """
    if is_foreign(text):
        raise InputError(
            f"{what} are not in English",
            got=repr(text[:60]),
            expected="every field in English",
            remedy="Translate them, or choose a backend with a language model.",
        )


def is_foreign(text: str) -> bool:
    """Whether a caption is in another language than English, in whatever script."""
    lexicon, written = load_lexicon(), _written_words()
    words = [word.lower().replace("’", "'") for word in _WORD.findall(text)]
    num_known = sum(
        word in written or meaning_of(word, lexicon).known or bool(_ENGLISH_ENDING.search(word)) for word in words
    )
    num_foreign = sum(word in FOREIGN_WORDS for word in words)
    if len(set(words)) < CAPTION_JUDGED_FROM_WORDS:
        return False
    return too_few_known(len(words), num_known) or num_foreign > max(1, MOST_FOREIGN_SHARE * len(words))


@lru_cache(maxsize=1)
def _written_words() -> frozenset[str]:
    """The words of all descriptions in the word lists."""
    lexicon = load_lexicon()
    verbs = [*lexicon.verbs.values(), *(sense.verb for found in lexicon.verb_senses.values() for sense in found)]
    texts = [text for verb in verbs if verb for text in (verb.seen, verb.heard or "")]
    texts += [text for place in lexicon.places.values() for text in (place.look, place.ambient)]
    for source in lexicon.sources.values():
        texts += [*source.looks, *filter(None, source.actions.values()), source.motion.seen if source.motion else ""]
    return frozenset(word for text in texts for word in _WORD.findall(text.lower()))
