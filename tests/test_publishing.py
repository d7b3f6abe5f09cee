"""What the release workflow relies on: the surface check, the registry's metadata, what the package leaves out."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sounding_video

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")


def load(root: Path, name: str):
    spec = importlib.util.spec_from_file_location(name, root / ".ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def surface(root):
    return load(root, "surface")


@pytest.fixture
def frozen(root):
    return json.loads((root / "tests" / "surface.json").read_text(encoding="utf-8"))


def test_appending_is_compatible(surface, frozen):
    new = copy.deepcopy(frozen)
    sampler = new["T2SVJointSampler"]
    sampler["inputs"].append({"id": "more", "type": "INT", "optional": True, "default": 1})
    next(port for port in sampler["inputs"] if port["id"] == "schedule")["options"].append("another")
    new["T2SVNew"] = {"inputs": [], "outputs": [], "output_node": False}
    assert surface.changes(frozen, new) == []
    assert surface.changes(frozen, frozen) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda new: new.pop("T2SVMux"), "T2SVMux is gone"),
        (lambda new: new["T2SVMux"]["inputs"].pop(0), "T2SVMux: input 0 was images, is audio"),
        (lambda new: new["T2SVMux"]["outputs"].pop(), "T2SVMux: output 0 was video, is nothing"),
        (lambda new: new["T2SVMux"]["inputs"][2].update(default=24.0), "T2SVMux: input fps: default was 15.0, is 24.0"),
        (
            lambda new: new["T2SVMux"]["inputs"][4]["options"].remove("webm"),
            "T2SVMux: input format lost the choices webm",
        ),
        (
            lambda new: new["T2SVMux"]["inputs"].append({"id": "must", "type": "INT", "optional": False}),
            "T2SVMux: the new input must is not optional",
        ),
    ],
)
def test_anything_else_is_named(surface, frozen, change, sentence):
    new = copy.deepcopy(frozen)
    change(new)
    assert surface.changes(frozen, new) == [sentence]


def test_the_last_release_is_what_it_compares_with(root, frozen, tmp_path):
    """In a small repository: nothing to compare, then a release, then an incompatible change after it."""

    def git(*arguments):
        names = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *names, *arguments], cwd=tmp_path, check=True, capture_output=True)

    def check():
        command = [sys.executable, str(root / ".ci" / "surface.py")]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout.strip()

    file = tmp_path / "tests" / "surface.json"
    file.parent.mkdir()
    file.write_text(json.dumps(frozen))
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    assert check() == (0, "There is no release yet to compare with.")
    git("tag", "v1.0.0")
    assert check() == (0, "Compatible with v1.0.0.")
    del frozen["T2SVMux"]
    file.write_text(json.dumps(frozen))
    assert check() == (1, "T2SVMux is gone\n1 changes since v1.0.0 break saved workflows.")


def test_the_registry_gets_what_it_asks_for(root):
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    version = sounding_video.__version__
    address = "https://example.org/someone/ComfyUI-SoundingVideo"
    script = load(root, "registry_metadata")
    project = tomllib.loads(script.complete(text, repository=address, tag=f"v{version}", version=version))
    assert project["project"]["urls"] == {"Repository": address}
    comfy = project["tool"]["comfy"]
    assert comfy["Icon"] == f"{address}/raw/v{version}/web/icon.png"
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9]*([-_.][A-Za-z0-9]+)*", project["project"]["name"])
    assert "comfyui" not in project["project"]["name"].lower()
    assert project["project"]["description"] and comfy["PublisherId"] and comfy["DisplayName"]
    # The registry's tool reads a version that is kept in a source file by this pattern.
    source = (root / comfy["version"]["path"]).read_text(encoding="utf-8")
    assert re.findall(r'^__version__ = "(\d+\.\d+\.\d+)"$', source, re.MULTILINE) == [version]
    with pytest.raises(SystemExit, match="tag v"):
        script.complete(text, repository=address, tag="v9.9.9", version=version)


def test_the_package_leaves_out_what_nodes_do_not_need(root):
    lines = (root / ".comfyignore").read_text(encoding="utf-8").splitlines()
    left_out = [line for line in lines if line and not line.startswith("#")]
    assert {"tests/", "benchmarks/", ".github/", ".ci/"} <= set(left_out)
    rooms = {f"{folder.name}/" for folder in root.iterdir() if (folder / "__init__.py").is_file()}
    assert not (rooms | {"web/", "workflows/", "locales/", "requirements.txt", "pyproject.toml"}) & set(left_out)


def test_the_workflows_hold_no_secret_and_name_what_exists(root):
    files = sorted((root / ".github" / "workflows").glob("*.yml"))
    assert [file.name for file in files] == ["publish.yml", "test.yml"]
    publish = files[0].read_text(encoding="utf-8")
    assert 'tags: ["v*"]' in publish and "Comfy-Org/publish-node-action@" in publish
    assert re.findall(r"secrets\.(\w+)", publish) == ["REGISTRY_ACCESS_TOKEN"]
    for text in (file.read_text(encoding="utf-8") for file in files):
        for script in re.findall(r"\.ci/[\w.]+", text):
            assert (root / script).is_file()
        for target in re.findall(r"run: make (\w+)", text):
            assert re.search(rf"^{target}:", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_what_make_bench_runs_is_there_and_needs_no_argument(root):
    (names,) = re.findall(r"^BENCHMARKS := (.+)$", (root / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for name in names.split():
        script = (root / "benchmarks" / f"{name}.py").read_text(encoding="utf-8")
        assert not re.findall(r'add(?:_argument)?\("[a-z]|required=True', script), name
