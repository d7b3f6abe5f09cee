"""English word forms: plurals, inflections, articles, lists. Irregular verbs stand in the word lists."""

from __future__ import annotations

from collections.abc import Sequence

VOWELS = "aeiou"
NUMBERS = {
    word: value
    for value, word in enumerate(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"],
    )
} | {"dozen": 12, "couple": 2, "pair": 2, "several": 4, "few": 3, "many": 7, "twenty": 20, "hundred": 100}
# Sounds like a vowel, or like a consonant, against its spelling.
_AN = ("hour", "honest", "heir")
_A = ("uni", "use", "one", "eu", "ukulele")
_IRREGULAR_PLURALS = {
    "man": "men",
    "woman": "women",
    "child": "children",
    "person": "people",
    "mouse": "mice",
    "goose": "geese",
    "foot": "feet",
    "tooth": "teeth",
    "sheep": "sheep",
    "deer": "deer",
    "fish": "fish",
    "ox": "oxen",
}
_PLURALS_IN_OES = ("echo", "potato", "tomato", "volcano", "mosquito", "buffalo", "tornado", "torpedo", "hero", "domino")
# Final consonants of these are not doubled although the rule for short stems would.
_DOUBLED = ("regret", "begin", "permit", "control")


def article(noun: str) -> str:
    """The noun phrase with "a" or "an"."""
    low = noun.lower()
    vowel = (low[:1] in VOWELS and not low.startswith(_A)) or low.startswith(_AN)
    return f"{'an' if vowel else 'a'} {noun}"


def plural(noun: str) -> str:
    """The plural of a noun phrase's last word; phrases with "of" inflect the word before it."""
    head, joint, rest = noun.partition(" of ")
    if joint:
        return plural(head) + joint + rest
    front, _, last = noun.rpartition(" ")
    if last in _IRREGULAR_PLURALS:
        form = _IRREGULAR_PLURALS[last]
    elif last.endswith(("man",)) and last not in ("human", "german"):
        form = last[:-3] + "men"
    elif last.endswith(("s", "x", "z", "ch", "sh")) or last in _PLURALS_IN_OES:
        form = last + "es"
    elif last.endswith("y") and last[-2:-1] not in VOWELS:
        form = last[:-1] + "ies"
    elif last.endswith(("leaf", "calf", "wolf", "shelf")):
        form = last[:-1] + "ves"
    elif last.endswith("knife"):
        form = "knives"
    else:
        form = last + "s"
    return f"{front} {form}".strip()


def third_person(verb: str) -> str:
    """The form after "it": "push" to "pushes"; of a phrase, the first word inflects."""
    first, space, rest = verb.partition(" ")
    if first in ("be", "have", "do", "go"):
        first = {"be": "is", "have": "has", "do": "does", "go": "goes"}[first]
    elif first.endswith(("s", "x", "z", "ch", "sh")) or (first.endswith("o") and not first.endswith("oo")):
        first += "es"
    elif first.endswith("y") and first[-2:-1] not in VOWELS:
        first = first[:-1] + "ies"
    else:
        first += "s"
    return first + space + rest


def _doubles(verb: str) -> bool:
    """Whether the last consonant doubles before -ing and -ed: one vowel between consonants, one syllable."""
    if verb in _DOUBLED:
        return True
    num_vowels = sum(letter in VOWELS for letter in verb)
    tail = verb[-3:]
    return (
        len(verb) >= 3
        and num_vowels == 1
        and tail[0] not in VOWELS
        and tail[1] in VOWELS
        and tail[2] not in VOWELS + "wxy"
    )


def gerund(verb: str) -> str:
    """The -ing form; of a phrase, the first word inflects."""
    first, space, rest = verb.partition(" ")
    if first.endswith("ie"):
        first = first[:-2] + "ying"
    elif first.endswith("e") and not first.endswith(("ee", "oe", "ye")):
        first = first[:-1] + "ing"
    elif _doubles(first):
        first += first[-1] + "ing"
    else:
        first += "ing"
    return first + space + rest


def past(verb: str) -> str:
    """The regular -ed form."""
    if verb.endswith("e"):
        return verb + "d"
    if verb.endswith("y") and verb[-2:-1] not in VOWELS:
        return verb[:-1] + "ied"
    return verb + (verb[-1] if _doubles(verb) else "") + "ed"


def latin_words(text: str) -> str:
    """The words of a text that are in Latin script: the towers' captions are English."""
    return " ".join(word for word in text.split() if all(char <= "\u024f" for char in word if char.isalpha()))


def listed(items: Sequence[str]) -> str:
    """Items as "a, b and c"."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""


def number_word(count: int) -> str:
    """3 to "three", beyond twelve in digits."""
    return next((word for word, value in NUMBERS.items() if value == count and count <= 12), str(count))


def times(count: int) -> str:
    """1 to "once", 3 to "three times"."""
    return {1: "once", 2: "twice"}.get(count, f"{number_word(count)} times")
