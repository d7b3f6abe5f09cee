"""Prompts of several lines: each line is a sentence, unless it plainly goes on in the next one."""

from __future__ import annotations

import re
import unicodedata

from .english.function_words import AUXILIARIES, DETERMINERS, LATER, PREPOSITIONS, SAME_TIME

# "- a dog barks", "* …", "2) …", "(2) …", "3. …" in front of a line.
_BULLET = re.compile(r"\s*(?:[-*•·–—>]+\s+|\(?\d{1,2}[.)]\s+)")
_LINES = re.compile(r"[\r\n\v\f\x85\u2028\u2029]+")
# Other signs that people put between sentences: "->", "•", a tab, "\n" that a shell left as it was, and a stroke
# before an article.
_SIGNS = re.compile(
    r"(?:\\r)?\\n|\t+|\s+(?:[-=–—]+>|→|•|·|»)\s+|\s+[/|]+\s+(?=(?:an?|the|some|one|two|three|\d+)\s)", re.IGNORECASE
)
_OPEN_ENDS = PREPOSITIONS | DETERMINERS | SAME_TIME | LATER | AUXILIARIES


def as_sentences(text: str) -> str:
    """The text in one line; where a line ended without a full stop there is one, and marks of a list are gone."""
    lines = [line.strip() for line in _LINES.split(_SIGNS.sub("\n", text))]
    lines = [line for line in lines if line]
    if len(lines) < 2:
        return text
    lines = [_BULLET.sub("", line, count=1) if _BULLET.match(line) else line for line in lines]
    joined = lines[0]
    for line in lines[1:]:
        joined += (" " if _goes_on(joined, line) else ". ") + line
    return joined


def _goes_on(line: str, following: str) -> bool:
    """Whether a sentence was only broken to fit: it ends in punctuation or in a word that needs another."""
    if not line or not following or unicodedata.category(line[-1]).startswith("P"):
        return True
    first = following.split(maxsplit=1)[0].strip(",")
    return line.split()[-1].lower() in _OPEN_ENDS or first in SAME_TIME or following[0] in ",;"
