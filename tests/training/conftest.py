"""A run on the small random models that takes a second or two."""

from __future__ import annotations

import copy
import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_models import PAV_WORLD, write_alignment, write_pav_dit_folder
from sounding_video.models.parts import AudioParts, VideoParts
from sounding_video.models.weights.find import pocket_folder
from sounding_video.models.weights.load import load_stable_audio, load_wan
from sounding_video.training.config import TrainConfig
from sounding_video.training.recipes import recipe
from sounding_video.training.tasks import TRAINING_TASKS, base
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


Parts = VideoParts | AudioParts


class Loaded:
    """What the loaders gave for folders that nobody writes into: read once a session, and copied for each run.

    Codecs beside a tower are only read; they are the same ones for all.

    Args:
        roots: The folders' roots; other models are loaded as ever.
    """

    def __init__(self, *roots: Path) -> None:
        self.roots = roots
        self.parts: dict[tuple[object, ...], Parts] = {}
        self.states: dict[tuple[object, ...], list[tuple[object, ...]]] = {}
        self.lent: set[tuple[object, ...]] = set()

    def once(self, load: Callable[..., Parts]) -> Callable[..., Parts]:
        """A loader that remembers."""

        def loaded(source: object, placement: object, **settings: object) -> Parts:
            if not isinstance(source, Path) or source.parent not in self.roots:
                return load(source, placement, **settings)
            key = (source, placement, *sorted(settings.items()))
            if key not in self.parts:
                self.parts[key] = load(source, placement, **settings)
                self.states[key] = _state(self.parts[key])
            self.lent.add(key)
            kept = self.parts[key]
            codec = copy.deepcopy(kept.codec) if kept.tower is None else kept.codec
            return replace(kept, tower=copy.deepcopy(kept.tower), codec=codec, text=copy.deepcopy(kept.text))

        return loaded

    def require_untouched(self) -> None:
        """Nothing that was lent was written to, thawed or moved."""
        touched = [key for key in self.lent if _state(self.parts[key]) != self.states[key]]
        for key in touched:
            del self.parts[key]
        self.lent.clear()
        assert touched == [], "a test changed a model that others share"


def _state(parts: Parts) -> list[tuple[object, ...]]:
    found = []
    for part in filter(None, (parts.tower, parts.codec, parts.text)):
        for module in (part, *vars(part).values()):
            if isinstance(module, torch.nn.Module):
                found.append((module.training, sum(1 for _ in module.modules())))
                tensors = (*module.parameters(), *module.buffers())
                found += [(each._version, each.requires_grad, each.dtype, each.device) for each in tensors]
    assert found
    return found


@pytest.fixture(scope="session")
def loaded(small_models_dir: Path) -> Loaded:
    return Loaded(small_models_dir, pocket_folder())


@pytest.fixture(autouse=True)
def loaded_once(loaded: Loaded, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Runs on the small and on the bundled model find it loaded, and leave it as it was."""
    for name in ("load_wan", "load_stable_audio"):
        monkeypatch.setattr(base, name, loaded.once(getattr(base, name)))
    yield
    loaded.require_untouched()


@pytest.fixture
def loaded_anew(loaded_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run reads its models from disk, as one in another process does: where numbers lie decides how they round."""
    monkeypatch.setattr(base, "load_wan", load_wan)
    monkeypatch.setattr(base, "load_stable_audio", load_stable_audio)


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
