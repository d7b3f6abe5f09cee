"""Takes keys out of what a server says, before anything is cut, logged, kept or shown.

A server knows the key that it was sent and may repeat it: whole, in pieces, escaped. Every run of six and more of its
characters becomes ``***``, and so does what base64, hexadecimal digits, URLs, JSON and HTML make of them.
"""

from __future__ import annotations

import base64
import html
import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from urllib.parse import unquote

KEY_VARIABLE = "SOUNDING_VIDEO_LLM_KEY"
OPENAI_KEY_VARIABLE = "OPENAI_API_KEY"
HUB_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
HIDDEN = "***"
_RUN = 6  # characters of a key that may not be seen in a row
_SHORTEST = 4  # of a whole key; shorter ones are words such as "x" that servers without keys are given
_JSON_ESCAPE = re.compile(r"\\+(?:u00|x)([0-7][0-9a-fA-F])")


def _unescaped(text: str) -> str:
    r"""ASCII characters that JSON and programs escape, as ``\u0073`` and ``\x73``."""
    return _JSON_ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)


_DECODERS = (unquote, html.unescape, _unescaped)
_TIMES = 3  # of escaping what is escaped


def keys() -> tuple[str, ...]:
    """The keys of the environment."""
    return _real(os.environ.get(name, "") for name in (KEY_VARIABLE, OPENAI_KEY_VARIABLE, *HUB_VARIABLES))


def _real(found: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(key.strip() for key in found if len(key.strip()) >= _SHORTEST))


def redacted(text: str, *more: str | None) -> str:
    """The text without any piece of a key of the environment, or of those that are given."""
    for key in dict.fromkeys((*keys(), *_real(filter(None, more)))):
        pieces = _pieces(key)
        text = plain = _without(text, pieces)
        for decode in _DECODERS * _TIMES:
            decoded = decode(plain)
            if decoded == plain:
                continue
            plain = _without(decoded, pieces)
            if plain != decoded:
                text = plain  # what was escaped stays readable only where a key was
    return text


@lru_cache(maxsize=8)
def _pieces(key: str) -> frozenset[bytes]:
    """Every run of a key that may not be seen, plain and encoded, in lower case."""
    return frozenset(piece.lower() for piece in (*_runs(key.encode()), *_encoded_runs(key.encode())))


def _runs(key: bytes) -> Iterator[bytes]:
    length = min(_RUN, len(key))
    yield from (key[start : start + length] for start in range(len(key) - length + 1))


def _encoded_runs(key: bytes) -> Iterator[bytes]:
    """What base64 and hexadecimal digits make of those runs, wherever they begin."""
    digits = key.hex().encode()
    yield from (digits[start : start + 2 * _RUN] for start in range(0, len(digits) - 2 * _RUN + 1, 2))
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            # Only whole groups of three bytes are the same whatever stands around them.
            inner = encode(key[shift : shift + (len(key) - shift) // 3 * 3])
            yield from (inner[start : start + 8] for start in range(len(inner) - 7))


def _without(text: str, pieces: frozenset[bytes]) -> str:
    """The text with every piece, and what overlaps with it, hidden."""
    content = text.encode("utf-8", "surrogatepass")
    lower = content.lower()  # of ASCII letters alone, so that places stay
    found: list[tuple[int, int]] = []
    for piece in pieces:
        place = lower.find(piece)
        while place >= 0:
            found.append((place, place + len(piece)))
            place = lower.find(piece, place + 1)
    if not found:
        return text
    made, end = bytearray(), 0
    for start, stop in sorted(found):
        if start > end or not made:
            made += content[end:start] + HIDDEN.encode()
        end = max(end, stop)
    return bytes(made + content[end:]).decode("utf-8", "surrogatepass")
