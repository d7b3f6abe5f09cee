"""The header of a GGUF file, walked by ourselves before the library reads it: every count and length fits the file.

The library reads a list number by number, so one that claims 10¹⁰ entries takes all memory before its end is missed.
"""

from __future__ import annotations

import math
import mmap
import struct
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.disk import size_of
from ...core.errors import CorruptWeightsError
from ...core.optional import require

if TYPE_CHECKING:
    from collections.abc import Callable

VERSIONS = (2, 3)
TEXT, LIST = 8, 9
# Bytes of a value by its kind: whole numbers, floats, truth, and the 64-bit ones.
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
# Of all lists: UMT5 has three of 256 000 pieces, a language model half a million merges. The library makes an array of
# each entry.
MOST_ENTRIES = 1 << 22
MOST_TENSORS, MOST_FIELDS, MOST_AXES, MOST_NAME = 1 << 16, 1 << 16, 4, 1 << 10
MOST_ALIGNMENT = 1 << 20
UNSIGNED = 4
_ALIGNMENT = b"general.alignment"


def require_sound(path: Path) -> None:
    """Walk the header of a GGUF file: versions, counts, kinds and lengths, and where its tensors lie.

    Raises:
        CorruptWeightsError: it cannot be true; the message says what.
        MissingPackageError: ``gguf``, which knows the types, is not installed.
    """
    types = require("gguf", f"reading {path}").GGML_QUANT_SIZES
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            _Walk(content).whole({int(kind): sizes for kind, sizes in types.items()})
    except (OSError, ValueError, struct.error) as error:
        problem = "it ends within its header" if isinstance(error, struct.error) else str(error)
        raise CorruptWeightsError(
            "the GGUF file cannot be read",
            got=f"{path} ({size_of(path)} bytes; {problem})",
            expected="a complete GGUF file of version 2 or 3",
            remedy="Download or copy it again.",
        ) from error


class _Walk:
    """A place in the header that moves on; ``ValueError`` and ``struct.error`` where it cannot be true."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content, self.place, self.alignment, self.entries = content, 4, 32, 0

    def whole(self, types: dict[int, tuple[int, int]]) -> None:
        version = self.number("<I")
        if version & 0xFFFF == 0:
            raise ValueError("written for machines of the other byte order")
        if version not in VERSIONS:
            raise ValueError(f"version {version}")
        num_tensors, num_fields = (self.count(most) for most in (MOST_TENSORS, MOST_FIELDS))
        self.named(num_fields, "field", self.field)
        infos = self.named(num_tensors, "tensor", lambda _: self.tensor())
        begin = -(-self.place // self.alignment) * self.alignment
        ends: list[tuple[int, int]] = []
        for name, (shape, kind, offset) in infos.items():
            if kind not in types:
                raise ValueError(f"{name.decode()!r} of the unknown type {kind}")
            block, size = types[kind]
            if offset % self.alignment or shape[0] % block:
                raise ValueError(f"{name.decode()!r} with the shape {shape} at byte {offset}")
            first = begin + offset
            ends.append((first, first + math.prod(shape) // block * size))
        ends.sort()
        if any(one[1] > other[0] for one, other in pairwise(ends)):
            raise ValueError("two tensors lie over each other")
        if ends and ends[-1][1] > len(self.content):
            raise ValueError(f"its tensors end at byte {ends[-1][1]}")

    def named(self, count: int, what: str, read: Callable[[bytes], Any]) -> dict[bytes, Any]:
        found: dict[bytes, Any] = {}
        for _ in range(count):
            name = self.text(MOST_NAME)
            name.decode()  # a UnicodeDecodeError is a ValueError
            if name in found:
                raise ValueError(f"two {what}s are called {name.decode()!r}")
            found[name] = read(name)
        return found

    def field(self, name: bytes) -> None:
        kind = self.number("<I")
        if name == _ALIGNMENT:
            if kind != UNSIGNED:
                raise ValueError("an alignment that is no number")
            self.alignment = self.number("<I")
            if not 0 < self.alignment <= MOST_ALIGNMENT or self.alignment & (self.alignment - 1):
                raise ValueError(f"an alignment of {self.alignment} bytes")
            return
        is_list = kind == LIST
        if is_list:
            kind, count = self.number("<I"), self.count(MOST_ENTRIES - self.entries)
            self.entries += count
        if kind == TEXT:
            for _ in range(count if is_list else 1):
                self.text(len(self.content))
        elif kind in SIZES:
            self.skip(SIZES[kind] * (count if is_list else 1))
        else:
            raise ValueError(f"a field of the unknown kind {kind}")

    def tensor(self) -> tuple[tuple[int, ...], int, int]:
        axes = self.number("<I")
        if not 0 < axes <= MOST_AXES:
            raise ValueError(f"a tensor of {axes} axes")
        shape = tuple(self.number("<Q") for _ in range(axes))
        if 0 in shape or math.prod(shape) > 8 * len(self.content):  # the smallest types have more than a bit a number
            raise ValueError(f"a tensor of the shape {shape}")
        return shape, self.number("<I"), self.number("<Q")

    def number(self, form: str) -> int:
        value = struct.unpack_from(form, self.content, self.place)[0]
        self.place += struct.calcsize(form)
        return value

    def count(self, most: int) -> int:
        value = self.number("<Q")
        if value > min(most, len(self.content)):
            raise ValueError(f"a count of {value}")
        return value

    def text(self, most: int) -> bytes:
        size = self.number("<Q")
        if size > most:
            raise ValueError(f"a text of {size} bytes")
        start = self.place
        self.skip(size)
        return self.content[start : self.place]

    def skip(self, size: int) -> None:
        self.place += size
        if self.place > len(self.content):
            raise ValueError("it ends within its header")
