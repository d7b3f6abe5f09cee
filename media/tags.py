"""Container tags: the prompt and the workflow travel inside the file, as ComfyUI's own SaveVideo writes them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..core.errors import InputError, TextError
from ..core.json_text import parse_json

# Written by the container itself; a tag of such a name would be lost or would lie (tried with FFmpeg 8).
CONTAINER_TAGS = frozenset(
    [
        "encoder",
        "duration",
        "creation_time",
        "stereo_mode",
        "encoding_tool",
        "major_brand",
        "minor_version",
        "compatible_brands",
    ]
)
_COMMENT = "comment"
# Matroska upper-cases names and turns spaces into underscores.
_NAME = re.compile(r"[!-<>-~]+")


def encode_tags(metadata: Mapping[str, Any] | None) -> dict[str, str]:
    """One text per tag: strings as they are, everything else as JSON.

    Args:
        metadata: For example ``{"prompt": {...}, "workflow": {...}}``.

    Raises:
        InputError: a name that a container cannot keep, two names that differ only in case, or a value that is
            neither text nor JSON.
    """
    tags: dict[str, str] = {}
    for name, value in (metadata or {}).items():
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() in CONTAINER_TAGS:
            raise InputError(
                "this tag name cannot be kept in a media file",
                got=repr(name),
                expected="ASCII letters, digits and signs without spaces or '=', and none of "
                + ", ".join(sorted(CONTAINER_TAGS)),
            )
        if name.lower() in {other.lower() for other in tags}:
            raise InputError(
                "two tag names differ only in upper and lower case",
                got=repr(name),
                expected="one tag a name (Matroska does not keep the case)",
            )
        tags[name] = _as_text(name, value)
    return tags


def _as_text(name: str, value: Any) -> str:
    try:
        text = value if isinstance(value, str) else json.dumps(value)
        text.encode("utf-8")
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the tag {name!r} cannot be written as text",
            got=type(value).__name__,
            expected=f"text or JSON values ({error})",
        ) from error
    if "\0" in text:
        raise InputError(
            f"the tag {name!r} contains a zero character",
            expected="text without zero characters (a tag would end there)",
        )
    return text


def as_comment(tags: Mapping[str, str]) -> dict[str, str]:
    """All tags in one: WAV keeps a comment and drops names that RIFF does not know."""
    return {_COMMENT: json.dumps(tags)} if tags else {}


def decode_tags(metadata: Mapping[str, str], *, from_comment: bool = False) -> dict[str, str]:
    """What :func:`encode_tags` put in, names in lower case, without the container's own entries.

    Args:
        metadata: The container's tags.
        from_comment: Whether the tags may stand in one comment, as :func:`as_comment` writes it.
    """
    tags = {name.lower(): text for name, text in metadata.items() if name.lower() not in CONTAINER_TAGS}
    if not from_comment or _COMMENT not in tags:
        return tags
    try:
        inside = parse_json(tags[_COMMENT])
    except TextError:
        return tags  # a comment of its own
    if not isinstance(inside, dict) or not all(isinstance(text, str) for text in inside.values()):
        return tags
    del tags[_COMMENT]
    return tags | {name.lower(): text for name, text in inside.items()}
