"""Odd input for the fuzzer: JSON with odd values in it, damaged bytes, texts that seem to mean something."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        7,
        2**31,
        2**63,
        -(2**63),
        2**64,
        10**40,
        10**299,
        0.5,
        -0.0,
        1e308,
        -1e308,
        5e-324,
    ),
    *(
        "",
        " ",
        "a",
        "0",
        "-1",
        "1e999",
        "nan",
        "inf",
        "9" * 60,
        "x" * 300,
        "../../x",
        "/",
        "\\",
        "\0",
        "\n",
        "é",
        "😀",
        "٣",
        "½",
    ),
    *(
        "\u2028",
        "%s",
        "{0}",
        "%(a)s",
        "a.b",
        "a:b",
        "a,b",
        "a=b",
        "[",
        "{",
        "null",
        "true",
        "~x",
        "C:\\x",
        "-10",
        "-20",
        "10:5",
    ),
    *([], [[]], [None], [0], ["a"], [1, 2], [1, "a", None], ["4", 0], ["4", -1], ["4", 10**30], [[1, 2], [3, 4]], [{}]),
    *(
        {},
        {"a": 1},
        {"": ""},
        {"__value__": [1]},
        {"id": 1},
        {"name": "a"},
        {"type": "a"},
        [{"a": [{}]}],
        {"0": {"0": {}}},
    ),
)
# Written by hand, since no value of Python stands for it.
WORDS = (
    *(
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "1e-999",
        "-0",
        "9" * 400,
        "[" * 200,
        '{"a":' * 200,
        '"\\ud800"',
        "01",
        "1.",
    ),
    *('{"a":1,"a":2}', '"\\u0000"', "'a'", "tru", "", ",", "]", "}", '"', "//", "\x00", "\ufeff"),
)
PIECES = (
    *(
        "a dog barks",
        "bridges",
        "steps",
        "7",
        "T2SVJointSampler",
        "width",
        "%date:yyyy%",
        "%",
        "style.safetensors",
        "\u0130",
    ),
    *(
        "0.8",
        "1e9",
        "-",
        "+",
        ".",
        ":",
        "/",
        "\\",
        "=",
        ",",
        ";",
        "\t",
        " ",
        "\n",
        "\r",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "|",
        '"',
    ),
    *(
        "'",
        "<",
        ">",
        "*",
        "~",
        "$",
        "nan",
        "inf",
        "1_0",
        "٣",
        "\0",
        "\x1b",
        "\x7f",
        "\u202e",
        "\u2028",
        "é",
        "😀",
        "\ufeff",
        "CON",
    ),
    *(
        "http://",
        "https://",
        "127.0.0.1",
        ":8188",
        "@",
        "?",
        "#",
        "[::1]",
        "data.num_clips",
        "optimizer.lr",
        "\\(",
        "</think>",
    ),
    *(
        '{"video": "a", "audio": "b"}',
        "9" * 30,
        "a" * 200,
        "break",
        "::",
        "%Node.input%",
        "embedding:",
        "<lora:x:1>",
        "..",
        "None",
    ),
)
Case = Callable[[random.Random], Any]


def seeded(make: Case) -> st.SearchStrategy[Any]:
    """Cases that a function makes from a generator; the case is the same for the same example."""
    return st.integers(0, 2**64 - 1).map(lambda seed: make(random.Random(seed)))


def odd_json(samples: Sequence[Any]) -> Case:
    """The bytes of one of the samples with a few values replaced, taken out, doubled or moved; some damaged as text."""

    def make(rng: random.Random) -> bytes:
        return as_bytes(odd_value(rng, samples), rng)

    return make


def odd_value(rng: random.Random, samples: Sequence[Any]) -> Any:
    """One of the samples, changed in a few places."""
    value = copy.deepcopy(rng.choice(samples))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 8))):
        value = _changed(rng, value)
    return value


def _changed(rng: random.Random, value: Any) -> Any:
    places = list(_places(value))
    if not places or rng.random() < 0.05:
        return copy.deepcopy(rng.choice(ODD))
    holder, key = rng.choice(places)
    act = rng.randrange(6)
    if act <= 2:
        holder[key] = copy.deepcopy(rng.choice(ODD))
    elif act == 3:
        del holder[key]
    elif act == 4:
        other, name = rng.choice(places)
        holder[key] = copy.deepcopy(other[name])
    elif isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[rng.choice(("", "a", "0", "é", "id", f"{key}x"))] = holder.pop(key)
    return value


def _places(value: Any) -> Any:
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        keys = holder if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in list(keys):
            yield holder, key
            if isinstance(holder[key], (dict, list)):
                waiting.append(holder[key])


def as_bytes(value: Any, rng: random.Random) -> bytes:
    """JSON, one time in six not quite."""
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.08:
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(WORDS) + text[at + rng.choice((0, 1, 5)) :]
    content = text.encode(rng.choice(("utf-8",) * 12 + ("utf-16", "utf-8-sig")), "replace")
    return damaged(rng, content) if rng.random() < 0.08 else content


def damaged(rng: random.Random, content: bytes) -> bytes:
    """Bytes flipped, put in, taken out or cut off."""
    made = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(made) + 1)
        act = rng.randrange(4)
        if act == 0 and at < len(made):
            made[at] = rng.randrange(256)
        elif act == 1:
            made[at:at] = rng.choice((bytes(1), b"\xff" * 8, bytes(8), rng.randbytes(3), b"[", b'"'))
        elif act == 2:
            del made[at : at + rng.choice((1, 4, 8))]
        else:
            del made[at:]
    return bytes(made)


def odd_lines(samples: Sequence[Any]) -> Case:
    """The bytes of a file with one changed sample a line."""

    def make(rng: random.Random) -> bytes:
        lines = [as_bytes(odd_value(rng, samples), rng) for _ in range(rng.choice((1, 1, 2, 4)))]
        return rng.choice((b"\n", b"\n", b"\r\n", b"\n\n", b"\x0b")).join(lines) + rng.choice((b"\n", b"\n", b"", b"{"))

    return make


def odd_text(*pieces: str) -> Case:
    """Texts of pieces that mean something somewhere.

    Args:
        pieces: Further ones, taken as often as all others together.
    """

    def make(rng: random.Random) -> str:
        return "".join(_piece(rng, pieces) for _ in range(rng.choice((0, 1, 2, 3, 4, 6, 10))))

    return make


def _piece(rng: random.Random, pieces: Sequence[str]) -> str:
    if pieces and rng.random() < 0.5:
        return rng.choice(pieces)
    return rng.choice(PIECES) if rng.random() < 0.9 else chr(rng.choice((rng.randrange(128), rng.randrange(0xD800))))


def odd_safetensors(headers: Sequence[dict[str, Any]]) -> Case:
    """A safetensors file of one of the headers, changed; zeros where its tensors should be."""

    def make(rng: random.Random) -> bytes:
        header = as_bytes(odd_value(rng, headers), rng)
        length = len(header) if rng.random() < 0.95 else rng.choice((0, 1, 2**31, 2**63, len(header) * 2))
        body = bytes(rng.choice((_stated(header), _stated(header), 0, 64)))
        content = struct.pack("<Q", length) + header + body
        return damaged(rng, content) if rng.random() < 0.1 else content

    return make


def _stated(header: bytes) -> int:
    try:
        ends = [e["data_offsets"][1] for n, e in json.loads(header).items() if n != "__metadata__"]
        return min(max((end for end in ends if isinstance(end, int) and end > 0), default=0), 1 << 20)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return 0


def odd_weight_files(files: Sequence[bytes]) -> Case:
    """Whole safetensors files: some as they are, else with the header, a JSON text in it, or numbers changed."""

    def make(rng: random.Random) -> bytes:
        content = rng.choice(files)
        length = int.from_bytes(content[:8], "little")
        header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
        act = rng.randrange(6)
        if act == 0:
            return content
        if act <= 2:
            header = _odd_notes(rng, header)
        elif act == 3:
            body = _odd_numbers(rng, header, body)
        elif act == 4:
            header = odd_value(rng, [header])
        else:
            return damaged(rng, content)
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + body

    return make


def _odd_notes(rng: random.Random, header: dict[str, Any]) -> dict[str, Any]:
    """A text of the metadata changed; of one that is JSON, a value in it."""
    notes = header["__metadata__"]
    name = rng.choice(sorted(notes))
    try:
        value = json.loads(notes[name])
    except ValueError:
        value = notes[name]
    changed = odd_value(rng, [value])
    notes[name] = changed if isinstance(changed, str) and rng.random() < 0.5 else json.dumps(changed)
    return header


def _odd_numbers(rng: random.Random, header: dict[str, Any], body: bytes) -> bytes:
    """A few numbers of one tensor, as float32."""
    spans = [entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"]
    start, end = rng.choice(spans)
    made = bytearray(body)
    for _ in range(rng.choice((1, 1, 3))):
        at = start + 4 * rng.randrange(max(1, (end - start) // 4))
        odd = rng.choice((0.0, -0.0, -1.0, 0.5, 1.0, 1e-45, 3e38, float("nan"), float("inf"), float("-inf")))
        made[at : at + 4] = struct.pack("<f", odd)
    return bytes(made)
