"""From a configuration to modules: load the models, lay earlier runs over them, make bridges; and write what learned.

A run's checkpoint holds ``export/``: the parts it trained, under the paths they have in a model folder
(``wan/vae``, ``stable_audio/transformer``, ``bridge.safetensors``). :func:`assemble` lays such trees over a folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, AutoencoderOobleck
from torch import Tensor, nn

from ..core.clock import LatentGeometry
from ..core.device import Placement
from ..core.errors import InputError, MissingModelError
from ..models.bridges import BRIDGES
from ..models.joint import BridgePoints, BridgeStack, JointModel
from ..models.parts import AudioParts, VideoParts
from ..models.rope import on_clock
from ..models.towers.base import TokenGrid
from ..models.weights.bridges import load_bridges, save_bridges
from ..models.weights.files import read_safetensors, write_safetensors
from ..models.weights.find import find_models
from ..models.weights.load import load_stable_audio, load_wan
from ..pipeline import geometry_of
from .checkpoint import latest_checkpoint
from .config import TrainConfig
from .data import cut_timeline
from .randomness import derived_seed
from .step import AudioCodecStep, JointStep, VideoCodecStep
from .trainable import select, trained_halves, tuned_tower_blocks

EXPORT = "export"
# In the export of a codec of which only a half was trained: the prefixes of the tensors that are to be laid over.
HALVES = "trained_halves.json"
LOADING = Placement(device=torch.device("cpu"), dtype=torch.float32)


@dataclass(frozen=True)
class Workbench:
    """Everything a run works with.

    Args:
        step: The module that is trained.
        parameters: What learns, by name.
        video: Video parts where the run uses them.
        audio: Audio parts where the run uses them.
    """

    step: nn.Module
    parameters: dict[str, nn.Parameter]
    video: VideoParts | None
    audio: AudioParts | None

    @property
    def geometry(self) -> LatentGeometry:
        """Strides and channels of the codecs."""
        return _geometry(self.video, self.audio)


def _geometry(video: VideoParts | None, audio: AudioParts | None) -> LatentGeometry:
    return geometry_of(video and video.codec, audio and audio.codec)


def build_workbench(config: TrainConfig, models: Path) -> Workbench:
    """Load what the task needs, in float32, and freeze all but the trainable set.

    Args:
        config: The run.
        models: Model folder, overlays applied.

    Raises:
        MissingModelError, WeightsError, InputError: see the messages.
    """
    found = find_models(models)
    video = load_wan(found.video, LOADING, text_length=config.models.text_length) if config.uses_video else None
    audio = load_stable_audio(found.audio, LOADING) if config.uses_audio else None
    if video is not None and config.task == "video_codec":
        step = VideoCodecStep(video.codec.vae, config.objective, config.precision)
    elif audio is not None and config.task == "audio_codec":
        step = AudioCodecStep(audio.codec.vae, config.objective, config.precision)
    else:
        bridges = _bridges(config, video, audio) if config.task == "joint" else None
        joint = JointModel(video and video.tower, audio and audio.tower, bridges)
        times = cut_timeline(config.data, _geometry(video, audio)).times
        step = JointStep(joint, config.objective, config.precision, times)
        for tower in filter(None, (joint.video, joint.audio)):
            if config.models.gradient_checkpointing:
                tower.model.enable_gradient_checkpointing()
            if config.models.compile:
                for block in tower.blocks:
                    block.compile()
    parameters = select(config, step)
    if config.precision == "pure-bf16":
        step.to(torch.bfloat16)
    return Workbench(step.train(), parameters, video, audio)


def _bridges(run: TrainConfig, video: VideoParts, audio: AudioParts) -> BridgeStack:
    """New bridges, which are the identity, or those of a file."""
    config = run.bridges
    if config.start:
        return load_bridges(config.start).stack.float()
    settings = (
        BRIDGES.get(config.kind)
        .Config(
            video_width=video.tower.width,
            audio_width=audio.tower.width,
            qk_width=config.qk_width,
            v_width=config.qk_width,
            num_heads=config.num_heads,
            video_time_width=video.tower.time_width,
            audio_time_width=audio.tower.time_width,
            reading=config.reading,
            rope=config.rope,
        )
        .with_settings(config.settings)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(run.seed, "bridges"))
        stack = BridgeStack(config.kind, settings, BridgePoints(config.video_points, config.audio_points))
    timeline = cut_timeline(run.data, _geometry(video, audio))
    grids = (TokenGrid(timeline.video_latent_shape[1]), TokenGrid(timeline.audio_latent_shape[1]))
    grids = on_clock(*grids, timeline.times)
    for bridge in stack:
        if config.gate_bias:
            bridge.open_gates(config.gate_bias)
        if config.moment_bias:
            bridge.look_at_one_moment(config.moment_bias, *grids)
    return stack


def write_export(
    folder: Path, config: TrainConfig, bench: Workbench, state: Mapping[str, Tensor], samples: Iterable[Tensor] = ()
) -> None:
    """Write the trained parts as a model folder holds them.

    Args:
        folder: Target.
        config: The run.
        bench: Its modules; they are left as they are.
        state: Trained tensors by name (averaged or not).
        samples: For a codec: ``(B, 3, F, H, W)`` in -1..1, or ``(B, 2, samples)``, of which the latents' statistics
            are taken.
    """
    step, parts = bench.step, bench.video or bench.audio
    if config.task == "joint":
        _write_bridges(folder / "bridge.safetensors", config, step.joint, state)
        return
    is_codec = config.task.endswith("codec")
    module = step.vae if is_codec else (step.joint.video or step.joint.audio).model
    with _holding(bench.parameters, state):
        if "video_codec" in config.trainable:
            mean, std = latent_statistics(step.vae, samples)
            module.register_to_config(latents_mean=mean, latents_std=std)
        elif config.task == "audio_codec" and config.objective.codes == "learned" and "audio_codec" in config.trainable:
            rescale_latents(step.vae, latent_statistics(step.vae, samples)[1])
        target = folder / parts.name / ("vae" if is_codec else "transformer")
        module.save_pretrained(target, safe_serialization=True)
    _forget_origin(target / "config.json")
    halves = trained_halves(config)
    if halves:
        (target / HALVES).write_text(json.dumps(halves) + "\n", encoding="utf-8")


def _forget_origin(path: Path) -> None:
    """Take out the folder that the part was loaded from, which diffusers notes and nobody else has."""
    values = json.loads(path.read_text(encoding="utf-8"))
    values.pop("_name_or_path", None)
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def _holding(parameters: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]) -> Iterator[None]:
    """For a while the parameters have other values."""
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        _copy(parameters, state)
        yield
    finally:
        _copy(parameters, before)


@torch.no_grad()
def _copy(parameters: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(state[name])


@torch.no_grad()
def latent_statistics(
    vae: AutoencoderKLWan | AutoencoderOobleck, samples: Iterable[Tensor]
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of every latent channel, as Wan's ``vae/config.json`` states them."""
    means, variances = [], []
    for batch in samples:
        posterior = vae.encode(batch).latent_dist
        means.append(posterior.mean.float().cpu().transpose(0, 1).flatten(1))
        variances.append(posterior.std.float().square().cpu().transpose(0, 1).flatten(1))
    mean, within = torch.cat(means, 1), torch.cat(variances, 1)
    # What towers see is drawn from the posterior, so its own variance counts.
    std = (mean.var(1) + within.mean(1)).sqrt().clamp_min(1e-4)
    return mean.mean(1).tolist(), std.tolist()


