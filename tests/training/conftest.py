"""A run on the small random models that takes a second or two."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_models import PAV_WORLD, write_alignment, write_pav_dit_folder
from sounding_video.training.config import TrainConfig
from sounding_video.training.recipes import recipe
from sounding_video.training.tasks import TRAINING_TASKS
from sounding_video.training.tasks._conditioned import ConditionedTask
from sounding_video.training.tasks._planes import PlanesTask

_spec = importlib.util.spec_from_file_location("training_runs", Path(__file__).with_name("runs.py"))
sys.modules["training_runs"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules["training_runs"])

SMALL = sys.modules["training_runs"].SMALL


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def small_planes_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random PAV-DiT that makes clips as those of ``SMALL``."""
    return write_pav_dit_folder(tmp_path_factory.mktemp("pav_dit") / "planes", extent=PAV_WORLD)


@pytest.fixture(scope="session")
def small_alignment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An alignment file that no tower reads yet, with random adapters and a part of its dimensions kept."""
    return write_alignment(tmp_path_factory.mktemp("alignment") / "first.safetensors")


@pytest.fixture
def small_run(
    small_models_dir: Path, small_planes_dir: Path, small_alignment: Path, shared_cache: Path
) -> Callable[..., TrainConfig]:
    """``small_run("pocket_bridges", "num_steps=8", …)``."""

    def make(name: str = "pocket_bridges", *overrides: str) -> TrainConfig:
        of_planes = issubclass(TRAINING_TASKS.get(recipe(name).task), PlanesTask)
        root, cache = small_planes_dir if of_planes else small_models_dir, f"data.cache={shared_cache}"
        task = next((o.partition("=")[2] for o in overrides if o.startswith("task=")), recipe(name).task)
        reads = issubclass(TRAINING_TASKS.get(task), ConditionedTask)
        start = [f"alignment.start={small_alignment}"] if reads else []
        return recipe(name, [f"models.root={root}", cache, *SMALL, *start, *overrides])

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
