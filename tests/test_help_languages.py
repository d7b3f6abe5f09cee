"""Every help page speaks six languages: the same picture, the same names, the same tables."""

from __future__ import annotations

import json
import re

import pytest
from sounding_video.nodes import NODES

NAMES = sorted(node.GET_SCHEMA().node_id for node in NODES)
OTHERS = ("zh", "ja", "de", "fr", "es")


def read(root, node_id: str, language: str | None = None) -> str:
    folder = root / "web" / "docs"
    path = folder / f"{node_id}.md" if language is None else folder / node_id / f"{language}.md"
    return path.read_text(encoding="utf-8")


def names(text: str) -> list[str]:
    return sorted(set(re.findall(r"`[^`\n]+`", text)))


def rows(page: str) -> list[tuple[str, ...]]:
    """Name, type and default of every port, in order."""
    cells = [line.split("|")[1:-1] for line in page.splitlines() if re.match(r"\|.*`\w+`", line)]
    return [tuple(re.findall(r"`\w+`", row[0]) + [cell.strip() for cell in row[1:-1]]) for row in cells]


@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.parametrize("node_id", NAMES)
def test_a_translated_page_says_what_the_english_one_says(root, node_id, language):
    english, page = read(root, node_id), read(root, node_id, language)
    spoken = json.loads((root / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))[node_id]
    assert page.startswith(f"# {spoken['display_name']}\n")
    assert f"](img/{node_id}.jpg)" in page
    assert len(re.findall("^## ", page, re.MULTILINE)) == len(re.findall("^## ", english, re.MULTILINE))
    prose, other = (text.partition("\n|")[0] for text in (english, page))
    assert names(other) == names(prose)
    assert len(other.split("\n\n")) == len(prose.split("\n\n"))
    assert other != prose
    # A default of several words is a description, not a value.
    expected = [tuple(cell for cell in row if " system" not in cell) for row in rows(english)]
    assert [row[: len(short)] for row, short in zip(rows(page), expected, strict=True)] == expected
    tooltips = [port["tooltip"] for kind in ("inputs", "outputs") for port in spoken[kind].values()]
    assert [text for text in tooltips if text.replace("*", r"\*") not in page] == []


def test_there_is_no_page_without_a_node(root):
    folder = root / "web" / "docs"
    assert {path.stem for path in folder.glob("*.md")} == set(NAMES)
    assert {path.parent.name for path in folder.glob("*/*.md")} == set(NAMES)
    assert {path.stem for path in folder.glob("*/*.md")} == set(OTHERS)
