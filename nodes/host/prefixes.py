"""File name prefixes: words between percent signs that are filled in, and characters that no name may have.

ComfyUI's page fills in ``%date:…%`` and ``%Node.widget%`` for a fixed list of its own savers, before it queues. Ours do
it when they save, from the workflow that ComfyUI hands them, so the page, the API and ``run`` name files alike.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

CLOCK = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M", "second": "%S"}
# The page's words for a date; numbers as wide as the word.
DATE_WORDS = re.compile("yyy?y?|dd?|MM?|hh?|mm?|ss?")
DATE_PARTS = {"d": "tm_mday", "M": "tm_mon", "h": "tm_hour", "m": "tm_min", "s": "tm_sec"}
PLACEHOLDER = re.compile(r"%(date:[^%]*|[^%]+\.[^%.]+|width|height|year|month|day|hour|minute|second)%")
DATE = re.compile(r"%date:([^%]*)%")
NODE_NAME = "Node name for S&R"  # the page's property, the node's type unless the user gave it another
# Windows forbids these, and names of devices; the page puts the same sign in their place.
FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f\x7f]')
DEVICES = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.IGNORECASE)
MOST_BYTES = 200  # of a name with words filled in: a counter and a suffix follow, and file systems end at 255


def filled_prefix(prefix: str, *, width: int, height: int, hidden: Any = None) -> str:
    """A prefix that can be a file's name on every system: words filled in, forbidden characters replaced by ``_``.

    Args:
        prefix: As the user wrote it, checked by :func:`~.common.check_prefix`.
        width: Pixels, for ``%width%``.
        height: Pixels, for ``%height%``.
        hidden: What ComfyUI hands the node: ``prompt`` and ``extra_pnginfo``. None fills in no ``%Node.input%``.

    Returns:
        Slashes between folders. What names no node or input of the workflow stays as it is, as the page leaves it.
    """
    now = time.localtime()
    known = {"width": str(width), "height": str(height)}
    known |= {word: time.strftime(code, now) for word, code in CLOCK.items()}

    def value(match: re.Match[str]) -> str:
        word = match[1]
        if word.startswith("date:"):
            return DATE_WORDS.sub(lambda part: _date_part(part[0], now), word[5:])
        if word in known:
            return known[word]
        found = _input_value(*word.rsplit(".", 1), hidden)
        return match[0] if found is None else re.sub(r"[/\\]", "_", found)

    parts = PLACEHOLDER.sub(value, prefix).replace("\\", "/").split("/")
    if "%" in prefix:
        parts = [part.encode()[:MOST_BYTES].decode(errors="ignore") for part in parts]
    *folders, name = map(_safe, parts)
    return "/".join([*filter(None, folders), name or "_"])


def with_date(path: str) -> str:
    """A path of the user's own with ``%date:…%`` filled in; signs that a name may not have become ``_``."""
    now = time.localtime()

    def value(match: re.Match[str]) -> str:
        return FORBIDDEN.sub("_", DATE_WORDS.sub(lambda part: _date_part(part[0], now), match[1]))

    return DATE.sub(value, path)


def safe_path(path: PurePosixPath) -> PurePosixPath:
    """A relative path whose names every system takes; for files that a server names."""
    return PurePosixPath(*(_safe(part) for part in path.parts))


def _safe(name: str) -> str:
    """Without forbidden characters, a device's name, or a dot or space at the end, which Windows drops."""
    name = FORBIDDEN.sub("_", name)
    if name and not name.rstrip(". "):
        return "" if name == "." else "_"
    name = re.sub(r"[. ]+$", "_", name)
    return DEVICES.sub(lambda match: f"{match[0]}_", name, count=1) if DEVICES.match(name) else name


def _date_part(word: str, now: time.struct_time) -> str:
    if word[0] == "y":
        return {"yy": f"{now.tm_year % 100:02}", "yyyy": str(now.tm_year)}.get(word, word)
    return str(getattr(now, DATE_PARTS[word[0]])).zfill(len(word))


def title_of(node: Mapping[str, Any]) -> str:
    """The title that a node of a workflow in API format has; nothing where there is none that can be read."""
    meta = node.get("_meta")
    title = meta.get("title") if isinstance(meta, dict) else None
    return title if isinstance(title, str) else ""


def _input_value(node_name: str, port: str, hidden: Any) -> str | None:
    """The value of an input of the first node of that name, or title; None when there is none."""
    prompt = getattr(hidden, "prompt", None) or {}
    names = list(_names(prompt, (getattr(hidden, "extra_pnginfo", None) or {}).get("workflow") or {}))
    for which in (0, 1):
        node = next((node for *called, node in names if called[which] == node_name), None)
        if node is not None:
            return _as_text(node.get("inputs", {}).get(port), prompt)
    return None


def _names(prompt: Mapping[str, Any], workflow: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Each node's name for this purpose, its title, and itself; names that users gave stand in the page's format."""
    page = {str(node.get("id")): node for node in workflow.get("nodes", ()) if isinstance(node, dict)}
    for node_id, node in prompt.items():
        drawn = page.get(node_id, {})
        title = title_of(node) or drawn.get("title") or ""
        yield (drawn.get("properties") or {}).get(NODE_NAME) or node.get("class_type", ""), title, node


def _as_text(value: Any, prompt: Mapping[str, Any]) -> str | None:
    """As the page writes a widget's value; that of a link is the value of the primitive it comes from."""
    if isinstance(value, list):
        source = prompt.get(str(value[0]), {}).get("inputs", {}) if value else {}
        value = next(iter(source.values())) if len(source) == 1 else None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, (str, int, float)) else None
