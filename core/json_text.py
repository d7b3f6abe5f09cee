"""The one reader of JSON, of JSON lines and of plain text: bounded in size, depth and numbers, and strict.

Files come from strangers and answers from servers. What is read here is text, holds finite numbers, is not nested
deeper than a walk over it can go, says nothing twice and can be written and printed again. Whatever is not ends in one
of our errors, with the place. Nobody else in the package calls ``json.loads``; a test looks.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .disk import is_file, reason, what_is_there
from .errors import SoundingVideoError, TextError

MOST_BYTES = 1 << 26  # of one text; a large workflow has 1 MB, a tokenizer 20
MOST_LINES_BYTES = 1 << 28  # of a file with one JSON value a line
MOST_DEPTH = 100
MOST_DIGITS = 300  # of one number; longer ones take seconds and fit into nothing
# Commas and opening brackets, each of which may cost a hundred bytes of memory.
MOST_VALUES = 4_000_000
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")
_TOO_DEEP = f"it is nested deeper than {MOST_DEPTH} levels"
_JSON = "JSON text in UTF-8"


def parse_json(
    content: str | bytes,
    *,
    what: str = "the text",
    where: object = "",
    error: type[SoundingVideoError] = TextError,
    expected: str = _JSON,
    remedy: str = "",
    most_bytes: int = MOST_BYTES,
    nan_is_null: bool = False,
) -> Any:
    """Read one JSON value.

    Args:
        content: Text, or bytes in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.
        what: What it is, for messages: "the workflow file".
        where: Where it comes from: a path, a path with a line, an address.
        error: The class of the error.
        expected: For the message.
        remedy: For the message.
        most_bytes: Longest text.
        nan_is_null: Read NaN and Infinity as null, as ComfyUI's page does; they are refused otherwise.

    Raises:
        SoundingVideoError: of the class asked for; not JSON, too long, nested too deep, a key twice in one object,
            a number that is not finite or has too many digits, half of a character pair.
    """
    try:
        text = _text(content, most_bytes)
        return _checked(_decoder(nan_is_null=nan_is_null).decode(text), text)
    except (ValueError, RecursionError) as problem:
        told = f"{where} ({_problem(problem)})" if str(where) else _problem(problem)
        raise error(f"{what} is not JSON", got=told, expected=expected, remedy=remedy) from None


def read_json(
    path: str | Path,
    *,
    what: str = "the file",
    error: type[SoundingVideoError] = TextError,
    expected: str = _JSON,
    remedy: str = "",
    most_bytes: int = MOST_BYTES,
    nan_is_null: bool = False,
) -> Any:
    """Read a file that holds one JSON value; arguments as of :func:`parse_json`.

    Raises:
        SoundingVideoError: of the class asked for; it cannot be read, or see :func:`parse_json`.
    """
    content = read_bytes(path, what=what, error=error, expected=expected, remedy=remedy, most_bytes=most_bytes)
    return parse_json(
        content,
        what=what,
        where=path,
        error=error,
        expected=expected,
        remedy=remedy,
        most_bytes=most_bytes,
        nan_is_null=nan_is_null,
    )


def read_json_lines(
    path: str | Path,
    *,
    what: str = "the file",
    error: type[SoundingVideoError] = TextError,
    expected: str = "one JSON object a line",
    remedy: str = "",
    half_last: bool = False,
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file with one a line, each with the number of its line; empty lines are passed over.

    Args:
        path: The file.
        what: What it is, for messages: "the manifest".
        error: The class of the error.
        expected: For the message.
        remedy: For the message.
        half_last: Leave out a last line without its end that cannot be read: a stopped run left it.

    Raises:
        SoundingVideoError: of the class asked for, with the number of the line; see :func:`parse_json`.
    """
    content = read_bytes(path, what=what, error=error, expected=expected, remedy=remedy, most_bytes=MOST_LINES_BYTES)
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content[:4]:
        raise error(f"{what} is not text in UTF-8", got=path, expected=expected, remedy=remedy)
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        told = {"what": f"a line of {what}", "where": f"{path}, line {number}", "expected": expected}
        try:
            row = parse_json(line, **told, error=error, remedy=remedy)
        except error:
            if half_last and number == len(lines):
                return
            raise
        if not isinstance(row, dict):
            raise error(f"{told['what']} is no JSON object", got=told["where"], expected=expected, remedy=remedy)
        yield number, row


