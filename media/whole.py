"""Is a media file whole, and of a size that is watched? Decoders accept truncated files and believe any size.

They return what is left of the one, and make room for the other; so the containers and headers are asked before.
"""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import BinaryIO

from ..core.disk import reason, size_of
from ..core.errors import InputError

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
# A film has a dozen boxes, in pieces two a second.
_MOST_BOXES = 1 << 20
# Pictures that lie in a file by themselves.
_STILLS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")
# 8K has 33 million; a decoder keeps a dozen pictures at a time, and we make floats of one.
MOST_PIXELS, MOST_SIDE = 1 << 26, 1 << 15


def require_whole(path: Path) -> None:
    """Compare the sizes that an mp4's boxes or a Matroska segment state with the file's size.

    Raises:
        InputError: the file ends before its last box or segment does, cannot be read or is empty. Other formats state
            no size and pass.
    """
    size = size_of(path)
    try:
        with path.open("rb") as file:
            head = file.read(8) if size else b""
            is_mp4 = head[4:8] == b"ftyp"
            stated = _mp4_end(file, size) if is_mp4 else _matroska_end(file) if head[:4] == _EBML else size
    except OSError as error:
        raise InputError(
            "the media file cannot be read", got=f"{path} ({reason(error)})", expected="a file that can be opened"
        ) from error
    except IndexError:  # it ends within a number
        stated = size + 1
    if not size:
        raise InputError(
            "this is not a media file that can be read: it is empty",
            got=path,
            expected="for example an mp4, webm or mkv file",
        )
    if stated > size:
        raise InputError(
            "the file is truncated",
            got=f"{path} with {size} bytes",
            expected=f"{stated} bytes, as its header says",
            remedy="Copy or write the file again.",
        )


def require_modest_size(path: Path, width: int, height: int) -> None:
    """Refuse a picture that nobody watches, before room is made for it.

    Raises:
        InputError: more pixels than :data:`MOST_PIXELS`, or a side longer than :data:`MOST_SIDE`.
    """
    if width * height > MOST_PIXELS or max(width, height) > MOST_SIDE:
        raise InputError(
            "the picture of this file is too large",
            got=f"{path} with {width}×{height} pixels, as its header says",
            expected=f"at most {MOST_PIXELS} pixels (8K has 33 million)",
            remedy="Make the picture smaller first.",
        )


def require_modest_still(path: Path) -> None:
    """The same of a picture that lies in a file by itself: FFmpeg decodes one to look at it.

    Raises:
        InputError: it is too large.
    """
    with path.open("rb") as file:
        head = file.read(12)
    if not head.startswith(_STILLS) or (head[:4] == b"RIFF" and head[8:] != b"WEBP"):
        return
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                size = picture.size
    except Image.DecompressionBombError as error:
        raise InputError(
            "the picture of this file is too large",
            got=f"{path} ({error})",
            expected=f"at most {MOST_PIXELS} pixels (8K has 33 million)",
            remedy="Make the picture smaller first.",
        ) from error
    except (OSError, ValueError, SyntaxError, LookupError, TypeError, OverflowError, struct.error):
        return  # whoever decodes it says what is wrong with it
    require_modest_size(path, *size)


def _mp4_end(file: BinaryIO, size: int) -> int:
    """Where the last top-level box ends (ISO/IEC 14496-12, 4.2)."""
    end = 0
    for _ in range(_MOST_BOXES):
        if end >= size:
            break
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
    file.seek(min(length, 1 << 40), 1)
    if file.read(4) != _SEGMENT:
        return 0
    length, unknown = _read_vint(file)
    return 0 if unknown else file.tell() + length


def _read_vint(file: BinaryIO) -> tuple[int, bool]:
    """An EBML variable-size integer, and whether all its bits are ones ("unknown")."""
    first = file.read(1)[0]
    if not first:  # nine bytes, which no number has: what follows is not of this kind
        raise IndexError("no number")
    num_bytes = 9 - first.bit_length()
    value = int.from_bytes(bytes([first & ((1 << (8 - num_bytes)) - 1)]) + file.read(num_bytes - 1), "big")
    return value, value == (1 << (7 * num_bytes)) - 1
