"""What an installed package holds, and what the metadata promises."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")


@pytest.fixture(scope="module")
def project(root) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))


def _names(file: Path) -> set[str]:
    """Distribution names of a requirements file, in lower case."""
    lines = [line.split("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines()]
    return {re.match(r"[A-Za-z0-9._-]+", line)[0].lower() for line in lines if line}


def _setup_arguments(root: Path, monkeypatch) -> dict:
    """What ``setup.py`` passes to setuptools, run in the repository."""
    setuptools = pytest.importorskip("setuptools")
    captured = {}
    monkeypatch.chdir(root)
    monkeypatch.setattr(setuptools, "setup", lambda **values: captured.update(values))
    spec = importlib.util.spec_from_file_location("setup_of_sounding_video", root / "setup.py")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return captured


def test_every_package_on_disk_is_installed(root, monkeypatch):
    packages = set(_setup_arguments(root, monkeypatch)["packages"])
    rooms = {folder.name for folder in root.iterdir() if (folder / "__init__.py").is_file()}
    on_disk = {
        "sounding_video." + ".".join(file.parent.relative_to(root).parts)
        for room in rooms
        for file in (root / room).rglob("__init__.py")
    }
    assert on_disk | {"sounding_video"} <= packages
    assert not {name for name in packages if re.search(r"\.(tests|benchmarks|docs)(\.|$)", name)}


def test_the_data_files_are_installed(root, monkeypatch):
    patterns = _setup_arguments(root, monkeypatch)["package_data"]["sounding_video"]
    held = {path for pattern in patterns for path in root.glob(pattern) if path.is_file()}
    rooms = [folder for folder in root.iterdir() if (folder / "__init__.py").is_file()]
    folders = [root / name for name in ("web", "workflows", "subgraphs", "locales")] + rooms
    code = (".py", ".pyc")
    needed = {path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix not in code}
    assert needed and needed - held == set()


def test_the_bundled_model_is_small(root):
    """Under 40 MB together and no file over 16 MB."""
    sizes = [path.stat().st_size for path in (root / "models" / "pocket").rglob("*") if path.is_file()]
    assert sizes and sum(sizes) < 60_000_000 and max(sizes) < 16_000_000


def test_metadata(project, root):
    assert project["project"]["license"] == "Apache-2.0"
    assert project["project"]["scripts"] == {"sounding-video": "sounding_video.__main__:main"}
    assert set(project["tool"]["comfy"]) >= {"PublisherId", "DisplayName", "Icon"}
    extras = project["tool"]["setuptools"]["dynamic"]["optional-dependencies"]
    assert set(extras) >= {"standalone", "cuda", "llm", "eval", "train", "dev"}
    named = [file for extra in extras.values() for file in extra["file"]]
    assert [file for file in named if not (root / file).is_file()] == []


def test_the_licence_is_the_whole_text(root):
    text = (root / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text and "Version 2.0, January 2004" in text
    assert "9. Accepting Warranty or Additional Liability." in text and "END OF TERMS AND CONDITIONS" in text


def test_comfyui_users_install_nothing_that_comfyui_brings(root):
    """And nothing is pinned: other packs share that environment."""
    text = (root / "requirements.txt").read_text(encoding="utf-8")
    assert not _names(root / "requirements.txt") & {
        "torch",
        "torchvision",
        "torchaudio",
        "numpy",
        "xformers",
        "moviepy",
    }
    assert "==" not in text


def test_a_standalone_machine_gets_everything_pinned(root):
    lines = [
        line
        for line in (root / "requirements-standalone.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert [line for line in lines if "==" not in line] == []
    assert _names(root / "requirements.txt") <= _names(root / "requirements-standalone.txt")


def test_requirements_name_no_place(root):
    """No index, path or address: the files work on every machine."""
    for file in [*root.glob("requirements*.txt"), *(root / "requirements").glob("*.txt")]:
        assert not re.search(r"://|^\s*-|\s@\s", file.read_text(encoding="utf-8"), re.MULTILINE), file.name
