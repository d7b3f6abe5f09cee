"""A run on the small random models that takes a second or two."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sounding_video.training.config import TrainConfig
from sounding_video.training.recipes import recipe

_spec = importlib.util.spec_from_file_location("training_runs", Path(__file__).with_name("runs.py"))
sys.modules["training_runs"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules["training_runs"])

SMALL = (
    "models.text_length=16", "bridges.video_points=0,1", "bridges.audio_points=0,1", "bridges.qk_width=16",
    "bridges.num_heads=2", "data.num_frames=9", "data.width=32", "data.height=32", "data.num_clips=4",
    "data.scenes=ball", "saving.plot=false", "device=cpu", "batch_size=2", "num_steps=4", "optimizer.lr=0.01",
    "optimizer.warmup_steps=2", "data.sound_latents=encoded", "data.expanded_share=0", "objective.codes=learned",
    "objective.times=shared", "bridges.gate_bias=0", "bridges.moment_bias=0",
)  # fmt: skip


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def small_run(small_models_dir: Path, shared_cache: Path) -> Callable[..., TrainConfig]:
    """``small_run("pocket_bridges", "num_steps=8", …)``."""

    def make(name: str = "pocket_bridges", *overrides: str) -> TrainConfig:
        root, cache = f"models.root={small_models_dir}", f"data.cache={shared_cache}"
        return recipe(name, [root, cache, *SMALL, *overrides])

    return make


@pytest.fixture
def throw_away_task(root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch) -> Iterator[str]:
    """A training task that is one file among the others, for as long as the test lasts; its name."""
    from sounding_video.training import tasks

    folder = tmp_path_factory.mktemp("tasks")
    shutil.copy(root / "tests" / "throw_away_task.py", folder / "throw_away.py")
    monkeypatch.setattr(tasks, "__path__", [*tasks.__path__, str(folder)])
    yield "throw_away"
    tasks.TRAINING_TASKS._entries.pop("throw_away", None)
    sys.modules.pop("sounding_video.training.tasks.throw_away", None)
    vars(tasks).pop("throw_away", None)
