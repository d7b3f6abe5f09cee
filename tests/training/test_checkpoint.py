"""What a killed run leaves beside its checkpoints, and what the next one makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sounding_video.core.errors import InputError
from sounding_video.training import checkpoint
from sounding_video.training.checkpoint import TrainState, checkpoints, held, load_checkpoint, save_checkpoint


def save(output: Path, step: int, value: float, *, keep: int = 2) -> Path:
    weights = {"w": torch.full((2,), value)}
    state = TrainState(step, weights, {"w/exp_avg": torch.zeros(2)}, config={"seed": 1}, data="clips")
    return save_checkpoint(output, state, keep=keep, config_hash="0", export=lambda folder: folder.mkdir())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_takes_away_what_a_killed_one_left_half_written(tmp_path):
    save(tmp_path, 2, 1.0)
    (tmp_path / "checkpoints" / ".step-0000003.part" / "export").mkdir(parents=True)
    for name in (".loss.jsonl.part", ".loss.png.part.png"):
        (tmp_path / name).write_text("half")
    (tmp_path / ".mine").write_text("the user's own")
    with held(tmp_path):
        assert names(tmp_path / "checkpoints") == ["step-0000002"]
        with pytest.raises(InputError, match="another run is training into this folder"), held(tmp_path):
            pass
    assert names(tmp_path) == [".mine", "checkpoints"]


def test_a_step_that_is_kept_is_not_written_again(tmp_path):
    """A kill between removing and renaming would have left none."""
    folder = save(tmp_path, 2, 1.0)
    before = (folder / "weights.safetensors").stat().st_mtime_ns
    assert save(tmp_path, 2, 1.0) == folder
    assert (folder / "weights.safetensors").stat().st_mtime_ns == before


def test_half_of_an_old_checkpoint_never_bears_its_name(tmp_path, monkeypatch):
    save(tmp_path, 1, 1.0)
    real, seen = checkpoint.shutil.rmtree, []

    def stopped(folder: Path, **more: bool) -> None:
        seen.append([each.name for each in checkpoints(tmp_path)])
        if not more:
            raise KeyboardInterrupt
        real(folder, **more)

    monkeypatch.setattr(checkpoint.shutil, "rmtree", stopped)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2, 2.0, keep=1)
    assert seen[-1] == names(tmp_path / "checkpoints")[1:] == ["step-0000002"]
    monkeypatch.undo()
    assert load_checkpoint(checkpoints(tmp_path)[-1]).step == 2
    with held(tmp_path):
        assert names(tmp_path / "checkpoints") == ["step-0000002"]
