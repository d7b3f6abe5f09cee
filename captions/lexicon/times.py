"""Times and measures in a prompt: "0:02", "[0-2s]", "at 1.5s", "24 fps". They count no things."""

from __future__ import annotations

import re

_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?(?:[.,]\d+)?(?:\s*[ap]\.?m\b\.?)?(?!\w|:\d)"
_NUMBER = r"\d{1,3}(?:[.,]\d+)?"
_SPAN = rf"{_NUMBER}\s*-?\s*(?:ms|s|secs?|seconds?|mins?|minutes?|h|hrs?|hours?|[ap]m)\b"
_MOMENT = rf"(?:{_CLOCK}|{_SPAN})"
# A stretch may name its unit once: "0-2s", "from 1 to 3 seconds".
_STRETCH = rf"(?:{_MOMENT}|{_NUMBER})\s*(?:-+>?|–|—|to|until|till|and)\s*{_MOMENT}"
_LED = (
    r"(?:\b(?:at|from|after|by|around|about|between|until|till|for|in|within|during|every|starting)\s+"
    r"(?:the\s+)?|\bt\s*=\s*)*"
)
_CODE = re.compile(
    rf"(?P<before>^|(?<!\d)[.,]|[\s;!?(\[<]){_LED}(?P<open>[\[(<]?)\s*(?:{_STRETCH}|{_MOMENT})\s*[\])>]?(?P<after>(?:\s*[:,–—-])?)",
    re.IGNORECASE,
)
# Other measures say how the clip is made; "twice" and "four times" are read by the grammar.
_MEASURE = re.compile(
    r"(?<![\w.])(?:"
    r"\d+(?:[.,]\d+)?\s*-?\s*(?:fps|hz|khz|bpm|px|pixels?|p|k|mm|db|decibels?|percent|mph|kmh|kph|kg|cm|km|frames?)\b"
    r"|\d+(?:[.,]\d+)?\s*[%°]|\d+\s*[x×]\s*\d+\b|\d{1,2}:\d{1,2}(?![\w:]))",
    re.IGNORECASE,
)
_NUMBERS = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
# "a 3-legged dog", "a two-year-old child", "24/7": numbers that count something else.
_COMPOUND = re.compile(
    rf"(?<![\w.,-])(?:\d{{1,3}}|{_NUMBERS})-(?!(?:{_NUMBERS}|bit)\b)[a-z]+(?:-[a-z]+)*\b|(?<![\w.])\d{{1,3}}\s*/\s*\d{{1,3}}\b",
    re.IGNORECASE,
)
# "Scene 1:", "Shot 2 -" in front of a sentence.
_LABEL = re.compile(
    r"(?:^|(?<=[.;!?\n]))\s*(?:scene|shot|step|part|clip|take|segment|phase|frame|beat)\s*#?\d{1,3}\s*[:.)–—,-]+\s*",
    re.IGNORECASE,
)
# "two (2) dogs": said twice.
_SAID_TWICE = re.compile(rf"\b({_NUMBERS})\s+\(\d{{1,3}}\)", re.IGNORECASE)
_WORDED = re.compile(
    r"\b(?:(?:after|for|within|in|every)\s+)?(?:one|two|three|four|five|six|seven|eight|nine|ten|twelve|several|few)"
    r"[\s-]+(?:more\s+)?(?:milliseconds?|seconds?|minutes?|hours?|frames?)\b",
    re.IGNORECASE,
)
_LIST_NUMBER = re.compile(r"(?:^|(?<=\s))\(?\d{1,2}\)(?=\s)")
_AND_BEFORE = re.compile(r"\b(?:and|then)\s*$", re.IGNORECASE)
_AND_AFTER = re.compile(r"\s*,?\s*and\b", re.IGNORECASE)
_SIGNS = " ,.;:!?–—-"


def without_times(text: str) -> tuple[str, list[str]]:
    """The text without times and measures, and what was taken out.

    A time that starts a sentence or stands in brackets ends the sentence before it, so that events keep their order.
    """
    found: list[str] = []

    def moment(match: re.Match[str]) -> str:
        found.append(match[0].strip(_SIGNS + "[]()<>"))
        leads = not match.string[: match.start()].strip() or match["before"] in tuple(",.;!?([<")
        subtitle = re.match(r"\W*\d+:", match[0])  # "… 0:02 a door slams", with no "at" before it
        if leads or subtitle or match["open"] or match["after"]:
            return ". "
        rest = match.string[match.end() :]
        follows = _AND_BEFORE.search(match.string[: match.start()]) or (_AND_AFTER.match(rest) and _CODE.search(rest))
        return ", then " if follows else " "

    def measure(match: re.Match[str]) -> str:
        found.append(match[0].strip())
        return " "

    text = _CODE.sub(moment, _LABEL.sub(" ", _SAID_TWICE.sub(r"\1", text)))
    for pattern in (_WORDED, _MEASURE, _COMPOUND):
        text = pattern.sub(measure, text)
    return _LIST_NUMBER.sub(". ", text).strip(), found
