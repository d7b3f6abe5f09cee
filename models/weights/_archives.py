"""What a torch file claims, compared with its size before torch reads it; and what it held, looked at afterwards.

Torch's safe reader runs no code, but it unpacks what is packed, makes the room that a pickle asks for, and takes
tensors whose shape is larger than their numbers. Torch itself writes its archives unpacked.
"""

from __future__ import annotations

import contextlib
import mmap
import pickletools
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.disk import size_of
from ...core.errors import CorruptWeightsError, UnsafeWeightsError

ZIP_START = b"PK\x03\x04"
# Torch's reader calls it with any number, and the room is filled with zeros.
ROOM_MAKER = b"bytearray\n"
# The directory of an archive, whose entries are objects of Python.
MOST_ENTRIES = 1 << 20
_REMEDY = "Get the weights as .safetensors, or write them again with torch.save."


def require_honest(path: Path) -> None:
    """Refuse a torch file that would take more room than it has bytes, before anything of it is unpacked.

    Raises:
        CorruptWeightsError: it claims more numbers than it holds.
        UnsafeWeightsError: packed entries, or a pickle that asks for room.
        OSError, ValueError, zipfile.BadZipFile and others: it cannot be read, which torch's reader says better.
    """
    with path.open("rb") as file:
        is_zip = file.read(4) == ZIP_START
        if is_zip and zipfile.is_zipfile(path):
            return _measure(path)
        if is_zip or not size_of(path):
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            _refuse_room(path, content.find(ROOM_MAKER) >= 0)
        file.seek(0)
        claimed = max(_claims(file), default=0)
    if claimed > size_of(path):
        raise _claims_too_much(path, f"{claimed} numbers in one tensor")
    return None


def _measure(path: Path) -> None:
    size = size_of(path)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        total = sum(entry.file_size for entry in entries)
        packed = next((entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED), None)
        if packed is not None:
            raise UnsafeWeightsError(
                "the archive is packed, so it was not read",
                got=f"{path} of {size} bytes, which unpack to {total}",
                expected="an archive as torch.save writes it, unpacked",
                remedy=_REMEDY,
            )
        if total > size or len(entries) > MOST_ENTRIES:
            raise _claims_too_much(path, f"{total} bytes in {len(entries)} entries")
        for entry in entries:
            if entry.filename.endswith("data.pkl"):
                _refuse_room(path, ROOM_MAKER in archive.read(entry))


def _claims(file: Any) -> Iterator[int]:
    """Numbers of each storage that the pickles of a file before torch 1.6 name: the last number of its description."""
    number = 0
    with contextlib.suppress(ValueError, LookupError, ArithmeticError, struct.error):  # torch says what is wrong
        for _ in range(4):  # a mark, a version, the writer's system, the contents
            for opcode, argument, _ in pickletools.genops(file):
                if type(argument) is int and "PUT" not in opcode.name and "GET" not in opcode.name:
                    number = argument
                elif opcode.name == "BINPERSID":
                    yield number


def _refuse_room(path: Path, asks: bool) -> None:
    if asks:
        raise UnsafeWeightsError(
            "the file is a pickle that asks for room, so it was not loaded",
            got=f"{path} naming bytearray",
            expected="tensors only",
            remedy=_REMEDY,
        )


def _claims_too_much(path: Path, claim: str) -> CorruptWeightsError:
    return CorruptWeightsError(
        "the file claims more than it holds",
        got=f"{path} of {size_of(path)} bytes with {claim}",
        expected="no more than the file's size",
        remedy=_REMEDY,
    )


def require_plain_tensors(contents: Any, path: Path) -> None:
    """Refuse tensors that are not plain numbers in memory, and those that count one number many times.

    Args:
        contents: What torch's reader gave.
        path: For messages.

    Raises:
        CorruptWeightsError: the message names the tensor.
    """
    for name, tensor in _tensors_in(contents):
        problem = _oddity(tensor)
        if problem:
            raise CorruptWeightsError(
                "the file holds a tensor that is no plain array of numbers",
                got=f"{name} in {path} ({problem})",
                expected="dense tensors on the CPU with all their numbers in the file",
                remedy=_REMEDY,
            )
        if not isinstance(name, str):
            raise CorruptWeightsError(
                "the file holds a tensor whose name is no text",
                got=f"{name!r:.80} in {path}",
                expected="names such as blocks.0.attn1.to_q.weight",
            )


def _oddity(tensor: Tensor) -> str:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        return (
            f"{tensor.layout}" if tensor.layout != torch.strided else "quantised" if tensor.is_quantized else "nested"
        )
    if tensor.device.type != "cpu":
        return f"on {tensor.device}"
    there = tensor.untyped_storage().nbytes()
    if tensor.numel() * tensor.element_size() > there:
        return f"{tuple(tensor.shape)} over {there} bytes"
    return ""


def _tensors_in(contents: Any) -> Iterator[tuple[Any, Tensor]]:
    """Tensors under their names, in mappings within mappings, each mapping once: a pickle may hold one in itself."""
    waiting, seen = [contents], {id(contents)}
    while waiting:
        inner = waiting.pop()
        for name, value in inner.items() if isinstance(inner, Mapping) else ():
            if isinstance(value, Tensor):
                yield name, value
            elif isinstance(value, Mapping) and id(value) not in seen:
                seen.add(id(value))
                waiting.append(value)
