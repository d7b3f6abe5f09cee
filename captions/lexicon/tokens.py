"""A prompt's text as tokens: normalised, split, and looked up longest phrase first."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from ...core.errors import InputError
from ..english.data import Lexicon, Meaning
from ..english.foreign import meaning_of, too_few_known
from ..lines import as_sentences

SHOWN_CHARS = 32
# A number with a point or a colon in it is one word, and no full stop.
_PIECES = re.compile(r"\d+(?:[.,:]\d+)+|[^\W_]+(?:['’][^\W_]+)*|[.!?;:,]|[-–—]")
_STOPS = frozenset(".!?;")


@dataclass(frozen=True)
class Token:
    """One word, phrase or punctuation mark.

    Args:
        text: As written, lower case.
        meaning: What it can mean; for an unknown word nothing is set.
        possessive: Whether it carried "'s".
    """

    text: str
    meaning: Meaning
    possessive: bool = False

    @property
    def is_word(self) -> bool:
        """Whether it is a word and no punctuation mark."""
        return self.text[:1].isalnum()

    @property
    def ends_sentence(self) -> bool:
        """Whether it is a full stop or the like."""
        return self.text in _STOPS


def normalise(prompt: str) -> str:
    """NFKC, lines made sentences, without control and format characters, spaces made plain."""
    text = unicodedata.normalize("NFKC", as_sentences(prompt))
    return "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in text)


def tokenise(prompt: str, lexicon: Lexicon) -> tuple[list[Token], list[str]]:
    """Tokens of a prompt, and the words that mean nothing to the lexicon, as written, each once.

    Raises:
        InputError: there is no word at all, or too few are English words that the lexicon knows.
    """
    pieces = _PIECES.findall(normalise(prompt))
    words = [piece.lower().replace("’", "'") for piece in pieces]
    tokens: list[Token] = []
    unknown: dict[str, None] = {}
    num_words = num_known = position = 0
    while position < len(words):
        word = words[position]
        if not word[0].isalnum():
            if word not in "-–—":
                tokens.append(Token(word, Meaning()))
            position += 1
            continue
        length, token = _longest(words, position, lexicon)
        tokens.append(token)
        position += length
        num_words += length
        if token.meaning.known:
            num_known += length
        else:
            unknown[pieces[position - 1]] = None
    _require_english(num_words, num_known)
    return tokens, list(unknown)


def _longest(words: list[str], position: int, lexicon: Lexicon) -> tuple[int, Token]:
    """The longest known phrase from here; hyphens inside phrases do not count."""
    ahead, ends = [], []
    for offset, word in enumerate(words[position : position + 8]):
        if word[0].isalnum():
            ahead.append(word.removesuffix("'s"))
            ends.append(offset + 1)
        elif word != "-":
            break
    found = lexicon.find(tuple(ahead))
    if found is not None:
        length, meaning = found
        last = words[position + ends[length - 1] - 1]
        return ends[length - 1], Token(" ".join(ahead[:length]), meaning, last.endswith("'s"))
    return 1, Token(words[position], meaning_of(ahead[0], lexicon))


def _require_english(num_words: int, num_known: int) -> None:
    if num_words == 0:
        raise InputError(
            "the prompt has no word that can be seen or heard",
            expected="a short description in English, for example 'a dog barks in a park'",
        )
    if num_known == 0 or too_few_known(num_words, num_known):
        raise InputError(
            "the lexicon backend cannot read this prompt: it knows English only",
            got=f"{num_known} known of {num_words} words",
            expected="a short description in English",
            remedy="Write the prompt in English, or choose a backend with a language model for other languages.",
        )


def brief(word: str) -> str:
    """A word short enough for a sentence."""
    return word if len(word) <= SHOWN_CHARS else word[:SHOWN_CHARS] + "…"
