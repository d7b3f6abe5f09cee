"""A real ComfyUI server with this pack in it. Needs COMFYUI_PATH; COMFYUI_PYTHON names another interpreter for it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from comfyui_server import ComfyServer, checkout, serving


@pytest.fixture(scope="session")
def comfyui_path() -> Path:
    return checkout()


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
