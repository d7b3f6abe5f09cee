"""Benchmarks follow the code they measure: each script and its imports are there, and it explains itself."""

from __future__ import annotations

import json
import subprocess
import sys

LOOK = """
import importlib.util, json, sys
from pathlib import Path
folder = Path(sys.argv[1])
sys.path[:0] = [str(folder), str(folder / "pocket"), str(folder / "on_card")]
broken = {}
for file in sorted([*folder.glob("*.py"), *folder.glob("pocket/*.py")]):
    try:
        spec = importlib.util.spec_from_file_location(f"looked_at_{file.stem}", file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        if not module.__doc__:
            raise ValueError("no docstring")
    except Exception as error:
        broken[file.name] = repr(error)
print(json.dumps(broken))
"""


def test_every_benchmark_can_be_imported(root) -> None:
    command = [sys.executable, "-c", LOOK, str(root / "benchmarks")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == {}
