"""Is a media file whole? Decoders accept truncated files and return what is left, so the containers are asked."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from ..core.errors import InputError

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def require_whole(path: Path) -> None:
    """Compare the sizes that an mp4's boxes or a Matroska segment state with the file's size.

    Raises:
        InputError: the file ends before its last box or segment does. Other formats state no size and pass.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        stated = _mp4_end(file, size) if head[4:8] == b"ftyp" else _matroska_end(file) if head[:4] == _EBML else size
    if stated > size:
        raise InputError(
            "the file is truncated",
            got=f"{path} with {size} bytes",
            expected=f"{stated} bytes, as its header says",
            remedy="Copy or write the file again.",
        )


def _mp4_end(file: BinaryIO, size: int) -> int:
    """Where the last top-level box ends (ISO/IEC 14496-12, 4.2)."""
    end = 0
    while end < size:
        file.seek(end)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length == 0:  # "to the end of the file"
            return size
        end += max(length, 8)
    return end


def _matroska_end(file: BinaryIO) -> int:
    """Where the segment ends; 0 when its size is marked as unknown (RFC 8794, RFC 9559)."""
    file.seek(4)
    length, _ = _read_vint(file)
    file.seek(length, 1)
    if file.read(4) != _SEGMENT:
        return 0
    length, unknown = _read_vint(file)
    return 0 if unknown else file.tell() + length


def _read_vint(file: BinaryIO) -> tuple[int, bool]:
    """An EBML variable-size integer, and whether all its bits are ones ("unknown")."""
    first = file.read(1)[0]
    num_bytes = 9 - first.bit_length()
    value = int.from_bytes(bytes([first & ((1 << (8 - num_bytes)) - 1)]) + file.read(num_bytes - 1), "big")
    return value, value == (1 << (7 * num_bytes)) - 1
