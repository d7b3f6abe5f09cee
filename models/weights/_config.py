"""The configuration of a model part in a diffusers folder: read by ourselves, and held against the weights' header.

The libraries build whatever a configuration says: a million layers, a table of positions of a terabyte, a kernel from a
hub. Here its values must be of the kinds that the class has, and its module, made on ``meta``, of the header's sizes.
"""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ...core.disk import is_file
from ...core.errors import CorruptWeightsError, IncompatibleWeightsError, UnsafeWeightsError
from ...core.json_text import read_json
from ..plan.kept_costs import look_once
from ._limits import outlined
from ._weight_file import WeightFile

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
CONFIG, ADAPTER = "config.json", "adapter_config.json"
# What may name code: classes in files beside the weights, and kernels on a hub, which are called "owner/name".
CODE_KEYS = ("auto_map", "custom_pipelines", "trust_remote_code")
KERNEL_KEYS = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal", "experts_implementation")
PACKED_KEY = "quantization_config"
# Larger than any size of a model, and longer than any list of sizes.
MOST, MOST_ITEMS = 1 << 24, 4096
# Transformers makes a name for each.
MOST_LABELS = 1000
TEXTS = ("_class_name", "model_type", "dtype", "torch_dtype")
# Numbers that the file's tensors may exceed by what a configuration adds: tied tables under two names.
FACTOR, SPARE = 2, 1 << 20
_REMEDY = "Put the model's own config.json back beside the weights."


def part_outline(model_class: Any, where: Path, file: WeightFile) -> tuple[Callable[[], nn.Module], nn.Module]:
    """How to make the module of a part, and the module on ``meta``.

    Args:
        model_class: Of diffusers or transformers.
        where: The part's folder.
        file: Its weights.

    Raises:
        CorruptWeightsError, UnsafeWeightsError, IncompatibleWeightsError: see the messages.
    """
    make = configured(model_class, read_config(model_class, where))
    outline = outlined(make, len(file.infos), where)
    _require_sizes(outline, _shapes(file), where)
    return make, outline


def require_part(model_class: Any, where: Path, file: WeightFile) -> None:
    """Look at a part as :func:`part_outline` does; what was found good before is not made again.

    Raises:
        CorruptWeightsError, UnsafeWeightsError, IncompatibleWeightsError: see the messages.
    """
    config, shapes = read_config(model_class, where), _shapes(file)

    def look() -> None:
        _require_sizes(outlined(configured(model_class, config), len(shapes), where), shapes, where)

    look_once(look, "part", model_class, config, shapes)


def _shapes(file: WeightFile) -> Shapes:
    return tuple((name, info.shape) for name, info in file.infos.items())


def _require_sizes(outline: nn.Module, shapes: Shapes, where: Path) -> None:
    own, found = dict(outline.named_parameters()), dict(shapes)
    wrong = [
        f"{name} {tuple(parameter.shape)} instead of {found[name]}"
        for name, parameter in own.items()
        if name in found and tuple(parameter.shape) != found[name]
    ]
    if wrong:
        raise _misfit(where, f"{len(wrong)} misshapen ({', '.join(wrong[:3])})")
    asked = sum(parameter.numel() for parameter in own.values())
    there = sum(math.prod(shape) for shape in found.values())
    if asked > FACTOR * there + SPARE:
        raise _misfit(where, f"{asked} numbers for a file of {there}")


def configured(model_class: Any, config: dict[str, Any]) -> Callable[[], nn.Module]:
    """Makes a module of a class of either library from a configuration that was read."""
    if hasattr(model_class, "from_config"):
        return lambda: model_class.from_config(dict(config))
    return lambda: model_class(model_class.config_class.from_dict(dict(config)))


def read_config(model_class: Any, where: Path) -> dict[str, Any]:
    """A part's configuration, every value of which is of the kind that the class has.

    Raises:
        CorruptWeightsError: no JSON object, or a value that cannot be.
        UnsafeWeightsError: it names code.
        IncompatibleWeightsError: it is another class's, or of packed weights.
    """
    path = where / CONFIG
    config = read_json(path, what="the configuration of a model part", error=CorruptWeightsError, remedy=_REMEDY)
    if not isinstance(config, dict):
        raise _odd(path, f"it is a {type(config).__name__}")
    refuse_code(config, path)
    if config.get(PACKED_KEY) is not None or is_file(where / ADAPTER):
        raise IncompatibleWeightsError(
            "the weights are not a model of their own",
            got=f"{path} with {PACKED_KEY}" if config.get(PACKED_KEY) is not None else where / ADAPTER,
            expected="plain weights",
            remedy="Get the whole model unpacked; --storage packs it after loading, and --lora adds an adapter.",
        )
    for name in TEXTS:
        if config.get(name) is not None and not isinstance(config[name], str):
            raise _odd(path, f"{name} is {_shown(config[name])}")
    _require_class(model_class, config, path)
    for name, (default, hint) in _known(model_class).items():
        problem = _problem(name, config[name], default, hint) if name in config else ""
        if problem:
            raise _odd(path, f"{name} is {_shown(config[name])}; it should be {problem}")
    activation = str(config.get("feed_forward_proj") or "relu").rpartition("-")[2]
    if not hasattr(model_class, "from_config") and activation not in _activations():
        raise _odd(path, f"feed_forward_proj is {_shown(config['feed_forward_proj'])}")
    labels = config.get("num_labels", 0)
    if type(labels) is not int or not 0 <= labels <= MOST_LABELS:
        raise _odd(path, f"num_labels is {_shown(labels)}")
    return config


