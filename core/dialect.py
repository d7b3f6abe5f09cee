r"""The prompt dialect that ComfyUI and its relatives know: weights, escapes, wildcards, prompt editing, tags.

Weights are read as ComfyUI's own text encoders read them: ``(words:1.2)``, ``(words)`` for 1.1, nested, and ``\(`` for
a parenthesis. What cannot mean anything here is taken out or simplified, and every such step is told. A text without
any of it comes back as the very text it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

PLAIN_FACTOR = 1.1
MOST_WEIGHT = 100.0
MOST_NAMED = 6
SHOWN_CHARS = 40

_ANY = re.compile(r"[()\[\]{}<\\（]|\bBREAK\b|embedding:|__\S")
# Escaped characters stand as private ones while the text is read.
_HIDDEN = {char: chr(0xF8F0 + number) for number, char in enumerate("()[]{}<>（）")}
_SHOWN = {hidden: char for char, hidden in _HIDDEN.items()}
_ESCAPED = re.compile(r"\\([()\[\]{}<>（）])")
_TAG = re.compile(r"<\s*(?:lora|lyco|lycoris|loha|hypernet|hypernetwork)\s*:[^<>]*>", re.IGNORECASE)
_EMBEDDING = re.compile(r"<\s*embedding:[^<>]*>|(?<!\w)embedding:[^\s,;:()\[\]{}<>]+(?::[\d.]+(?![\w.)]))?")
_EMPTY = re.compile(r"\(\s*(?::\s*[\d.]*\s*)?\)")  # what a tag that was taken out leaves
# Asian keyboards write these; a weight in them is a weight.
_WIDE = re.compile(r"[（(]([^()（）\n]+)[:：]\s*(\d+(?:\.\d+)?)\s*[)）]")
_STRAY_MARK = re.compile(r"[.,;]\s+(?=[.,;])")
_FILE_CHOICE = re.compile(r"(?<!\w)__[\w/*-]*[A-Za-z*][\w/*-]*?__(?!\w)")
_BRACES = re.compile(r"\{([^{}]*)\}")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_BREAK = re.compile(r"\s*[.,;]*\s*\bBREAK\b[\s.,;]*")
_WEIGHT = re.compile(r"\s*([+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+))\s*")
_NUMBER = re.compile(r"\s*\d*\.?\d+\s*")
# "0:02", "00:00:03.5", "0-2s", "at 1.5 s", "0:02 - 0:04", "16:9": a moment, a stretch or a shape of a clip, and no part
# of the dialect.
_MOMENT = (
    r"(?:\d{1,2}(?::\d{2}){1,2}(?:[.,]\d+)?|\d{1,2}:\d{1,2}|\d+(?:[.,]\d+)?\s*(?:m?s|secs?|seconds?|min|minutes?)?)"
)
_TIME = re.compile(
    rf"\s*(?:(?:at|from|after|by|around|t\s*=)\s*)?{_MOMENT}(?:\s*(?:-+>?|–|—|to|until)\s*{_MOMENT})?\s*"
)


@dataclass(frozen=True)
class WeightedText:
    """A text in pieces that do not count alike, for the text encoders.

    Args:
        parts: Pieces in order and how much each counts; 1 is as written.
    """

    parts: tuple[tuple[str, float], ...]

    @property
    def plain(self) -> str:
        """The text without weights; words that only a parenthesis parted stay apart."""
        text = ""
        for piece, _ in self.parts:
            text += (" " if text[-1:].isalnum() and piece[:1].isalnum() else "") + piece
        return text


Text = str | WeightedText


@dataclass(frozen=True)
class Reading:
    """What a text in the dialect says.

    Args:
        text: For an encoder: a plain text where nothing in it is weighted.
        notes: A sentence for everything that was taken out or simplified.
    """

    text: Text
    notes: tuple[str, ...] = ()

    @property
    def plain(self) -> str:
        """The text without weights."""
        return plain_of(self.text)

    @property
    def weights(self) -> tuple[tuple[str, float], ...]:
        """Pieces that do not count as written."""
        parts = self.text.parts if isinstance(self.text, WeightedText) else ()
        return tuple((piece.strip(), weight) for piece, weight in parts if weight != 1 and piece.strip())


def plain_of(text: Text) -> str:
    """The text without weights."""
    return text if isinstance(text, str) else text.plain


def escaped(text: str) -> str:
    """A plain text in the dialect: what its brackets say stays as it is written."""
    return re.sub(r"[()\[\]{}<>（）]", r"\\\g<0>", text) if _ANY.search(text) else text


def read(text: str) -> Reading:
    """Read a text in the dialect; never fails, odd brackets stay in it."""
    if not _ANY.search(text):
        return Reading(text)
    notes = _Notes()
    kept = as_given = _WIDE.sub(r"(\1:\2)", _ESCAPED.sub(lambda found: _HIDDEN[found[1]], text))
    kept = notes.replaced(_TAG, kept, "loads nothing in a prompt and is left out (use Load LoRA, or --lora)")
    kept = notes.replaced(_EMBEDDING, kept, "loads nothing here and is left out")
    kept = notes.replaced(_FILE_CHOICE, kept, "names a file of choices, which is not read: left out")
    kept = _innermost(_BRACES, kept, lambda inside: _chosen(inside, notes))
    kept = _innermost(_BRACKETS, kept, lambda inside: _bracketed(inside, notes))
    if kept != kept.upper():  # in a prompt all in capitals, waves BREAK on the shore
        kept = notes.replaced(_BREAK, kept, "is read as the end of a sentence", ". ")
    removed = kept != as_given
    kept = _EMPTY.sub("", kept) if removed else kept
    if kept.count("(") != kept.count(")") or "(" in kept[kept.rfind(")") + 1 :]:
        notes.add("A parenthesis", "has no partner and is read as it stands")
    parts = [(_unhidden(piece), weight) for piece, weight in _parts(kept)]
    whole: Text = WeightedText(tuple(_tidied(parts) if removed else parts))
    if all(weight == 1 for _, weight in parts):
        whole = whole.plain
    return Reading(whole, notes.sentences())


def caption_notes(name: str, text: str) -> tuple[str, ...]:
    """What a user should know of a caption that is encoded with its weights.

    Args:
        name: What the caption is called, for example "video caption".
        text: In the dialect.
    """
    reading = read(text)
    told = [f"“{brief(piece)}” × {weight:g}" for piece, weight in reading.weights[:MOST_NAMED]]
    more = len(reading.weights) - MOST_NAMED
    told += [f"{more} more"] if more > 0 else []
    weighted = [f"{name}: weights applied as ComfyUI does: {', '.join(told)}."] if told else []
    return tuple(weighted + [f"{name}: {note}" for note in reading.notes])


@dataclass
class _Notes:
    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, became: str) -> None:
        self.found.setdefault(became, []).append(brief(_unhidden(what, marked=True)))

    def replaced(self, pattern: re.Pattern[str], text: str, became: str, by: str = "") -> str:
        for what in pattern.findall(text):
            self.add(what.strip(" .,;"), became)
        return pattern.sub(by, text)

    def sentences(self) -> tuple[str, ...]:
        """One for each thing that was done, naming the first few places."""
        named = {became: list(dict.fromkeys(what)) for became, what in self.found.items()}
        return tuple(
            f"{', '.join(what[:MOST_NAMED])}{' and more' if len(what) > MOST_NAMED else ''} {became}."
            for became, what in named.items()
        )


def _unhidden(text: str, *, marked: bool = False) -> str:
    return "".join(("\\" if marked else "") + _SHOWN[char] if char in _SHOWN else char for char in text)


def brief(text: str) -> str:
    """A text short enough to be named in a sentence."""
    text = " ".join(text.split())
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"


def _innermost(pattern: re.Pattern[str], text: str, replacement: Callable[[str], str]) -> str:
    """Replace from the inside out, so that nesting is read; what the replacement hides is not seen again."""
    found = 1
    while found:
        text, found = pattern.subn(lambda match: replacement(match[1]), text)
    return text


def _chosen(inside: str, notes: _Notes) -> str:
    """A wildcard's first choice: the same prompt always gives the same clip."""
    if not inside.strip():
        return _HIDDEN["{"] + inside + _HIDDEN["}"]
    choices = [re.sub(r"^\s*\d*\.?\d+::", "", choice) for choice in inside.rpartition("$$")[2].split("|")]
    if len(choices) == 1:
        notes.add(f"{{{inside}}}", "has no weight here and is read without its braces")
    else:
        notes.add(f"{{{inside}}}", "is a choice: its first is taken")
    return choices[0].strip()


