"""What a ComfyUI server answers, taken with care: another program may stand at its address."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from ..core.errors import ServerError
from ..core.json_text import parse_json
from ..nodes.host.prefixes import safe_path

START = "Start ComfyUI there, or name the right address with --server."


def require_address(server_url: str) -> None:
    """Refuse what cannot be a server's address.

    Raises:
        ServerError: with the address as given.
    """
    try:
        address = urlsplit(server_url)
        usable = address.scheme in ("http", "https") and bool(address.hostname) and (address.port or 1) > 0
        (address.hostname or "").encode("idna")  # as whoever looks the name up does
    except ValueError:
        usable = False
    if not usable:
        raise ServerError(
            "this is not the address of a server", got=server_url, expected="for example http://127.0.0.1:8188"
        )


def listed(value: Any) -> list[Any]:
    """A list of a server's answer; nothing where it is none."""
    return value if isinstance(value, list) else []


def text_message(message: aiohttp.WSMessage) -> tuple[str, dict[str, Any]]:
    """Kind and data of a text message; nothing of a binary one."""
    if message.type is not aiohttp.WSMsgType.TEXT:
        return "", {}
    content = parse_json(message.data, what="a message of the server", error=ServerError, nan_is_null=True)
    if not isinstance(content, dict):
        return "", {}
    data = content.get("data")
    return str(content.get("type", "")), data if isinstance(data, dict) else {}


def not_comfyui(where: str, answer: object) -> ServerError:
    """Another program, or one of another time, stands at the address."""
    return ServerError("the server does not answer like ComfyUI", got=f"{where}: {answer}", remedy=START)


def saved_files(outputs: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Files in the server's output folder; previews in its temporary folder are not results."""
    items = [item for ui in outputs.values() for values in ui.values() if isinstance(values, list) for item in values]
    files = [item for item in items if isinstance(item, dict) and item.get("type") == "output" and item.get("filename")]
    return [{key: str(item.get(key) or "") for key in ("filename", "subfolder", "type")} for item in files]


def free_path(folder: Path, item: Mapping[str, str]) -> Path:
    """A new path for a file a server names; the name must not lead out of the folder."""
    relative = PurePosixPath(item["subfolder"].replace("\\", "/")) / item["filename"]
    if relative.is_absolute() or ".." in relative.parts or "\\" in item["filename"]:
        raise ServerError(
            "the server names a file outside the output folder", got=str(relative), expected="a relative name"
        )
    relative = safe_path(relative)  # another system may allow names that this one does not
    target = folder / relative
    counter = 1
    while target.exists():
        target = (folder / relative).with_name(f"{relative.stem}{counter}{relative.suffix}")
        counter += 1
    return target