def refuse_code(config: Any, path: Path) -> None:
    """Refuse a configuration that names code beside the weights or on a hub, however deep in it.

    Raises:
        UnsafeWeightsError: it does.
    """
    for key, value in _entries(config):
        names_code = key in CODE_KEYS and value not in (None, False, {}, [])
        names_kernel = key in KERNEL_KEYS and isinstance(value, str) and any(sign in value for sign in "/:@|")
        if names_code or names_kernel:
            raise UnsafeWeightsError(
                "the configuration names code to run, so the model was not loaded",
                got=f"{path} with {key} {_shown(value)}",
                expected="a model of classes that the libraries have",
                remedy="Code that comes with weights is never run. Get the model in its plain form.",
            )


def _entries(config: Any) -> Iterator[tuple[str, Any]]:
    waiting = [config]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, dict):
            yield from inner.items()
        waiting += inner.values() if isinstance(inner, dict) else inner if isinstance(inner, list) else ()


def _require_class(model_class: Any, config: Mapping[str, Any], path: Path) -> None:
    if hasattr(model_class, "from_config"):
        key, wanted = "_class_name", model_class.__name__
    else:
        key, wanted = "model_type", model_class.config_class.model_type
    if config.get(key, wanted) != wanted:
        raise IncompatibleWeightsError(
            "the configuration is another model's", got=f"{config[key]!r:.80} in {path}", expected=wanted
        )


def _activations() -> Collection[str]:
    from transformers.activations import ACT2FN

    return ACT2FN


def _known(model_class: Any) -> dict[str, tuple[Any, Any]]:
    """Each setting's default, or ``inspect.Parameter.empty``, and its annotation or None."""
    if not hasattr(model_class, "from_config"):
        return {name: (default, None) for name, default in model_class.config_class().to_dict().items()}
    function = inspect.unwrap(model_class.__init__)
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):  # names that the library imports for checkers only
        hints = {}
    parameters = [one for one in inspect.signature(function).parameters.values() if one.name != "self"]
    return {one.name: (one.default, hints.get(one.name)) for one in parameters}


def _problem(name: str, value: Any, default: Any, hint: Any) -> str:
    """What a value should be, where it is something else; empty where it may be so."""
    if name.endswith("_token_id") or (value is None and default is None):
        return "" if _is_id(value) else "the number of a token"
    if isinstance(default, list | tuple):
        return _list_problem(name, value, default)
    if isinstance(default, dict):
        return "" if isinstance(value, dict) and len(value) <= MOST_ITEMS else "an object"
    if default is None:
        return _optional_problem(name, value, hint)
    if default is inspect.Parameter.empty:
        return _number_problem(name, value)
    if isinstance(default, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(default, int):
        least = min(1, default)
        is_size = type(value) is int and least <= value <= MOST
        return "" if is_size or value is None else f"a whole number from {least}"
    if isinstance(default, float):
        return _number_problem(name, value)
    return "" if isinstance(value, str) or value is None else "a text"


def _optional_problem(name: str, value: Any, hint: Any) -> str:
    kinds = typing.get_args(hint)
    if int in kinds:
        return _problem(name, value, 1, None)
    if isinstance(value, list):
        return "" if len(value) <= MOST_ITEMS else "a shorter list"
    return "" if not isinstance(value, float) or math.isfinite(value) else "a finite number"


def _list_problem(name: str, value: Any, default: list[Any] | tuple[Any, ...]) -> str:
    if not isinstance(value, list) or len(value) > MOST_ITEMS:
        return "a list"
    if isinstance(default, tuple) and default and len(value) != len(default):
        return f"a list of {len(default)}"
    first = default[0] if default else inspect.Parameter.empty
    return next((f"a list, each of it {problem}" for one in value if (problem := _problem(name, one, first, None))), "")


def _number_problem(name: str, value: Any) -> str:
    if type(value) not in (int, float) or not abs(value) <= MOST:
        return "a number"
    if "eps" in name or "std" in name:
        return "" if 0 < value < (1 if "eps" in name else MOST) else "a number above 0"
    return "" if "dropout" not in name or 0 <= value <= 1 else "a number from 0 to 1"


def _is_id(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return all(one is None or (type(one) is int and -1 <= one <= MOST) for one in values[:MOST_ITEMS])


def _shown(value: Any) -> str:
    return f"{value!r:.80}"


def _odd(path: Path, problem: str) -> CorruptWeightsError:
    return CorruptWeightsError(
        "the configuration of a model part cannot be right",
        got=f"{path} ({problem})",
        expected="the settings of the model's class",
        remedy=_REMEDY,
    )


def _misfit(where: Path, got: str) -> IncompatibleWeightsError:
    return IncompatibleWeightsError(
        f"the weights of {where.name} do not fit its configuration",
        got=f"{where}: {got}",
        expected="exactly the configured tensors",
        remedy=_REMEDY,
    )
