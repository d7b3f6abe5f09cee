"""The floors of the house: who may import whom, read from every file's syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "sounding_video"
FLOORS = {
    "core": 0,
    "captions": 1,
    "models": 1,
    "sampling": 1,
    "media": 1,
    "world": 1,
    "calibration": 2,
    "forecast": 2,
    "run_setup": 2,
    "long_clips": 2,
    "previews": 2,
    "pipeline": 3,
    "training": 4,
    "evaluation": 4,
    "tasks": 4,
    "nodes": 5,
    "headless": 6,
    "cli": 7,
    "__main__": 8,
    "": 8,  # the root __init__, which hands out the nodes' extension
}
# Facts about the package itself, readable from every floor.
ROOT_NAMES = {"__version__"}
COMFYUI = ("comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "server", "latent_preview")
COMFYUI_DOOR = "nodes.host"
MAY_PRINT = "cli"
# Bounded in size and depth, and strict.
JSON_READER = "core.json_text"
JSON_READERS = ("load", "loads", "JSONDecoder", "JSONDecodeError")
LONGEST_PIPELINE = 300  # lines: the way is to be read at once
LONGEST_FUNCTION = 60  # lines with its docstring; the style asks for 50
SCHEMA = "define_schema"  # a node's inputs and texts, one after the other
# Functions that are longer for now, each until its room is next rebuilt.
LONGER_FOR_NOW: set[str] = set()


@dataclass(frozen=True)
class Import:
    """One import of one of our own modules."""

    source: str
    target: str
    name: str
    line: int


def modules(root: Path) -> dict[str, Path]:
    """Every module of the package by its name below the package ("" is the root itself)."""
    rooms = [folder for folder in root.iterdir() if folder.name in FLOORS and folder.is_dir()]
    files = [*(file for room in rooms for file in room.rglob("*.py")), *root.glob("*.py")]
    named = {".".join(file.relative_to(root).with_suffix("").parts): file for file in files if file.name != "setup.py"}
    return {name.removesuffix("__init__").removesuffix("."): file for name, file in named.items()}


def _own_imports(name: str, file: Path, known: set[str], tree: ast.AST) -> Iterator[Import]:
    """Relative imports of one file, each resolved to the module that it really loads."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            parts = package.split(".") if package else []
            base = parts[: len(parts) - node.level + 1] if node.level > 1 else parts
            stem = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{stem}.{alias.name}" if stem else alias.name
                target = inner if inner in known else stem
                yield Import(name, target, alias.name, node.lineno)


def _foreign_imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module, node.lineno


def _json_readers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every use of a reader of JSON that is not ours, however it was imported."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "json" and not node.level:
            yield from ((node.lineno, f"json.{alias.name}") for alias in node.names if alias.name in JSON_READERS)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, "json by another name") for a in node.names if a.name == "json" and a.asname)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "json" and node.attr in JSON_READERS:
            yield node.lineno, f"json.{node.attr}"


