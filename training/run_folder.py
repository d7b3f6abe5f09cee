"""What a run keeps in its folder beside its checkpoints: its configuration, and the models that it began with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import Accelerator

from ..core.disk import user_path
from ..core.errors import InputError, MissingModelError
from ..media.files import new_file
from ..models.weights.find import POCKET, pocket_folder
from .assembly import assemble
from .checkpoint import LOCK, latest_checkpoint, load_checkpoint, require_fresh
from .config import TrainConfig
from .tasks.base import TrainingTask

CONFIG = "config.json"


@contextmanager
def run_folder(config: TrainConfig, output: Path) -> Iterator[None]:
    """The run's configuration in its folder; it goes again where a run ends before anything else stands there."""
    note = output / CONFIG
    is_new = not note.exists()
    with new_file(note) as part:
        part.write_text(json.dumps(config.as_dict(), indent=2) + "\n", encoding="utf-8")
    try:
        yield
    except BaseException:
        if is_new and {path.name for path in output.iterdir()} <= {CONFIG, LOCK}:
            note.unlink()
        raise


def find_start(config: TrainConfig, output: Path, resume: bool) -> Path | None:
    """The checkpoint that a run goes on from; None for one that begins.

    Raises:
        InputError: the folder holds a run, or with ``resume`` one of another configuration.
        MissingModelError: there is nothing to resume.
    """
    if not resume:
        require_fresh(output)
        return None
    last = latest_checkpoint(output)
    if last is None:
        raise MissingModelError("there is nothing to resume", got=output, expected="a folder with checkpoints")
    before = TrainConfig.from_dict(load_checkpoint(last).config)
    changed = before.differences(config)
    if changed:
        raise InputError(
            "the run to resume had another configuration",
            got="; ".join(changed[:5]),
            expected=f"the values in {last / 'state.json'}",
            remedy="Give the same recipe and overrides, or start a new --output.",
        )
    return last


def model_folder(config: TrainConfig, output: Path, task: TrainingTask, accelerator: Accelerator) -> Path:
    """The models; in the run's folder, and made once, a new model or a copy that overlays are laid over."""
    base: str | Path = config.models.root
    folder = pocket_folder() if base == POCKET else user_path(base)
    begin = task.begin(folder)
    if not config.models.overlays and begin is None:
        return folder
    target = output / "models"
    if accelerator.is_main_process and not (target.is_dir() and latest_checkpoint(output)):
        if begin is not None:
            shutil.rmtree(target, ignore_errors=True)
            begin(target)
            base = target
        if config.models.overlays:
            assemble(base, config.models.overlays, target)
    accelerator.wait_for_everyone()
    return target