@torch.no_grad()
def rescale_latents(vae: AutoencoderOobleck, std: list[float]) -> None:
    """Give every latent channel a deviation of one, inside the weights: Stable Audio has no place for statistics.

    The posterior's mean and the decoder stay exact inverses of what they were; its deviation (a softplus) does so as
    far as it is small.

    Args:
        vae: Changed in place: the encoder's last convolution and the decoder's first one.
        std: Measured, one a channel.
    """
    deviation = torch.tensor(std, device=vae.device)
    last, first, channels = vae.encoder.conv2, vae.decoder.conv1, len(std)
    last.weight_g[:channels] /= deviation[:, None, None]
    last.bias[:channels] /= deviation
    last.bias[channels:] -= deviation.log()
    weight = torch._weight_norm(first.weight_v, first.weight_g, 0) * deviation[None, :, None]
    first.weight_v.copy_(weight)
    first.weight_g.copy_(weight.norm(dim=(1, 2), keepdim=True))


def _write_bridges(path: Path, config: TrainConfig, joint: JointModel, state: Mapping[str, Tensor]) -> None:
    towers = {"video": joint.video, "audio": joint.audio}
    tuned: dict[str, dict[str, Tensor]] = {}
    for modality, blocks in tuned_tower_blocks(config, joint).items():
        tower, prefix = towers[modality], f"joint.{modality}.model."
        names = tuple(f"{tower.block_names}.{index}." for index in blocks)
        tuned[modality] = {
            name: state.get(prefix + name, parameter)
            for name, parameter in tower.model.named_parameters()
            if name.startswith(names)
        }
    stack = BridgeStack(joint.bridges.kind, joint.bridges.config, joint.bridges.points)
    own = {name: state.get(f"joint.bridges.{name}", tensor) for name, tensor in joint.bridges.state_dict().items()}
    stack.load_state_dict(own)
    training = json.dumps(_without_folders(config.as_dict()))
    notes = {"recipe": config.recipe, "training": training, "training_hash": config.hash}
    save_bridges(path, stack, tower_weights=tuned, notes=notes)


