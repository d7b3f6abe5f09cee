"""Importing does nothing: fast, light, and without side effects. Each check runs in a fresh Python."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

HEAVY = ("torch", "numpy", "diffusers", "transformers", "av", "PIL", "aiohttp", "tqdm", "safetensors")
# Optional, or only usable on some machines: nothing may import them at load.
NEVER_AT_LOAD = ("torchaudio", "moviepy", "xformers", "librosa", "cv2")


def _run(start, code: str, **options) -> dict:
    process = start(code, **options)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def test_import_takes_less_than_a_second(python_with_package):
    """Of the processor's time, whatever else the machine does. Measured inside, so that Python's start is left out."""
    code = """
import json, time
for name in [name for name in sys.modules if name.split('.')[0] == 'sounding_video']:
    del sys.modules[name]
started = time.process_time()
load('sounding_video', ROOT + '/__init__.py', [ROOT])
import sounding_video.cli
print(json.dumps(time.process_time() - started))
"""
    assert min(_run(python_with_package, code) for _ in range(3)) < 1.0


@pytest.mark.parametrize("module", ["sounding_video", "sounding_video.cli", "sounding_video.core.errors"])
def test_light_modules_import_nothing_heavy(python_with_package, module):
    loaded = _run(python_with_package, f"import json, {module}\nprint(json.dumps(sorted(sys.modules)))")
    assert not {name.split(".")[0] for name in loaded} & set(HEAVY + NEVER_AT_LOAD)


def test_loading_the_pack_imports_no_model_library(python_with_package):
    """What ComfyUI does at its start: import, entry point, every schema. Torch is there already, as in ComfyUI."""
    code = """
import asyncio, json, torch
before = set(sys.modules)
import sounding_video
nodes = asyncio.run(asyncio.run(sounding_video.comfy_entrypoint()).get_node_list())
assert len([node.GET_SCHEMA() for node in nodes]) == len(nodes) > 10
print(json.dumps(sorted({name.split('.')[0] for name in set(sys.modules) - before})))
"""
    heavy = {
        *HEAVY,
        *NEVER_AT_LOAD,
        "accelerate",
        "pydantic",
        "scipy",
        "torchsde",
        "torchvision",
        "matplotlib",
        "pandas",
    }
    light = {"torch", "numpy", "PIL", "safetensors"}  # ComfyUI has imported these itself
    assert set(_run(python_with_package, code)) & (heavy - light) == set()


def test_import_changes_nothing(python_with_package, tmp_path):
    code = """
import json, logging, os, pkgutil, warnings, signal
def state():
    return {
        'environment': dict(os.environ), 'path': list(sys.path), 'directory': os.getcwd(),
        'handlers': [repr(handler) for handler in logging.getLogger().handlers],
        'own handlers': [repr(handler) for handler in logging.getLogger('sounding_video').handlers],
        'level': logging.getLogger().level, 'own level': logging.getLogger('sounding_video').level,
        'filters': len(warnings.filters), 'signal': repr(signal.getsignal(signal.SIGINT)),
    }
before = state()
del sys.modules['sounding_video']
load('sounding_video', ROOT + '/__init__.py', [ROOT])
import sounding_video.cli
after = state()
print(json.dumps([key for key in before if before[key] != after[key]]))
"""
    assert _run(python_with_package, code, cwd=tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_every_module_imports_without_optional_packages(python_with_package, root: Path, tmp_path):
    """All modules in one fresh Python that has none of them; the ComfyUI side is left to the test that has one."""
    code = (
        f"ABSENT = {(*NEVER_AT_LOAD, 'matplotlib', 'playwright')!r}"
        + """
import importlib, json, os, pathlib
class Without(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split('.')[0] in ABSENT else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Without
inside = ('comfy', 'comfy_memory', 'native', 'native_preview', 'native_towers')
skip = {'setup', '__main__'} | {'nodes.host.' + name for name in inside}
rooms = [p for p in pathlib.Path(ROOT).iterdir() if (p / '__init__.py').is_file()]
files = [file for room in rooms for file in room.rglob('*.py')] + list(pathlib.Path(ROOT).glob('*.py'))
names = ['.'.join(file.relative_to(ROOT).with_suffix('').parts) for file in files]
names = sorted(name.removesuffix('.__init__') for name in names if name != '__init__' and name not in skip)
environment, path = dict(os.environ), list(sys.path)
for name in names:
    importlib.import_module('sounding_video.' + name)
changed = sorted(key for key in os.environ.keys() | environment.keys() if os.environ.get(key) != environment.get(key))
print(json.dumps({'names': names, 'changed': changed, 'path': path == sys.path}))
"""
    )
    report = _run(python_with_package, code, cwd=tmp_path)
    known = {"pipeline", "core.clock", "models.joint", "media.mux", "nodes.output", "sampling.loop"}
    assert known <= set(report["names"])
    assert report["path"]
    # torch sets one of its own when some of its parts load
    assert [key for key in report["changed"] if not key.startswith("TORCH")] == []
    assert list(tmp_path.iterdir()) == []


def test_no_file_imports_an_optional_package_at_load(root: Path):
    """Libraries of ours may do so, guarded; our own files import these inside the function that needs them."""
    found = []
    for room in (folder for folder in root.iterdir() if (folder / "__init__.py").is_file()):
        for file in room.rglob("*.py"):
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                found += [f"{file.name}: {name}" for name in names if name.split(".")[0] in NEVER_AT_LOAD]
    assert found == []
