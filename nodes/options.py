"""Inputs of nodes from the options that are declared in the stages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..core.options import Setting, settings_of
from ..sampling.options import SamplingOptions
from .host import io
from .listing import ADVANCED

SAMPLING = settings_of(SamplingOptions)
# Inputs that stand among others in the order that saved workflows know; every later option is appended.
PLACED = (
    "seed",
    "num_steps",
    "video_guidance_scale",
    "audio_guidance_scale",
    "schedule",
    "flow_sigmas",
    "guidance_batching",
    "flow_shift",
    "video_modality_scale",
    "audio_modality_scale",
)


def input_of(name: str, *, optional: bool = False, tooltip: str = "") -> io.Input:
    """One option as an input.

    Args:
        name: Of the field.
        optional: Whether older workflows lack it.
        tooltip: Another text than the option's own.
    """
    setting = SAMPLING[name]
    settings: dict[str, Any] = {"default": setting.default, "tooltip": tooltip or setting.option.text}
    if optional:
        settings["optional"] = True
    if setting.option.advanced:
        settings |= ADVANCED
    return _made(setting, settings)


def _made(setting: Setting, settings: dict[str, Any]) -> io.Input:
    declared = setting.option
    if declared.choices is not None:
        return io.Combo.Input(setting.port, options=list(declared.choices()), **settings)
    if setting.is_switch:
        return io.Boolean.Input(setting.port, **settings)
    settings |= {"min": declared.low, "max": declared.high}
    if isinstance(setting.default, int):
        if setting.name == "seed":
            settings["control_after_generate"] = True
        return io.Int.Input(setting.port, **settings)
    return io.Float.Input(setting.port, step=declared.step, **settings)


def later_inputs(left_out: Iterable[str] = ()) -> list[io.Input]:
    """Every option that has no place of its own, to be appended."""
    return [input_of(name, optional=True) for name in SAMPLING if name not in PLACED and name not in left_out]


def sampling_options(given: dict[str, Any], **others: Any) -> SamplingOptions:
    """The options from a node's inputs, by their names there; inputs that are no option are refused by name."""
    fields = {setting.port: name for name, setting in SAMPLING.items()}
    return SamplingOptions(**{fields.get(port, port): value for port, value in given.items()}, **others)
