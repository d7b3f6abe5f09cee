"""A real ComfyUI server with this pack in it, one after the other where several checkouts are given.

Tests marked ``inside_comfyui`` import ComfyUI's own modules. They run in the interpreter that the checkout runs with: a
child of this pytest runs the whole file there, and each test here says what became of it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfyui_server import NO_CHECKOUT, ComfyServer, checkouts, python_of, serving, version_of

INSIDE = "SOUNDING_VIDEO_TESTS_INSIDE"
RUNNER = Path(__file__).with_name("run_inside.py")
CHILDREN = pytest.StashKey[dict[tuple[Path, Path], dict[str, Any]]]()


@pytest.fixture(scope="session", params=checkouts() or [None], ids=lambda path: path and version_of(path))
def comfyui_path(request: pytest.FixtureRequest) -> Path:
    if request.param is None:
        pytest.skip(NO_CHECKOUT)
    return request.param


class FailedInside(Exception):
    """What the child's pytest said of a test."""


class InsideTest(pytest.Item):
    """A test whose file runs in the checkout's own interpreter.

    Args:
        comfyui_path: The checkout.
        whole: The tests of the file that are wanted in that checkout.
        collected: The test as this pytest collected it.
    """

    def __init__(self, *, comfyui_path: Path, whole: list[pytest.Item], collected: pytest.Item, **given: Any) -> None:
        super().__init__(**given)
        self._comfyui_path, self._whole, self._collected = comfyui_path, whole, collected
        self.own_markers = list(collected.own_markers)
        self.keywords.update(collected.keywords)

    def runtest(self) -> None:
        """Run the file the first time one of its tests is asked for."""
        ran = self.config.stash.setdefault(CHILDREN, {})
        key = self._comfyui_path, self.path
        if key not in ran:
            ran[key] = run_inside(self._comfyui_path, [item.nodeid for item in self._whole], self.config.rootpath)
        result = ran[key].get(self._collected.nodeid, {"outcome": "failed", "text": ran[key]["output"]})
        if result["outcome"] == "skipped":
            pytest.skip(result["text"])
        if result["outcome"] == "failed":
            raise FailedInside(result["text"])

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any) -> Any:
        """The child's own words."""
        return str(excinfo.value) if isinstance(excinfo.value, FailedInside) else super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where the test stands."""
        return self._collected.reportinfo()


def run_inside(comfyui_path: Path, nodeids: list[str], root: Path) -> dict[str, Any]:
    """Run tests with the checkout's interpreter.

    Returns:
        By node id, outcome and text; under ``output`` what the child printed, for a child that never came so far.
    """
    python = python_of(comfyui_path)
    environment = {**os.environ, INSIDE: "1", "COMFYUI_PATH": str(comfyui_path), "COMFYUI_PYTHON": python}
    for name in [name for name in environment if name.startswith(("PYTEST_XDIST", "PYTEST_CURRENT"))]:
        del environment[name]
    packages = str(Path(pytest.__file__).parents[1])
    child = subprocess.run(
        [python, RUNNER, packages, *nodeids], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    results: dict[str, Any] = {"output": (child.stdout + child.stderr)[-8000:]}
    for line in child.stdout.split("\n"):  # not splitlines, for which the separator ends a line
        if line.startswith("\x1e"):
            result = json.loads(line[1:])
            results[result.pop("nodeid")] = result
    return results


@pytest.hookimpl(trylast=True)  # what is deselected is not run inside either
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let those inside ComfyUI run there; without a checkout they stay and are skipped like the others."""
    if os.environ.get(INSIDE) or not checkouts():
        return
    marked = [item for item in items if item.get_closest_marker("inside_comfyui")]
    groups: dict[tuple[Path, Path], list[pytest.Item]] = {}
    for item in marked:
        groups.setdefault((item.callspec.params["comfyui_path"], item.path), []).append(item)
    replaced = {}
    for (comfyui_path, _), group in groups.items():
        for item in group:
            given = {"comfyui_path": comfyui_path, "whole": group, "collected": item}
            replaced[item] = InsideTest.from_parent(item.parent, name=item.name, **given)
    items[:] = [replaced.get(item, item) for item in items]


@pytest.fixture(scope="session")
def comfyui(
    comfyui_path: Path, root: Path, small_models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    with serving(comfyui_path, root, tmp_path_factory.mktemp("comfyui"), small_models_dir) as server:
        yield server


@pytest.fixture(scope="session")
def native_comfyui(
    comfyui_path: Path, root: Path, small_models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    """A server with small models of ComfyUI's own."""
    probe = Path(__file__).with_name("native_probe")
    base = tmp_path_factory.mktemp("comfyui")
    with serving(comfyui_path, root, base, small_models_dir, others=(probe,)) as server:
        yield server


@pytest.fixture(scope="session")
def watched_comfyui(
    comfyui_path: Path, root: Path, small_models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    """Another server: it says what it has in memory, and its models lie where ``extra_model_paths.yaml`` says."""
    base, elsewhere = tmp_path_factory.mktemp("comfyui"), tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(small_models_dir, elsewhere / "ours")
    (elsewhere / "styles").mkdir()
    (base / "extra.yaml").write_text(
        f"mine:\n    base_path: {elsewhere}\n    sounding_video: ours\n    loras: styles\n"
    )
    options = ("--extra-model-paths-config", str(base / "extra.yaml"))
    probe = Path(__file__).with_name("memory_probe")
    with serving(comfyui_path, root, base, None, options, others=(probe,)) as server:
        yield server