def _bracketed(inside: str, notes: _Notes) -> str:
    """Prompt editing ends as its last text; times stay; other brackets are dropped, as they carry no weight."""
    if not inside.strip() or _TIME.fullmatch(inside):
        return _HIDDEN["["] + inside + _HIDDEN["]"]
    *texts, last = _split_outside(inside, ":")
    if 1 <= len(texts) <= 2 and _NUMBER.fullmatch(last):
        notes.add(f"[{inside}]", "would change while sampling, which is not done: its last text is read all along")
        return _split_outside(next((text.strip() for text in reversed(texts) if text.strip()), ""), "|")[0]
    choices = _split_outside(inside, "|")
    if len(choices) > 1:
        notes.add(f"[{inside}]", "would change while sampling, which is not done: its first text is read all along")
        return choices[0].strip()
    notes.add(f"[{inside}]", "is read without its brackets: only parentheses weigh")
    return inside


def _split_outside(text: str, mark: str) -> list[str]:
    """Split at a mark outside of parentheses."""
    pieces, depth = [""], 0
    for char in text:
        depth = max(0, depth + (char == "(") - (char == ")"))
        if char == mark and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += char
    return pieces


def _parts(text: str) -> list[tuple[str, float]]:
    """Pieces and weights, without the parentheses that pair up and the numbers behind their colons."""
    closing = _pairs(text)
    found: list[tuple[str, float]] = []
    weights, skips = [1.0], {close: close for close in closing.values()}
    start = position = 0
    while position < len(text):
        if position in closing:
            weight, end = _weight_of(text, position, closing[position], weights[-1])
            found += [(text[start:position], weights[-1])] if position > start else []
            weights.append(weight)
            skips[closing[position]] = end
            start = position + 1
        elif position in skips:
            found += [(text[start : skips[position]], weights[-1])] if skips[position] > start else []
            weights.pop()
            start = position + 1
        position += 1
    return found + ([(text[start:], weights[-1])] if start < len(text) else [])


