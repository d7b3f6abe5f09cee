"""What dry runs found in an earlier process counts in the next one, and never where anything is different."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from sounding_video.core import kept
from sounding_video.core.device import Placement
from sounding_video.core.errors import IncompatibleWeightsError
from sounding_video.core.kept import user_store
from sounding_video.models.plan import costs, kept_costs, remembered
from sounding_video.models.plan.base import Workload
from sounding_video.models.plan.outline import outline_models
from sounding_video.models.plan.tracking import Cost
from sounding_video.models.weights import _config
from sounding_video.models.weights._folders import part_weights
from sounding_video.models.weights._weight_file import TensorInfo
from sounding_video.models.weights.find import find_models

WORK = Workload((1, 4, 2, 4, 4), (1, 6, 21), encoded=("video", "audio"))


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    """Where costs are kept; nothing is there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "sounding_video" / "costs"


@pytest.fixture
def start(monkeypatch, small_models_dir, cache):
    """Plan as a new process does: all costs, and how many of them were dry runs."""
    made, real = [], costs.dry_run
    monkeypatch.setattr(costs, "dry_run", lambda *args: made.append(1) or real(*args))

    def run() -> tuple[dict[str, Cost], int]:
        remembered._FOUND.clear()
        made.clear()
        return planned(small_models_dir), len(made)

    return run


def planned(folder: Path) -> dict[str, Cost]:
    placement = Placement(torch.device("cpu"), torch.float32)
    outline = outline_models(find_models(folder), placement, bridge=folder / "bridge.safetensors")
    return {stage: outline.cost(stage, WORK, batched=False, tiling="off") for stage in outline.stages(WORK)}


def test_a_later_start_counts_nothing(start, cache):
    first, num_runs = start()
    assert num_runs == len(list(cache.iterdir())) == len(first) + 1
    assert start() == (first, 0)


def test_another_process_makes_the_same_names(start, cache, small_models_dir, tmp_path):
    """Sets of words come in another order in each process."""
    start()
    before = {file.name for file in cache.iterdir()}
    code = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent)!r}]
import conftest
from pathlib import Path
from test_kept_costs import planned
planned(Path({str(small_models_dir)!r}))
"""
    environment = {**os.environ, "PYTHONHASHSEED": "5", "PYTHONPATH": str(Path(__file__).parents[1])}
    environment["PYTEST_XDIST_WORKER"] = "another"  # the cache is ours
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=tmp_path)
    assert {file.name for file in cache.iterdir()} == before


@pytest.mark.parametrize("changed", ["python", "code", "torch", "diffusers"])
def test_with_another_library_or_code_all_is_counted_anew(start, monkeypatch, changed):
    _, num_runs = start()
    environment = {**kept_costs._environment(), changed: "another"}
    monkeypatch.setattr(kept_costs, "_environment", lambda: environment)
    assert start()[1] == num_runs


def test_the_code_is_this_packages(monkeypatch, tmp_path):
    """A file that is changed, comes or goes is another code."""
    for folder in kept_costs._CODE:
        (tmp_path / folder).mkdir()
    file = tmp_path / "models" / "joint.py"
    monkeypatch.setattr(kept_costs, "__file__", str(tmp_path / "models" / "plan" / "kept_costs.py"))
    codes = []
    for change in (lambda: None, lambda: file.write_text("1"), lambda: file.write_text("22"), file.unlink):
        change()
        kept_costs._environment.cache_clear()
        codes.append(kept_costs._environment()["code"])
    kept_costs._environment.cache_clear()
    assert codes[0] == codes[3] and len(set(codes)) == 3


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"peak_bytes": -1, "operations": 1}', '{"peak_bytes": true}', "\0"])
def test_a_damaged_entry_is_counted_anew(start, cache, text):
    first, _ = start()
    damaged = sorted(cache.iterdir())[0]
    damaged.write_text(text)
    assert start() == (first, 1)
    assert start() == (first, 0)


def test_where_nothing_can_be_kept_all_is_counted(start, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    first, num_runs = start()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert start() == (first, num_runs)
    monkeypatch.setattr(kept, "user_cache_path", lambda *args, **kwargs: Path("~"))  # of a user without a home
    assert start() == (first, num_runs)


def test_the_oldest_entries_go(start, cache):
    _, num_runs = start()
    files = sorted(cache.iterdir())
    for age, file in enumerate(files):
        os.utime(file, (1000 - age, 1000 - age))
    oldest, second = files[-1], files[-2]
    entry = oldest.read_text()
    store = user_store("costs", "costs", most=num_runs)
    store.store("new", json.loads(entry))
    assert not oldest.exists() and second.exists() and len(list(cache.iterdir())) == num_runs


def test_a_part_that_was_found_good_is_not_made_again_by_a_later_start(start, cache, monkeypatch, small_models_dir):
    """What is refused is made, and refused, every time."""
    from diffusers import WanTransformer3DModel

    where, made, real = small_models_dir / "wan" / "transformer", [], _config.outlined
    monkeypatch.setattr(_config, "outlined", lambda *args: made.append(1) or real(*args))
    file = part_weights(where)

    def look(infos: dict[str, TensorInfo]) -> int:
        remembered._FOUND.clear()
        made.clear()
        with nullcontext() if infos is file.infos else pytest.raises(IncompatibleWeightsError, match="misshapen"):
            _config.require_part(WanTransformer3DModel, where, SimpleNamespace(infos=infos))
        return len(made)

    name, info = next(iter(file.infos.items()))
    wrong = {**file.infos, name: replace(info, shape=(*info.shape, 2))}
    assert [look(file.infos), look(file.infos), look(wrong), look(wrong), look(file.infos)] == [1, 0, 1, 1, 0]
