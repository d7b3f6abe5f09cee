"""Load this checkout under its one name, whether or not it is installed, and share what many tests need."""

from __future__ import annotations

import atexit
import copy
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings
from packaging.version import Version

# Workers of pytest-xdist share the cores; read when torch is imported.
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
if _WORKERS > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _WORKERS)))

# One verdict for one commit: continuous integration draws the same examples every time, a developer fresh ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

# What runs keep for later ones neither comes from this user's cache nor goes into it. Fonts stay where they are.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ.setdefault("MPLCONFIGDIR", str(Path("~/.cache/matplotlib").expanduser()))
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="sounding_video_")
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

# Older safetensors write into the file itself, and tests write over files whose tensors they have mapped.
if Version(version("safetensors")) < Version("0.5"):
    import safetensors.torch

    _mapped = safetensors.torch.load_file
    safetensors.torch.load_file = lambda *args, **kwargs: {n: t.clone() for n, t in _mapped(*args, **kwargs).items()}

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = "text_to_sounding_video_pocket.json"
_LOADER = f"""
import importlib.util, sys
ROOT = {str(ROOT)!r}
def load(name, file, folder=None):
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folder)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
load('sounding_video', ROOT + '/__init__.py', [ROOT])
"""


def _load(name: str, file: Path, folder: Path | None = None) -> ModuleType:
    locations = [str(folder)] if folder else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=locations)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# By path and not by name: another checkout may be the one that is installed.
_load("sounding_video", ROOT / "__init__.py", ROOT)
small_models = _load("small_models", ROOT / "tests" / "small_models.py")
_load("comfyui_server", ROOT / "tests" / "comfyui_server.py")
_load("lora_files", ROOT / "tests" / "lora_files.py")
_load("rights", ROOT / "tests" / "rights.py")
_load("user_files", ROOT / "tests" / "user_files.py")
_load("fake_card", ROOT / "tests" / "fake_card.py")
chat_servers = _load("chat_server", ROOT / "tests" / "chat_server.py")
for _part in ("fuzz_cases", "fuzz_readers", "fuzz_workflows", "fuzz_files", "fuzz"):
    _load(_part, ROOT / "tests" / f"{_part}.py")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository root."""
    return ROOT


@pytest.fixture(scope="session")
def small_models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small Wan, a small Stable Audio and a bridge file. Do not write into it."""
    return small_models.write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def template(root: Path) -> dict:
    """The pocket template in API format. Do not change it."""
    return json.loads((root / "workflows" / "api" / TEMPLATE).read_text(encoding="utf-8"))


@pytest.fixture
def graph(template: dict) -> dict:
    """The pocket template, turned to the small random models: 32×32, 9 frames, 2 steps."""
    graph = copy.deepcopy(template)
    for node_id, values in {
        "1": {"video_model": "wan"},
        "2": {"audio_model": "stable_audio"},
        "3": {"bridge_file": "bridge.safetensors"},
        "5": {"width": 32, "height": 32, "num_frames": 9},
        "7": {"steps": 2},
    }.items():
        graph[node_id]["inputs"].update(values)
    return graph


@pytest.fixture(scope="session")
def python_with_package() -> Callable[..., subprocess.Popen]:
    """Start a fresh Python that runs a piece of code; ``import sounding_video`` in it finds this checkout."""

    def start(
        code: str, arguments: Sequence[str] = (), *, python: str = sys.executable, **options: object
    ) -> subprocess.Popen:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment, **options}
        return subprocess.Popen([python, "-c", _LOADER + code, *arguments], **settings)

    return start


@pytest.fixture
def no_keys_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the language model's server and keys out of the environment."""
    for name in ("OPENAI_API_KEY", "SOUNDING_VIDEO_LLM_KEY", "SOUNDING_VIDEO_LLM_SERVER"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def chat_server(no_keys_of_the_machine: None) -> Iterator[chat_servers.ChatServer]:
    """A language model's server that does as it is told."""
    with chat_servers.chat_server() as state:
        yield state


@pytest.fixture
def throw_away_kind(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bridge kind that is one file among the others, for as long as the test lasts; its name."""
    from sounding_video.models import bridges

    yield from _one_more_file(bridges, bridges.BRIDGES, "throw_away_bridge.py", tmp_path_factory, monkeypatch)


@pytest.fixture
def throw_away_family(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A family that is one file among the others, for as long as the test lasts; a folder with a model of it."""
    from sounding_video.models import families

    for name in _one_more_file(families, families.FAMILIES, "throw_away_family.py", tmp_path_factory, monkeypatch):
        module = importlib.import_module(f"{families.__name__}.{name}")
        yield module.write_folder(tmp_path_factory.mktemp("models") / "odd", small_models.write_tokenizer)


def _one_more_file(
    package: ModuleType,
    registry: Any,
    file: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """A file of this folder as the variant ``throw_away`` of a package."""
    folder = tmp_path_factory.mktemp("variants")
    shutil.copy(ROOT / "tests" / file, folder / "throw_away.py")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    yield "throw_away"
    registry._entries.pop("throw_away", None)
    sys.modules.pop(f"{package.__name__}.throw_away", None)
    vars(package).pop("throw_away", None)
