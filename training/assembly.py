"""From a configuration to modules: load the models and lay earlier runs over them; and write what learned.

A run's checkpoint holds ``export/``: the parts it trained, under the paths they have in a model folder
(``wan/vae``, ``stable_audio/transformer``, ``bridge.safetensors``), and LoRAs as adapters (``video_lora``).
:func:`assemble` lays such trees over a folder.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..core.clock import LatentGeometry
from ..core.disk import user_path
from ..core.errors import InputError, MissingModelError
from ..core.json_text import read_json
from ..core.pair import Pair
from ..models.families.base import FoundFolder
from ..models.loading import find_model
from ..models.own import MODEL_NOTE
from ..models.parts import AudioParts, VideoParts
from ..models.pav_dit.new import TRAINED, link_tree, read_own_note, write_note
from ..models.weights.bridges import use_of
from ..models.weights.files import read_safetensors, write_safetensors
from ..models.weights.find import ModelSet
from ..models.weights.listing import find_alignments, inspect
from ..pipeline import geometry_of
from .checkpoint import latest_checkpoint
from .config import TrainConfig
from .data import cut_timeline
from .exports import ALIGNMENT_FILE, BRIDGE_FILE, HALVES, forget_origin
from .lora import LORA, merge_lora
from .tasks import TRAINING_TASKS
from .tasks.base import Sides, Trained, TrainingTask
from .trainable import select, trained

EXPORT = "export"


@dataclass(frozen=True)
class Workbench:
    """Everything a run works with.

    Args:
        task: What is trained on what.
        step: The module that is trained.
        parameters: What learns, by name.
        video: Video parts where the run uses them.
        audio: Audio parts where the run uses them.
    """

    task: TrainingTask
    step: nn.Module
    parameters: dict[str, nn.Parameter]
    video: VideoParts | None
    audio: AudioParts | None

    @property
    def sides(self) -> Sides:
        """The parts of both sides."""
        return Pair.of(self)

    @property
    def geometry(self) -> LatentGeometry:
        """Strides and channels of the codecs."""
        return _geometry(self.sides)


def _geometry(sides: Sides) -> LatentGeometry:
    return geometry_of(*sides.map(lambda side: side.codec))


def build_workbench(config: TrainConfig, models: Path) -> Workbench:
    """Load what the task needs, in float32, and freeze all but the trainable set.

    Args:
        config: The run.
        models: Model folder, overlays applied.

    Raises:
        MissingModelError, WeightsError, InputError: see the messages.
    """
    task: TrainingTask = TRAINING_TASKS.get(config.task)(config)
    sides = task.load(models)
    step = task.make_step(sides, cut_timeline(config.data, _geometry(sides)))
    select(config.trainable, step, task.parts(step))
    for parameter in task.idle(step):
        parameter.requires_grad_(False)
    if config.precision == "pure-bf16":
        step.to(torch.bfloat16)
    return Workbench(task, step.train(), trained(step), *sides)


def write_export(
    folder: Path,
    bench: Workbench,
    state: Mapping[str, Tensor],
    batch_at: Callable[[int], Mapping[str, Tensor]],
) -> None:
    """Write the trained parts as a model folder holds them.

    Args:
        folder: Target.
        bench: The run's modules; they are left as they are.
        state: Trained tensors by name (averaged or not).
        batch_at: Tensors of one clip, by its place in the run, on the run's device.
    """
    bench.task.export(folder, Trained(bench.step, bench.sides, bench.parameters, state, batch_at))


def exported(run: str | Path) -> Path:
    """The export folder of a run's last checkpoint, of a checkpoint, or the folder itself if it is one.

    Raises:
        MissingModelError: nothing was exported there.
    """
    run = user_path(run)
    checkpoint = latest_checkpoint(run)
    for folder in (checkpoint and checkpoint / EXPORT, run / EXPORT, run if run.name == EXPORT else None):
        if folder and folder.is_dir():
            return folder
    raise MissingModelError(
        "this is not a training run with a checkpoint", got=run, expected="an output folder of `sounding-video train`"
    )


def assemble(base: str | Path, runs: tuple[str | Path, ...], target: Path) -> Path:
    """Copy a model folder and lay the trained parts of earlier runs over it.

    Args:
        base: ``pocket`` or a model folder.
        runs: Output folders of runs; a later one wins.
        target: New folder; replaced if it is there.

    Raises:
        InputError: an export that has no place in the base folder.
        IncompatibleWeightsError: a LoRA for another model.
    """
    found = find_model(base)
    partial = target.with_name(f".{target.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    if isinstance(found, FoundFolder):
        link_tree(found.path, partial)
        for run in runs:
            _overlay_parts(exported(run), partial)
    else:
        _copy_towers(found, partial)
        for run in runs:
            _overlay(exported(run), partial, Pair(found.video.name, found.audio.name))
    shutil.rmtree(target, ignore_errors=True)
    partial.replace(target)
    return target


def _copy_towers(found: ModelSet, partial: Path) -> None:
    for folder in (found.video, found.audio):
        if not isinstance(folder, Path):
            raise InputError(
                "trained parts can only be laid over diffusers folders",
                got=f"single files such as {folder.main}",
                expected="a folder with transformer, vae and text_encoder",
            )
        shutil.copytree(folder, partial / folder.name)
    for bridge in found.bridges:
        below = next((bridge.relative_to(root) for root in found.roots if root in bridge.parents), Path(bridge.name))
        (partial / below).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(bridge, partial / below)
    for root in found.roots:
        for alignment in find_alignments(root):
            below = partial / alignment.relative_to(root)
            below.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(alignment, below)


def _overlay_parts(export: Path, target: Path) -> None:
    """Lay the parts of a model that is one folder over it; its note says what was trained."""
    parts = sorted(folder for folder in export.iterdir() if (folder / "config.json").is_file())
    for part in parts:
        place = target / part.name
        if not place.is_dir():
            raise InputError("a trained part has no place in the model folder", got=part, expected=f"{place} to exist")
        shutil.rmtree(place)
        link_tree(part, place)
    said, learned = read_own_note(target), read_own_note(export).get(TRAINED, ())
    (target / MODEL_NOTE).unlink(missing_ok=True)  # it may be the other folder's own file
    write_note(target, said | {TRAINED: sorted({*said.get(TRAINED, ()), *learned})})


def _overlay(export: Path, target: Path, names: Pair[str]) -> None:
    for part in sorted(folder for folder in export.glob("*/*") if folder.is_dir()):
        place = target / part.parent.name / part.name
        if not place.is_dir():
            raise InputError("a trained part has no place in the model folder", got=part, expected=f"{place} to exist")
        if (part / HALVES).is_file():
            _overlay_halves(part, place)
        else:
            shutil.rmtree(place)
            shutil.copytree(part, place)
        forget_origin(place / "config.json")
    if (export / BRIDGE_FILE).is_file():
        _overlay_bridge(export / BRIDGE_FILE, target)
    if (export / ALIGNMENT_FILE).is_file():
        for old in target.glob("*.safetensors"):
            if inspect(old).is_alignment:
                old.unlink()
        shutil.copy2(export / ALIGNMENT_FILE, target / ALIGNMENT_FILE)
    for adapter in sorted(export.glob(f"*{LORA}")):
        name = names.present.get(adapter.name.removesuffix(LORA))
        if name is None:
            raise InputError(
                "this LoRA cannot be laid over a model folder: which bridges it belongs to is not known there",
                got=adapter,
                expected="LoRAs of towers",
                remedy=f"Generate with the bridges it was trained on and --lora {adapter}.",
            )
        merge_lora(adapter, target / name / "transformer")


def _overlay_bridge(bridge: Path, target: Path) -> None:
    """Lay over a bridge file; those that were trained for something else stay beside it, each task under its name."""
    task = _task_of(bridge)
    for old in target.glob("*.safetensors"):
        if not inspect(old).is_alignment and _task_of(old) == task:
            old.unlink()
    name = bridge.name if task == "joint" else f"{bridge.stem}_{task}{bridge.suffix}"
    shutil.copy2(bridge, target / name)


def _task_of(bridge: Path) -> str:
    use = use_of(bridge)
    return "joint" if use is None else use.task


def _overlay_halves(part: Path, place: Path) -> None:
    """Lay over the trained half and keep the other, whichever run that is from."""
    prefixes = tuple(read_json(part / HALVES, what="the note of the trained half"))
    (file,) = part.glob("*.safetensors")
    tensors, notes = read_safetensors(place / file.name)
    trained = {name: tensor for name, tensor in read_safetensors(file)[0].items() if name.startswith(prefixes)}
    write_safetensors(place / file.name, tensors | trained, notes)
    shutil.copy2(part / "config.json", place / "config.json")