def _without_folders(value: Any) -> Any:
    """Settings as a file that is passed on may tell them: of an absolute path only the last name."""
    if isinstance(value, dict):
        return {key: _without_folders(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(part) for part in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def exported(run: str | Path) -> Path:
    """The export folder of a run's last checkpoint, of a checkpoint, or the folder itself if it is one.

    Raises:
        MissingModelError: nothing was exported there.
    """
    run = Path(run).expanduser()
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
    """
    found = find_models(base)
    partial = target.with_name(f".{target.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    for folder in (found.video, found.audio):
        if not isinstance(folder, Path):
            raise InputError(
                "trained parts can only be laid over diffusers folders",
                got=f"single files such as {folder.main}",
                expected="a folder with transformer, vae and text_encoder",
            )
        shutil.copytree(folder, partial / folder.name)
    if found.bridge is not None:
        shutil.copy2(found.bridge, partial / found.bridge.name)
    for run in runs:
        _overlay(exported(run), partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.replace(target)
    return target


def _overlay(export: Path, target: Path) -> None:
    for part in sorted(export.glob("*/*")):
        place = target / part.parent.name / part.name
        if not place.is_dir():
            raise InputError("a trained part has no place in the model folder", got=part, expected=f"{place} to exist")
        if (part / HALVES).is_file():
            _overlay_halves(part, place)
        else:
            shutil.rmtree(place)
            shutil.copytree(part, place)
        _forget_origin(place / "config.json")
    bridge = export / "bridge.safetensors"
    if bridge.is_file():
        for old in target.glob("*.safetensors"):
            old.unlink()
        shutil.copy2(bridge, target / bridge.name)


def _overlay_halves(part: Path, place: Path) -> None:
    """Lay over the trained half and keep the other, whichever run that is from."""
    prefixes = tuple(json.loads((part / HALVES).read_text(encoding="utf-8")))
    (file,) = part.glob("*.safetensors")
    tensors, notes = read_safetensors(place / file.name)
    trained = {name: tensor for name, tensor in read_safetensors(file)[0].items() if name.startswith(prefixes)}
    write_safetensors(place / file.name, tensors | trained, notes)
    shutil.copy2(part / "config.json", place / "config.json")
