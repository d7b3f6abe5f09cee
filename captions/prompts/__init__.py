"""The instructions to the models, one versioned Markdown file each, and the reader for them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...core.errors import InputError

Message = dict[str, Any]
_SECTION = re.compile(r"^# (System|User|Example user|Example assistant)(?: \((\w+)\))?\s*$", re.MULTILINE)
_PLACE = re.compile(r"\{\{(\w+)\}\}")
_ROLES = {"System": "system", "User": "user", "Example user": "user", "Example assistant": "assistant"}


@dataclass(frozen=True)
class Prompt:
    """One prompt file.

    Args:
        name: File name without its ending.
        version: Raised with every change of the text.
        sections: ``(role, variant or None, template)`` in order.
        sha256: Of the file's text in UTF-8; part of the caption cache's key.
    """

    name: str
    version: int
    sections: tuple[tuple[str, str | None, str], ...]
    sha256: str

    def messages(self, values: Mapping[str, Any], *, variant: str | None = None) -> list[Message]:
        """The conversation with ``{{name}}`` filled in, once: what a value holds is never read as a place itself.

        Args:
            values: Texts by place.
            variant: Sections marked with another variant are left out.
        """
        return [
            {"role": role, "content": _PLACE.sub(lambda match: str(values[match[1]]), text)}
            for role, only, text in self.sections
            if only is None or only == variant
        ]


@lru_cache(maxsize=16)
def load_prompt(name: str) -> Prompt:
    """Read a prompt file of this folder.

    Raises:
        InputError: the file is not in the form of a prompt.
    """
    path = Path(__file__).with_name(f"{name}.md")
    text = path.read_text(encoding="utf-8")
    front = re.match(r"---\nversion: (\d+)\n---\n", text)
    marks = list(_SECTION.finditer(text))
    if front is None or not marks:
        raise InputError("the prompt file is not usable", got=path.name, expected="a version and marked sections")
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    sections = tuple(
        (_ROLES[mark[1]], mark[2], text[mark.end() : end].strip()) for mark, end in zip(marks, ends, strict=True)
    )
    return Prompt(name, int(front[1]), sections, hashlib.sha256(text.encode("utf-8")).hexdigest())


def quoted(text: str) -> str:
    """A user's text as a JSON string, so that a model sees where it begins and ends."""
    return json.dumps(text, ensure_ascii=False)
