"""Starts a real ComfyUI with this pack in it, for the tests against the server and in the browser.

``COMFYUI_PATH`` names one checkout or several, separated as in ``PATH``; without it ``ComfyUI`` beside this repository
is taken where it is. ``COMFYUI_PYTHON`` names the interpreter of all of them, or one for each in the same order;
without it that is the one in the checkout's ``venv`` or ``.venv``, or else the one that runs the tests.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PACK = "ComfyUI-SoundingVideo"
DEFAULT_PLACE = Path(__file__).resolve().parents[2] / "ComfyUI"
NO_CHECKOUT = "no ComfyUI checkout: COMFYUI_PATH is not set, and there is no folder ComfyUI beside this repository"
START_SECONDS = float(os.environ.get("COMFYUI_START_SECONDS", 120))


@dataclass(frozen=True)
class ComfyServer:
    url: str
    base: Path
    log: Path
    pid: int

    @property
    def models(self) -> Path:
        return self.base / "models" / "sounding_video"


def checkouts() -> list[Path]:
    """Every ComfyUI to test against, none where there is none."""
    named = os.environ.get("COMFYUI_PATH")
    if not named:
        return [DEFAULT_PLACE] if (DEFAULT_PLACE / "main.py").is_file() else []
    paths = [Path(path) for path in named.split(os.pathsep) if path]
    for path in paths:
        assert (path / "main.py").is_file(), f"COMFYUI_PATH={named}: {path} holds no main.py"
    return paths


def checkout() -> Path:
    """The first of them; skips where there is none."""
    found = checkouts()
    if not found:
        pytest.skip(NO_CHECKOUT)
    return found[0]


def python_of(comfyui_path: Path) -> str:
    """The interpreter that a checkout runs with."""
    named = [python for python in os.environ.get("COMFYUI_PYTHON", "").split(os.pathsep) if python]
    if not named:
        own = [comfyui_path / folder / "bin" / "python" for folder in ("venv", ".venv")]
        return str(next((python for python in own if python.is_file()), sys.executable))
    paths = checkouts()
    assert len(named) in (1, len(paths)), f"COMFYUI_PYTHON names {len(named)}, COMFYUI_PATH {len(paths)} checkouts"
    return named[0] if len(named) == 1 else named[paths.index(comfyui_path)]


def version_of(comfyui_path: Path) -> str:
    """As the checkout says it, for example ``0.3.64``."""
    return (comfyui_path / "comfyui_version.py").read_text().split('"')[-2]


@contextmanager
def serving(
    comfyui_path: Path,
    pack: Path,
    base: Path,
    models: Path | None,
    options: tuple[str, ...] = (),
    *,
    others: tuple[Path, ...] = (),
    one_heap: bool = True,
) -> Iterator:
    """A server on a fresh base folder as long as the block lasts, with our models in it and other packs beside ours."""
    (base / "custom_nodes").mkdir()
    packs = {PACK: pack, **{folder.name: folder for folder in others}}
    for name, folder in packs.items():
        (base / "custom_nodes" / name).symlink_to(folder, target_is_directory=True)
    if models is not None:
        shutil.copytree(models, base / "models" / "sounding_video")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log_file = base / "server.log"
    command = [
        python_of(comfyui_path), "-u", "main.py", "--cpu", "--listen", "127.0.0.1",
        "--port", str(port), "--disable-auto-launch", "--disable-api-nodes", "--base-directory", str(base),
        "--database-url", f"sqlite:///{base / 'comfyui.db'}", *options,
        "--disable-all-custom-nodes", "--whitelist-custom-nodes", *packs,
    ]  # fmt: skip
    # One heap for all threads: what grows is then what is kept, and not one more arena of glibc's.
    heap = {"MALLOC_ARENA_MAX": "1"} if one_heap else {}
    environment = {"OMP_NUM_THREADS": "2", **os.environ, **heap, "PYTHONDONTWRITEBYTECODE": "1"}
    with log_file.open("wb") as log:
        process = subprocess.Popen(command, cwd=comfyui_path, stdout=log, stderr=log, env=environment)
        server = ComfyServer(f"http://127.0.0.1:{port}", base, log_file, process.pid)
        try:
            _wait_until_ready(server, process)
            yield server
        finally:
            process.terminate()
            process.wait(30)


def _wait_until_ready(server: ComfyServer, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"ComfyUI ended at start:\n{server.log.read_text()[-4000:]}"
        try:
            with urllib.request.urlopen(f"{server.url}/system_stats", timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    pytest.fail(f"ComfyUI did not answer within {START_SECONDS} s:\n{server.log.read_text()[-4000:]}")
