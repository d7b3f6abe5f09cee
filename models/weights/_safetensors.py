"""The header of a safetensors file, read by ourselves before the library reads it: a schema, and sizes that agree."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from ...core.disk import reason, size_of
from ...core.errors import CorruptWeightsError
from ...core.json_text import parse_json

# The format's own limit.
MOST_HEADER_BYTES = 100_000_000
WORDS = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz", "F4": "float4_e2m1fn_x2",
    "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64",
    "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64", "BOOL": "bool", "C64": "complex64",
}  # fmt: skip
METADATA = "__metadata__"
_LIMIT = 1 << 63  # sizes and offsets are 64-bit numbers of the machine
_ENTRY = {"dtype", "shape", "data_offsets"}


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, str], int]:
    """Entries of the tensors by name, the free text, and where the tensors begin.

    Raises:
        CorruptWeightsError: not a safetensors file, one whose header cannot be true, or cut short.
    """
    size = size_of(path)
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(MOST_HEADER_BYTES, size - 8):
                raise _wrong(path, f"a header of {length} bytes in a file of {size}")
            text = file.read(length)
    except OSError as error:
        raise _wrong(path, reason(error)) from error
    header = parse_json(
        text,
        what="the header of the weight file",
        where=path,
        error=CorruptWeightsError,
        expected="a complete safetensors file",
        remedy="Download or copy it again.",
        most_bytes=MOST_HEADER_BYTES,
    )
    if not isinstance(header, dict):
        raise _wrong(path, f"a header that is a {type(header).__name__}")
    metadata = header.pop(METADATA, None)
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise _wrong(path, "metadata that are not texts by name")
    for name, entry in header.items():
        problem = _problem(entry)
        if problem:
            raise _wrong(path, f"{name[:80]!r} with {problem}")
    _require_length(path, 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0))
    return header, metadata, 8 + length


def _problem(entry: Any) -> str:
    """What cannot be true of a tensor; empty where all of it can."""
    if not isinstance(entry, dict) or set(entry) != _ENTRY:
        return f"another entry than {', '.join(sorted(_ENTRY))}"
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not isinstance(entry["dtype"], str):
        return f"the type {entry['dtype']!r:.40}"
    for word, numbers in (("shape", shape), ("data_offsets", offsets)):
        if not isinstance(numbers, list) or any(type(each) is not int or not 0 <= each < _LIMIT for each in numbers):
            return f"the {word} {numbers!r:.80}"
    if len(offsets) != 2 or offsets[0] > offsets[1]:
        return f"the data_offsets {offsets!r:.80}"
    if math.prod(shape) >= _LIMIT:
        return f"the shape {shape!r:.80}"
    return ""


def _require_length(path: Path, promised: int) -> None:
    there = size_of(path)
    if promised != there:
        raise CorruptWeightsError(
            "the weight file is cut short" if there < promised else "the weight file has spare bytes behind its end",
            got=f"{path} of {there} bytes",
            expected=f"{promised} bytes, which its header says",
            remedy="Download or copy it again.",
        )


def _wrong(path: Path, got: str) -> CorruptWeightsError:
    return CorruptWeightsError(
        "the weight file cannot be read",
        got=f"{path} ({size_of(path)} bytes; {got})",
        expected="a complete safetensors file or torch checkpoint",
        remedy="Download or copy it again; it is probably incomplete or of another kind.",
    )