def _long_functions(module: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name != SCHEMA:
            lines = node.end_lineno - node.lineno + 1
            if lines > LONGEST_FUNCTION and f"{module}.{node.name}" not in LONGER_FOR_NOW:
                yield node.lineno, f"{node.name} has {lines} lines, at most {LONGEST_FUNCTION} are allowed"


def _room(module: str) -> str:
    return module.split(".")[0]


def _below(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def violations(root: Path) -> list[str]:
    """Every broken law in the package at ``root``, one sentence each.

    Imports inside functions and for type checkers count too: who needs a type depends on the room that makes it.
    """
    found = []
    files = modules(root)
    edges: dict[str, set[str]] = {}
    for name, file in sorted(files.items()):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        where = file.relative_to(root).as_posix()
        for item in _own_imports(name, file, set(files), tree):
            here, there = _room(item.source), _room(item.target)
            if there == "" and item.name in ROOT_NAMES:
                continue
            if there not in FLOORS:
                found.append(f"{where}:{item.line}: {item.target!r} is in no room of the house")
            elif here != there and FLOORS[there] >= FLOORS[here]:
                direction = "sideways" if FLOORS[there] == FLOORS[here] else "upward"
                found.append(f"{where}:{item.line}: {direction} import of {item.target} from {here}")
            if item.target != item.source:
                edges.setdefault(item.source, set()).add(item.target)
        for module, line in _foreign_imports(tree):
            if _room(module) in COMFYUI and not _below(name, COMFYUI_DOOR):
                found.append(f"{where}:{line}: {module} imported outside nodes/host")
            if _room(module) == PACKAGE:
                found.append(f"{where}:{line}: absolute import of our own package")
        if not _below(name, MAY_PRINT):
            calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
            prints = (call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print")
            found += [f"{where}:{call.lineno}: print outside cli" for call in prints]
        if name != JSON_READER:
            found += [f"{where}:{line}: {text} outside {JSON_READER}" for line, text in _json_readers(tree)]
        found += [f"{where}:{line}: {text}" for line, text in _long_functions(name, tree)]
    return found + [f"import cycle: {' -> '.join(cycle)}" for cycle in _cycles(edges)]


def _cycles(edges: dict[str, set[str]]) -> list[list[str]]:
    """One cycle for each back edge of a depth-first walk."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
        elif module not in done:
            for target in sorted(edges.get(module, ())):
                visit(target, [*path, module])
            done.add(module)

    for module in sorted(edges):
        visit(module, [])
    return found


def test_the_house_keeps_its_floors(root):
    assert violations(root) == []


def test_every_file_has_a_room(root):
    strays = [
        folder.name for folder in root.iterdir() if (folder / "__init__.py").is_file() and folder.name not in FLOORS
    ]
    assert strays == []
    assert len(modules(root)) > 50


def test_the_door_to_comfyui_holds_only_what_nodes_need(root):
    """Each module of the door serves a node or a host; what runs and queues workflow files stands in headless."""
    files = modules(root)
    edges = {
        name: {item.target for item in _own_imports(name, file, set(files), ast.parse(file.read_text("utf-8")))}
        for name, file in files.items()
        if _below(name, "nodes")
    }
    reached, waiting = set(), [name for name in edges if not _below(name, COMFYUI_DOOR)]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += edges.get(name, ())
    assert sorted(name for name in edges if name not in reached) == []


@pytest.mark.parametrize(
    ("file", "code", "sentence"),
    [
        ("core/extra.py", "from ..models import joint", "core/extra.py:1: upward import of models.joint from core"),
        ("media/extra.py", "from ..models.joint import X", "sideways import of models.joint from media"),
        ("models/extra.py", "def f():\n    from ..pipeline import X", "models/extra.py:2: upward import of pipeline"),
        ("training/extra.py", "from ..evaluation import X", "sideways import of evaluation from training"),
        ("pipeline.py", "from .nodes import X", "upward import of nodes from pipeline"),
        ("media/extra.py", "from .. import WEB_DIRECTORY", "upward import of  from media"),
        ("nodes/extra.py", "import folder_paths", "folder_paths imported outside nodes/host"),
        ("nodes/extra.py", "from comfy.utils import X", "comfy.utils imported outside nodes/host"),
        ("nodes/extra.py", f"from {PACKAGE}.core import X", "absolute import of our own package"),
        ("models/extra.py", "print('hello')", "models/extra.py:1: print outside cli"),
        ("models/extra.py", "import json\nx = json.loads('1')", "extra.py:2: json.loads outside core.json_text"),
        ("headless/extra.py", "from json import load as read", "extra.py:1: json.load outside core.json_text"),
        ("cli/extra.py", "import json as j", "cli/extra.py:1: json by another name outside core.json_text"),
        ("models/extra.py", "from . import joint", "import cycle: models.extra -> models.joint -> models.extra"),
        (
            "models/extra.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .joint import X",
            "import cycle: models.extra -> models.joint -> models.extra",
        ),
        (
            "models/extra.py",
            "import typing\nif typing.TYPE_CHECKING:\n    from ..pipeline import X",
            "models/extra.py:3: upward import of pipeline from models",
        ),
        ("nodes/extra.py", "from ..headless import graph", "upward import of headless from nodes"),
        ("core/extra.py", "def f():\n" + "    x = 1\n" * 60, "core/extra.py:1: f has 61 lines, at most 60 are allowed"),
        ("core/extra.py", "class C:\n  async def f(self):\n" + "    x = 1\n" * 60, "extra.py:2: f has 61 lines"),
    ],
)
def test_a_planted_violation_is_caught(tmp_path, file, code, sentence):
    for folder in (
        "core",
        "captions",
        "models",
        "media",
        "training",
        "evaluation",
        "nodes",
        "nodes/host",
        "headless",
        "cli",
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text("")
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "pipeline.py").write_text("from .models import joint")
    (tmp_path / "models" / "joint.py").write_text("from ..core import X\n")
    (tmp_path / "nodes" / "host" / "comfy.py").write_text("import folder_paths\nfrom ... import __version__")
    (tmp_path / "cli" / "extra.py").write_text("from .. import __version__\nprint(__version__)")
    (tmp_path / "nodes" / "long.py").write_text("def define_schema():\n" + "    x = 1\n" * 90)
    assert violations(tmp_path) == []
    if "cycle" in sentence:
        (tmp_path / "models" / "joint.py").write_text("from .extra import X\n")
    (tmp_path / file).write_text(code)
    assert [text for text in violations(tmp_path) if sentence in text], violations(tmp_path)


def test_the_way_is_short(root: Path) -> None:
    assert len((root / "pipeline.py").read_text(encoding="utf-8").splitlines()) <= LONGEST_PIPELINE