def _tidied(parts: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """Without the gaps and the stray signs that what was taken out leaves behind."""
    tidy: list[tuple[str, float]] = []
    for piece, weight in parts:
        piece = _STRAY_MARK.sub("", re.sub(r"[ \t]{2,}", " ", piece))
        if not tidy:
            piece = piece.lstrip(" \t\n.,;")
        elif tidy[-1][0].endswith(" "):
            piece = piece.lstrip(" ")
        tidy += [(piece, weight)] if piece else []
    if tidy:
        tidy[-1] = (tidy[-1][0].rstrip(), tidy[-1][1])
    return tidy


def _pairs(text: str) -> dict[int, int]:
    """Where each parenthesis that is closed is closed; one around nothing, or nothing but a time, is none."""
    waiting: list[int] = []
    pairs: dict[int, int] = {}
    for position, char in enumerate(text):
        if char == "(":
            waiting.append(position)
        elif char == ")" and waiting:
            start = waiting.pop()
            inside = text[start + 1 : position]
            if inside.strip() and not (len(inside) <= SHOWN_CHARS and _TIME.fullmatch(inside)):
                pairs[start] = position
    return pairs


def _weight_of(text: str, start: int, end: int, outer: float) -> tuple[float, int]:
    """The weight of a pair of parentheses, and where the words in it end."""
    colon = text.rfind(":", start + 1, end)
    number = _WEIGHT.fullmatch(text, colon + 1, end) if colon > start else None
    if number is not None and abs(value := float(number[1].replace(",", "."))) <= MOST_WEIGHT:
        return value, colon
    return min(outer * PLAIN_FACTOR, MOST_WEIGHT), end
