"""What a media file or a picture says of itself, whoever wrote it: container tags, PNG texts, EXIF."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..core.disk import is_file, reason, what_is_there
from ..core.errors import InputError, TextError
from ..core.json_text import parse_json
from .tags import decode_tags

_PNG, _RIFF, _JPEG, _GIF = b"\x89PNG", b"RIFF", b"\xff\xd8\xff", b"GIF8"
# ComfyUI's animated PNG keeps its texts in chunks of this name, behind the picture.
_COMFY_CHUNK = b"comf"
_EXIF_FOLDER = 0x8769
_UNREADABLE = "this is not a picture, video or sound that can be read"
_MOST_BYTES = 1 << 27  # of a text that is packed; nobody's workflow is as large
# Where others keep one JSON object with everything in it.
_COMMENTS = ("comment", "description", "usercomment")


def read_tags(path: str | Path) -> dict[str, str]:
    """Tags of a video, a sound or a picture.

    Args:
        path: By its content a PNG, WebP, JPEG or GIF picture, or anything that FFmpeg opens.

    Returns:
        Text by name, names in lower case. A JSON object in a comment counts as tags of its own.

    Raises:
        InputError: it cannot be read, or is nothing of the kind.
    """
    path = Path(path)
    if not is_file(path):  # a pipe would keep its reader waiting
        raise _unreadable(path, what_is_there(path))
    try:
        with path.open("rb") as file:
            head = file.read(12)
        if head.startswith(_PNG):
            tags = dict(_png_tags(path))
        elif head.startswith((_JPEG, _GIF)) or (head.startswith(_RIFF) and head[8:] == b"WEBP"):
            tags = dict(_exif_tags(path))
        else:
            tags = _container_tags(path)
    except Exception as error:  # Pillow raises of every kind for damaged pictures
        if isinstance(error, InputError):
            raise
        raise _unreadable(path, reason(error)) from error
    for name in _COMMENTS:
        tags |= {key: text for key, text in _from_json(tags.get(name, "")).items() if key not in tags}
    return tags


def _unreadable(path: Path, problem: str) -> InputError:
    return InputError(
        _UNREADABLE,
        got=f"{path} ({problem})",
        expected="for example an mp4, webm, mkv, png, webp or flac file",
    )


def _container_tags(path: Path) -> dict[str, str]:
    """Tags of the container, and of its streams, where Ogg keeps them."""
    import av

    from .source import reading

    with reading(path, _UNREADABLE), av.open(str(path.absolute()), metadata_errors="replace") as source:
        found = dict(source.metadata)
        for stream in source.streams if source.format.name == "ogg" else ():
            found |= stream.metadata
    return decode_tags(found)


def _png_tags(path: Path) -> Iterator[tuple[str, str]]:
    """Texts of a PNG, in front of the picture and behind it (PNG specification, 11.3.3)."""
    with path.open("rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8:
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            if kind not in (b"tEXt", b"zTXt", b"iTXt", _COMFY_CHUNK):
                file.seek(length + 4, 1)
                continue
            key, _, rest = file.read(min(length, _MOST_BYTES)).partition(b"\0")
            file.seek(4, 1)
            if kind == b"zTXt":
                rest = _inflated(rest[1:])
            elif kind == b"iTXt":
                packed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
                rest = _inflated(text) if packed else text
            yield (
                key.decode("latin-1").lower(),
                rest.decode("latin-1" if kind in (b"tEXt", b"zTXt") else "utf-8", "replace"),
            )


def _inflated(content: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(content, _MOST_BYTES)
    except zlib.error as error:
        raise ValueError(f"a damaged text: {error}") from error


def _exif_tags(path: Path) -> Iterator[tuple[str, str]]:
    """EXIF texts of the form ``name:text``, as ComfyUI writes them into WebP, and JSON in a comment."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            exif = picture.getexif()
            texts = [*exif.values(), *exif.get_ifd(_EXIF_FOLDER).values()]
    except Image.DecompressionBombError as error:
        raise _unreadable(path, str(error)) from error
    for text in texts:
        plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        name, colon, rest = plain.partition(":")
        if colon and name.strip().isidentifier():
            yield name.strip().lower(), rest.rstrip("\0")
        elif "{" in plain:
            yield "usercomment", plain[plain.index("{") :].rstrip("\0")


def _from_json(text: str) -> Mapping[str, str]:
    """The entries of a JSON object as texts; nothing of another text."""
    try:
        content: Any = parse_json(text, nan_is_null=True)
    except TextError:
        return {}
    if not isinstance(content, dict):
        return {}
    return {str(key).lower(): value if isinstance(value, str) else json.dumps(value) for key, value in content.items()}
