"""What the documents say about the repository is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sounding_video.cli import COMMANDS
from sounding_video.core import errors


@pytest.fixture(scope="module")
def readme(root) -> str:
    return (root / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def contributing(root) -> str:
    return (root / "CONTRIBUTING.md").read_text(encoding="utf-8")


def _tree(text: str) -> dict[str, str]:
    """The annotated tree's lines: path below the root, and the rest of the line."""
    block = next(block for block in text.split("```") if "__main__.py" in block)
    found: dict[str, str] = {}
    folder = ""
    for line in block.strip().splitlines():
        match = re.match(r"(?P<indent> *)(?P<names>[\w./]+(?: +[\w./]+)*?)(?:  +(?P<note>.*))?$", line)
        if match is None or len(match["indent"]) > 2:
            continue
        names = [name for name in match["names"].split() if name.endswith(("/", ".py"))]
        if not match["indent"]:
            folder = names[0] if len(names) == 1 and names[0].endswith("/") else ""
        for name in names:
            found[(folder if match["indent"] else "") + name] = match["note"] or ""
    return found


def test_the_annotated_tree_is_the_repository(root: Path, contributing):
    tree = _tree(contributing)
    assert len(tree) > 30
    assert [path for path in tree if not (root / path).exists()] == []
    rooms = {f"{folder.name}/" for folder in root.iterdir() if (folder / "__init__.py").is_file()}
    assert rooms | {"tests/", "benchmarks/", "workflows/", "web/"} <= set(tree)


@pytest.mark.parametrize("room", ["core", "models", "sampling", "media", "nodes"])
def test_the_tree_leaves_no_file_of_a_room_out(root, contributing, room):
    block = next(block for block in contributing.split("```") if "__main__.py" in block)
    missing = [
        file.name
        for file in (root / room).glob("*.py")
        if file.name != "__init__.py" and not re.search(rf"(?<!\w){re.escape(file.name)}", block)
    ]
    assert missing == []


def test_the_readme_names_every_command_and_exit_code(readme):
    for command in COMMANDS:
        assert f"| `{command.__name__.rpartition('.')[2]}` |" in readme
    codes = {
        value.exit_code for value in vars(errors).values() if isinstance(value, type) and hasattr(value, "exit_code")
    }
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", readme, re.MULTILINE)} == codes | {0}


def test_the_readme_names_every_node(readme):
    from sounding_video.nodes import NODES

    for node in NODES:
        assert f"| {node.GET_SCHEMA().display_name} |" in readme


def test_the_readme_says_untrained_as_long_as_it_is_true(readme, root):
    import json

    trained = json.loads((root / "models" / "pocket" / "pocket.json").read_text(encoding="utf-8"))["trained"]
    assert ("towers and bridges are **untrained**" in readme) is not trained


def test_linked_files_exist(root, readme, contributing):
    links = re.findall(r"\]\((?!#)([^)]+)\)", readme + contributing)
    assert [link for link in links if not (root / link).exists()] == ["docs/demo.png"] * (
        not (root / "docs" / "demo.png").exists()
    )