def read_text(
    path: str | Path,
    *,
    what: str = "the file",
    error: type[SoundingVideoError] = TextError,
    expected: str = "text in UTF-8",
    remedy: str = "",
    most_bytes: int = MOST_BYTES,
) -> str:
    """Read a text file in UTF-8, with or without its mark; arguments as of :func:`parse_json`.

    Raises:
        SoundingVideoError: of the class asked for; it cannot be read, is too long or is not text.
    """
    content = read_bytes(path, what=what, error=error, expected=expected, remedy=remedy, most_bytes=most_bytes)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise error(
            f"{what} is not text in UTF-8", got=f"{path} ({_problem(problem)})", expected=expected, remedy=remedy
        ) from None
    if "\0" in text:
        raise error(f"{what} is not text", got=f"{path} (zero bytes in it)", expected=expected, remedy=remedy)
    return text


def read_bytes(
    path: str | Path,
    *,
    what: str = "the file",
    error: type[SoundingVideoError] = TextError,
    expected: str = "a file that can be read",
    remedy: str = "",
    most_bytes: int = MOST_BYTES,
) -> bytes:
    """Read a file of a bounded size; pipes and devices are refused, which may have no end.

    Raises:
        SoundingVideoError: of the class asked for; it cannot be read, or is too long.
    """
    path = Path(path)
    problem = "" if is_file(path) else what_is_there(path)
    content = b""
    if not problem:
        try:
            with path.open("rb") as file:
                content = file.read(most_bytes + 1)
        except (OSError, ValueError) as failure:
            problem = reason(failure)
    if problem:
        raise error(f"{what} cannot be read", got=f"{path} ({problem})", expected=expected, remedy=remedy)
    if len(content) > most_bytes:
        raise error(f"{what} is too long", got=path, expected=f"at most {most_bytes >> 20} MiB", remedy=remedy)
    return content


def first_object(text: str, start: int) -> dict[str, Any]:
    """The JSON object that begins at a place in a text, whatever follows it.

    Raises:
        TextError: there is none that can be read; see :func:`parse_json`.
    """
    try:
        value, end = _decoder(nan_is_null=False).raw_decode(_text(text, MOST_BYTES), start)
        return _checked(value, text[start:end])
    except (ValueError, RecursionError) as problem:
        raise TextError("the JSON object cannot be read", got=_problem(problem), expected="JSON") from None


def plain(value: Any) -> Any:
    """A value of dicts, lists and plain values as it comes back from JSON: tuples are lists, keys are texts."""
    return json.loads(json.dumps(value))


def _text(content: str | bytes, most_bytes: int) -> str:
    if len(content) > most_bytes:
        raise ValueError(f"longer than {most_bytes >> 20} MiB")
    if isinstance(content, bytes):
        content = content.decode(json.detect_encoding(content))
    content = content.removeprefix("\ufeff")
    if sum(map(content.count, ",[{")) > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES} values")
    return content


def _decoder(*, nan_is_null: bool) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_object,
        parse_int=_whole,
        parse_float=_number,
        parse_constant=(lambda _: None) if nan_is_null else _not_finite,
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {twice[:80]!r} stands twice in one object")
    return made


def _whole(digits: str) -> int:
    _not_too_long(digits)
    return int(digits)


def _number(digits: str) -> float:
    _not_too_long(digits)
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:40]} is too large")
    return number


def _not_too_long(digits: str) -> None:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")


def _not_finite(word: str) -> float:
    raise ValueError(f"{word} is no JSON number")


def _checked(value: Any, text: str) -> Any:
    """The value, if no later walk over it can fail."""
    may_be_deep = text.count("[") + text.count("{") > MOST_DEPTH
    may_be_half = _SURROGATE.search(text) is not None
    level = [value] if may_be_deep or may_be_half else []
    depth = 0
    while level:
        lists = [item for item in level if isinstance(item, list)]
        objects = [item for item in level if isinstance(item, dict)]
        if may_be_half:
            for item in (*level, *(key for found in objects for key in found)):
                if isinstance(item, str):
                    item.encode("utf-8")  # raises where it cannot be written
        depth += bool(lists or objects)
        if depth > MOST_DEPTH:
            raise ValueError(_TOO_DEEP)
        level = [inner for found in (*lists, *(found.values() for found in objects)) for inner in found]
    return value


def _problem(problem: Exception) -> str:
    """What is wrong, in a few words."""
    if isinstance(problem, RecursionError):
        return _TOO_DEEP
    if isinstance(problem, json.JSONDecodeError):
        line = f"line {problem.lineno}, " if problem.lineno > 1 else ""
        return f"{line}column {problem.colno}: {problem.msg}"
    if isinstance(problem, UnicodeEncodeError):
        return "half of a character pair in a text"
    if isinstance(problem, UnicodeDecodeError):
        return f"not text: byte {problem.start} is not {problem.encoding}"
    return str(problem)
