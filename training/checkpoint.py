"""Checkpoints: a folder a step, written under a temporary name and renamed, the last few kept.

``weights.safetensors``    trainable tensors as they are
``average.safetensors``    their moving average, where one is kept
``optimizer.safetensors``  AdamW's two moments and step counts, by the tensors' names
``state.json``             step, configuration and its hash; the random state is (seed, step)
``export/``                what others load
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import CorruptWeightsError, IncompatibleWeightsError, InputError, OutputError
from ..core.json_text import read_json
from ..core.locks import alone_in
from ..core.new_files import remove
from ..media.files import output_error
from ..models.weights.files import read_safetensors, write_safetensors

FOLDER, LOCK = "checkpoints", ".lock"
_PARTIAL = ".{}.part"  # a folder or file while it is written, or removed
FORMAT = "sounding_video.checkpoint"
_NAME = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class TrainState:
    """What a run continues from.

    Args:
        step: Finished optimizer steps.
        weights: Trainable tensors by name.
        optimizer: Optimizer state, ``{name}/{field}``.
        average: Moving average by name; empty without one.
        config: The run's configuration, plain values.
        data: Hash of the clips it learns from.
    """

    step: int
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    average: Mapping[str, Tensor] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    data: str = ""


def checkpoints(output: Path) -> list[Path]:
    """Complete checkpoints of a run, oldest first."""
    found = [folder for folder in (output / FOLDER).glob("step-*") if _NAME.fullmatch(folder.name)]
    return sorted(found, key=step_of)


def step_of(folder: Path) -> int:
    """The number in a checkpoint's name."""
    return int(_NAME.fullmatch(folder.name)[1])


def latest_checkpoint(output: Path) -> Path | None:
    """The newest complete checkpoint, or None."""
    return next(reversed(checkpoints(output)), None)


def save_checkpoint(
    output: Path, state: TrainState, *, keep: int, config_hash: str, export: Callable[[Path], None]
) -> Path:
    """Write a checkpoint and drop the oldest beyond ``keep``.

    Args:
        output: The run's folder.
        state: To be kept.
        keep: How many checkpoints stay.
        config_hash: Noted beside the configuration.
        export: Writes what others load into the folder it is given.

    Raises:
        OutputError: the folder cannot be written.
    """
    target = output / FOLDER / f"step-{state.step:07d}"
    partial = _partial(target)
    if target.is_dir():  # the same state: a run was stopped right after it was written
        return target
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        notes = {"format": FORMAT, "step": str(state.step), "config_hash": config_hash}
        for name, tensors in (
            ("weights", state.weights),
            ("optimizer", state.optimizer),
            ("average", state.average),
        ):
            if tensors:
                write_safetensors(partial / f"{name}.safetensors", dict(tensors), notes)
        values = {**notes, "step": state.step, "data": state.data, "config": dict(state.config)}
        (partial / "state.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        export(partial / "export")
        partial.replace(target)
        for old in checkpoints(output)[:-keep]:
            going = _partial(old)  # half of it must not bear its name
            old.replace(going)
            shutil.rmtree(going)
    except OSError as error:
        raise OutputError("the checkpoint cannot be written", got=f"{target} ({error})") from error
    return target


def _partial(folder: Path) -> Path:
    return folder.with_name(_PARTIAL.format(folder.name))


def _remove_half_written(output: Path) -> None:
    """Take away what a killed run left half-written; nobody else may be writing there."""
    for folder in (output, output / FOLDER):
        for left in folder.glob(_PARTIAL.format("*") + "*"):
            remove(left)


@contextmanager
def held(output: Path) -> Iterator[None]:
    """The run's folder for this run alone; it goes again where nothing comes to stand there.

    Raises:
        InputError: another process trains into it.
        OutputError: it cannot be made.
    """
    refused = InputError(
        "another run is training into this folder",
        got=output,
        expected="one run a folder",
        remedy="Wait for it or stop it, or choose another --output.",
    )
    with alone_in(output, LOCK, refused, partial(output_error, output)):
        _remove_half_written(output)
        yield


def load_checkpoint(folder: Path) -> TrainState:
    """Read a checkpoint.

    Raises:
        CorruptWeightsError: a file of it is missing or damaged.
    """
    try:
        values = read_json(folder / "state.json", what="the checkpoint's note")
        step, config, data = int(values["step"]), values["config"], values["data"]
    except (KeyError, ValueError, TypeError) as error:
        raise CorruptWeightsError(
            "the checkpoint cannot be read", got=f"{folder} ({error})", expected="state.json beside the weights"
        ) from error
    # A sharded run keeps its optimizer in accelerate's own files; before the first step there is nothing to keep.
    required = {"weights"} if step == 0 or (folder / "accelerate").is_dir() else {"weights", "optimizer"}
    parts: dict[str, dict[str, Tensor]] = {}
    for name in ("weights", "optimizer", "average"):
        file = folder / f"{name}.safetensors"
        parts[name] = read_safetensors(file)[0] if name in required or file.is_file() else {}
    return TrainState(step, parts["weights"], parts["optimizer"], parts["average"], config, data)


def optimizer_tensors(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The optimizer's state as named tensors."""
    tensors = {}
    for name, parameter in parameters.items():
        for key, value in optimizer.state[parameter].items():
            tensors[f"{name}/{key}"] = value.detach().cpu().clone()
    return tensors


def restore(
    state: TrainState, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, where: Path
) -> None:
    """Put weights and optimizer state back.

    Raises:
        IncompatibleWeightsError: the checkpoint trained other tensors.
    """
    if set(state.weights) != set(parameters):
        raise IncompatibleWeightsError(
            "the checkpoint trained other tensors than this run",
            got=f"{len(state.weights)} in {where}",
            expected=f"the {len(parameters)} of this configuration",
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state.weights[name])
            fields = {
                key.rpartition("/")[2]: tensor.clone() if key.endswith("/step") else tensor.to(parameter.device)
                for key, tensor in state.optimizer.items()
                if key.rpartition("/")[0] == name
            }
            if fields:
                optimizer.state[parameter] = fields


def require_fresh(output: Path) -> None:
    """Refuse to start over in a folder that holds a run.

    Raises:
        InputError: there are checkpoints.
    """
    last = latest_checkpoint(output)
    if last is not None:
        raise InputError(
            "the output folder already holds a run",
            got=last,
            expected="an empty folder",
            remedy="Continue it with --resume, or choose another --output.",
        )
