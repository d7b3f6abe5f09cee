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


RUNGS = """
import argparse, json, sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
root, output = Path(sys.argv[1]), Path(sys.argv[2])
sys.path[:0] = [str(root / "benchmarks"), str(root / "benchmarks" / "pocket")]
import fusion_ladder
from sounding_video.core.clock import Timeline
from sounding_video.training.bridges import make_bridges
args = argparse.Namespace(models="pocket", output=output, steps=1, set=[])
width = lambda size: SimpleNamespace(tower=SimpleNamespace(width=size, time_width=size))
towers, made = SimpleNamespace(video=width(192), audio=width(128)), {}
for part in fusion_ladder.PARTS.values():
    for rung in part.rungs:
        if rung.recipe is not None:
            config = fusion_ladder.configuration(rung, 0, args)
            stack = make_bridges(config, towers, Timeline(33, Fraction(15), 64, 64))
            made[f"{part.makes}: {rung.title}"] = [config.task, sum(each.numel() for each in stack.parameters())]
print(json.dumps(made))
"""


def test_every_rung_of_the_ladder_has_bridges(root, tmp_path) -> None:
    """Before hours are spent on those that stand before it."""
    command = [sys.executable, "-c", RUNGS, str(root), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    made = json.loads(done.stdout.splitlines()[-1])
    assert len(made) == 11 + 12 + 4 and all(count > 1000 for _, count in made.values())
    assert {task for title, (task, _) in made.items() if title.startswith("both")} == {"joint"}
