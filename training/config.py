"""A run is one frozen value: made by a recipe, changed by ``key=value``, kept as JSON beside what it produced."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..core.clock import MAX_FRAMES, MAX_SIDE
from ..core.errors import InputError, require_choice
from ..core.json_text import plain
from ..core.options import Bounds, shown
from ..core.rates import as_fps
from ..models.alignment.masks import MASKS
from ..models.alignment.readers import READERS
from ..models.alignment.selective import MASK_INPUTS, MOST_SIZE
from ..sampling.words import MAX_FLOW_SHIFT, MIN_FLOW_SHIFT
from .pairing import PAIRINGS
from .sections import (
    AlignmentSection,
    BridgesConfig,
    DataConfig,
    ModelsConfig,
    ObjectiveConfig,
    OptimizerConfig,
    SavingConfig,
)
from .tasks import TRAINING_TASKS

T = TypeVar("T")
# How the times of what is made are drawn, and those of a given side.
TIME_DRAWS, GIVEN_DRAWS = ("uniform", "sobol-bf16", "logit-normal"), ("fixed", "uniform")
PRECISIONS = ("float32", "bf16", "pure-bf16")
MODEL_FORMS = ("pocket", "published")  # of PAV-DiT
# No count, and no step of an optimizer, is larger.
_MOST = 1_000_000_000
_NUMBERS = {int: Bounds("number", -(2**63), 2**63 - 1), float: Bounds("number", -1e30, 1e30, whole=False)}
# Fields that are younger than runs that people have: at these values they stay out of the hash.
YOUNGER: Mapping[str, Any] = {
    "bridges.settings": [],
    "bridges.start_rope": "",
    "objective.logit_mean": 1.0,
    "objective.logit_std": 1.0,
    "objective.least_audio_time": 0.0,
    "objective.given_video_time": 0.04,
    "objective.given_audio_time": 0.156,
    "objective.given_draw": "fixed",
    "objective.generated_text_dropout": 0.5,
    "objective.given_text_dropout": 0.2,
    "objective.drop_together": False,
    "objective.pairing": "independent",
    "objective.modality_dropout": 0.0,
    "objective.critic_weight": 1.0,
    "objective.feature_weight": 4.0,
    "objective.critic_start": 0,
    "objective.critic_channels": 64,
    "models.form": "pocket",
    **{f"alignment.{field.name}": field.default for field in dataclasses.fields(AlignmentSection)},
}
# Sections and fields that may change between a run and its continuation: they do not touch the numbers.
NOT_HASHED = ("saving", "device", "models.compile", "data.cache", "data.workers", "data.keep_media")


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Args:
        recipe: The recipe's name.
        task: What is trained on what, a key of :mod:`.tasks`.
        trainable: Named parts: see :mod:`.trainable`.
        num_steps: Optimizer steps.
        batch_size: Clips a process and micro-step.
        accumulation: Micro-steps an optimizer step.
        precision: ``float32``; ``bf16``: autocast over float32 weights; ``pure-bf16``: bfloat16 weights and moments.
        seed: Start of all randomness of the run.
        device: ``auto`` (what accelerate picks) or ``cpu``.
    """

    recipe: str
    task: str
    trainable: tuple[str, ...]
    num_steps: int = 15_000
    batch_size: int = 1
    accumulation: int = 1
    precision: str = "bf16"
    seed: int = 0
    device: str = "auto"
    models: ModelsConfig = field(default_factory=ModelsConfig)
    bridges: BridgesConfig = field(default_factory=BridgesConfig)
    alignment: AlignmentSection = field(default_factory=AlignmentSection)
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    saving: SavingConfig = field(default_factory=SavingConfig)

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("task", self.task, TRAINING_TASKS.names()),
            ("precision", self.precision, PRECISIONS),
            ("device", self.device, ("auto", "cpu")),
            ("objective.timestep", self.objective.timestep, ("paper", "official")),
            ("objective.times", self.objective.times, ("shared", "lockstep", "flow")),
            ("objective.draw", self.objective.draw, TIME_DRAWS),
            ("objective.given_draw", self.objective.given_draw, GIVEN_DRAWS),
            ("objective.pairing", self.objective.pairing, PAIRINGS),
            ("objective.codes", self.objective.codes, ("learned", "cepstral")),
            ("models.form", self.models.form, MODEL_FORMS),
            ("alignment.mask", self.alignment.mask, MASKS.names()),
            ("alignment.mask_input", self.alignment.mask_input, MASK_INPUTS),
            ("alignment.inject", self.alignment.inject, READERS),
            ("optimizer.decay", self.optimizer.decay, ("cosine", "constant")),
            ("data.crop", self.data.crop, ("random", "head")),
            ("data.short", self.data.short, ("pad", "loop")),
            ("data.sound_latents", self.data.sound_latents, ("encoded", "cepstral")),
            ("data.posterior", self.data.posterior, ("sample", "mode")),
        ):
            require_choice(name, value, choices)
        _require_ranges(self)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return plain(dataclasses.asdict(self))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Read :meth:`as_dict`'s values back.

        Raises:
            InputError: an unknown key, or a value of the wrong type.
        """
        return _from_dict(cls, values, "")

    def override(self, assignments: Iterable[str]) -> TrainConfig:
        """The same run with some values changed.

        Args:
            assignments: ``key=value`` with dotted names, such as ``optimizer.lr=1e-4`` or ``trainable=bridges``;
                lists are separated by commas.

        Raises:
            InputError: no ``=``, an unknown key, or a value of the wrong type.
        """
        values = self.as_dict()
        for assignment in assignments:
            key, equals, text = assignment.partition("=")
            if not equals:
                raise InputError("an override has no value", got=repr(assignment), expected="key=value")
            _assign(values, key, text)
        return TrainConfig.from_dict(values)

    @property
    def hash(self) -> str:
        """Twelve hex digits over everything that decides the run's numbers."""
        text = json.dumps(_hashed_values(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def differences(self, other: TrainConfig) -> list[str]:
        """Keys of hashed values that differ, as ``key: ours, theirs``."""
        ours, theirs = _hashed_values(self), _hashed_values(other)
        keys = [*ours, *(key for key in theirs if key not in ours)]
        each = {key: [values.get(key, YOUNGER.get(key)) for values in (ours, theirs)] for key in keys}
        return [f"{key}: {mine}, {other}" for key, (mine, other) in each.items() if mine != other]


def _hashed_values(config: TrainConfig) -> dict[str, Any]:
    flat = _flatten(config.as_dict())
    flat = {k: v for k, v in flat.items() if not (k in YOUNGER and v == YOUNGER[k])}
    return {k: v for k, v in flat.items() if not any(k == name or k.startswith(f"{name}.") for name in NOT_HASHED)}


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _require_ranges(config: TrainConfig) -> None:
    optimizer, objective, saving = config.optimizer, config.objective, config.saving
    for name, value, low, high in (
        ("num_steps", config.num_steps, 1, None),
        ("batch_size", config.batch_size, 1, None),
        ("accumulation", config.accumulation, 1, None),
        ("data.width", config.data.width, 1, MAX_SIDE),
        ("data.height", config.data.height, 1, MAX_SIDE),
        ("data.num_frames", config.data.num_frames, 1, MAX_FRAMES),
        ("data.clip_frames", config.data.clip_frames, 0, MAX_FRAMES),
        ("data.looks", config.data.looks, 0, None),
        ("data.num_clips", config.data.num_clips, 0, None),
        ("data.expanded_share", config.data.expanded_share, 0, 1),
        ("data.crop_size", config.data.crop_size, 0, min(config.data.width, config.data.height)),
        ("data.varied_share", config.data.varied_share, 0, 1),
        ("data.crops_per_clip", config.data.crops_per_clip, 1, None),
        ("data.workers", config.data.workers, 0, None),
        ("objective.video_text_dropout", objective.video_text_dropout, 0, 1),
        ("objective.audio_text_dropout", objective.audio_text_dropout, 0, 1),
        ("objective.logit_mean", objective.logit_mean, -20, 20),
        ("objective.logit_std", objective.logit_std, 0, 20),
        ("objective.least_audio_time", objective.least_audio_time, 0, 1),
        ("objective.given_video_time", objective.given_video_time, 0, 1),
        ("objective.given_audio_time", objective.given_audio_time, 0, 1),
        ("objective.generated_text_dropout", objective.generated_text_dropout, 0, 1),
        ("objective.given_text_dropout", objective.given_text_dropout, 0, 1),
        ("objective.modality_dropout", objective.modality_dropout, 0, 1),
        ("objective.critic_weight", objective.critic_weight, 0, None),
        ("objective.feature_weight", objective.feature_weight, 0, None),
        ("objective.critic_start", objective.critic_start, 0, None),
        ("objective.critic_channels", objective.critic_channels, 1, 1024),
        ("objective.flow_shift", objective.flow_shift, MIN_FLOW_SHIFT, MAX_FLOW_SHIFT),
        ("bridges.moment_bias", config.bridges.moment_bias, 0, None),
        *_alignment_ranges(config.alignment),
        ("optimizer.lr", optimizer.lr, 0, None),
        ("optimizer.warmup_steps", optimizer.warmup_steps, 0, None),
        ("optimizer.max_grad_norm", optimizer.max_grad_norm, 0, None),
        ("optimizer.ema_decay", optimizer.ema_decay, 0, 0.999999),
        ("saving.every", saving.every, 1, None),
        ("saving.keep", saving.keep, 1, None),
        ("saving.log_every", saving.log_every, 1, None),
    ):
        if not low <= value <= (_MOST if high is None else high):
            bounds = f"at least {low}" if high is None else f"{low} to {high}"
            bounds = f"at most {_MOST}" if high is None and value > _MOST else bounds
            raise InputError(f"{name} is out of range", got=value, expected=bounds)
    as_fps(config.data.fps)
    if len(optimizer.betas) != 2:
        raise InputError("optimizer.betas is not a pair", got=optimizer.betas, expected="two numbers such as 0.9,0.95")
    if not config.trainable:
        raise InputError("nothing is to be trained", expected="at least one part in trainable, such as bridges")


def _alignment_ranges(alignment: AlignmentSection) -> Iterable[tuple[str, float, float, float | None]]:
    """Name, value, least and most of each number of the section."""
    return (
        ("alignment.width", alignment.width, 1, MOST_SIZE),
        ("alignment.hidden", alignment.hidden, 1, MOST_SIZE),
        ("alignment.grid", alignment.grid, 1, MOST_SIZE),
        ("alignment.positions", alignment.positions, 1, MOST_SIZE),
        ("alignment.segment", alignment.segment, 1, MOST_SIZE),
        ("alignment.sparsity", alignment.sparsity, 0, None),
        ("alignment.pull", alignment.pull, 0, None),
        ("alignment.condition_noise", alignment.condition_noise, 0, 100),
        ("alignment.condition_dropout", alignment.condition_dropout, 0, 1),
        ("alignment.text_dropout", alignment.text_dropout, 0, 1),
    )


# Asked for every value that is read; what a class says of its fields does not change.
_hints = functools.cache(typing.get_type_hints)


def _from_dict(cls: type[T], values: Mapping[str, Any], prefix: str) -> T:
    if not isinstance(values, Mapping):
        raise InputError(
            "this is no training configuration", got=shown(values), expected="a JSON object as --print-config prints it"
        )
    hints = _hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]
    unknown = sorted(map(str, set(values) - set(names)))
    if unknown:
        raise InputError(
            "unknown key in a training configuration",
            got=", ".join(prefix + name for name in unknown),
            expected="one of " + ", ".join(prefix + name for name in names),
        )
    read = {}
    for name, value in values.items():
        kind = hints[name]
        if dataclasses.is_dataclass(kind):
            if not isinstance(value, Mapping):
                raise InputError(f"{prefix}{name} is a section", got=shown(value), expected="keys below it")
            read[name] = _from_dict(kind, value, f"{prefix}{name}.")
        else:
            read[name] = _typed(kind, value, prefix + name)
    needed = {f.name for f in dataclasses.fields(cls) if _is_needed(f)}
    if needed - set(read):
        raise InputError(
            "keys are missing in a training configuration", got=f"no {', '.join(sorted(needed - set(read)))}"
        )
    return cls(**read)


def _is_needed(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _typed(kind: Any, value: Any, key: str) -> Any:
    """A JSON value as the field's type; nothing is guessed: text stays text, only whole numbers become floats."""
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        if isinstance(value, (list, tuple)):
            return tuple(_typed(inner, item, key) for item in value)
    elif (kind in _NUMBERS and _NUMBERS[kind].holds(value)) or (kind in (bool, str) and isinstance(value, kind)):
        return float(value) if kind is float else value
    raise InputError(f"{key} has the wrong type", got=shown(value), expected=_type_name(kind))


def _type_name(kind: Any) -> str:
    return str(kind) if isinstance(kind, types.GenericAlias) else kind.__name__


def _assign(values: dict[str, Any], key: str, text: str) -> None:
    """Set one dotted key in a configuration's plain values, reading the text as the field's type."""
    parts = key.split(".")
    cls: Any = TrainConfig
    section, kind = values, None
    for depth, part in enumerate(parts):
        hints = _hints(cls) if dataclasses.is_dataclass(cls) else {}
        if part not in hints:
            prefix = ".".join([*parts[:depth], ""])
            choices = ", ".join(prefix + name for name in hints) or "nothing below " + prefix.rstrip(".")
            raise InputError("unknown key in a training configuration", got=key, expected="one of " + choices)
        kind = hints[part]
        if depth < len(parts) - 1:
            section, cls = section[part], kind
    if dataclasses.is_dataclass(kind):
        names = ", ".join(f"{key}.{f.name}" for f in dataclasses.fields(kind))
        raise InputError(f"{key} is a section", got=f"{key}={text}", expected=f"one of {names}")
    section[parts[-1]] = _parse(kind, text, key)


def _parse(kind: Any, text: str, key: str) -> Any:
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        return [_parse(inner, part.strip(), key) for part in text.split(",")] if text.strip() else []
    if kind is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
    elif kind is str:
        return text
    else:
        with contextlib.suppress(InputError):
            return _NUMBERS[kind].read(text)
    raise InputError(f"{key} has the wrong type", got=repr(text), expected=_type_name(kind))
