"""One part of a diffusers folder: its configuration, and its weights in any of the forms that people have.

What diffusers and transformers call their files is loaded by them. Variants (``model.fp16.safetensors``), shards
without their index and packed weights are read here, to the same modules.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ...core.disk import is_file, look, suffix_of, why_unlistable
from ...core.errors import IncompatibleWeightsError, MissingModelError, SoundingVideoError, UnsafeWeightsError
from ..counting import stopping_calls
from ..empty import QuickOnMeta
from ._build import Recipe, build
from ._config import part_outline, read_config, require_part
from ._header import open_weights, require_float
from ._limits import in_words, require_numbers
from ._shards import shard_group
from ._weight_file import WeightFile

# What the two libraries call weights; anything between this and the suffix is a variant.
STEMS = ("diffusion_pytorch_model", "model")
# One table of tokens has two names in an encoder; files hold one or both.
TABLES = ("shared.weight", "encoder.embed_tokens.weight")
PICKLES = (".bin", ".pt", ".ckpt", ".pth")
# Of several variants the most exact one is taken: rounding is done once, when loading.
EXACT_FIRST = ("float32", "bfloat16", "float16")


def load_part(model_class: Any, folder: Path, part: str, dtype: torch.dtype) -> torch.nn.Module:
    """One part of a folder, from safetensors only, with every key accounted for.

    Args:
        model_class: Of diffusers or transformers.
        folder: The diffusers folder.
        part: Name of the sub-folder.
        dtype: Type of the weights.

    Raises:
        MissingModelError, UnsafeWeightsError, CorruptWeightsError, IncompatibleWeightsError: see the messages.
    """
    where = folder / part
    file = part_weights(where)
    if _is_plain(where, model_class) and not (file.is_scaled or file.packings):
        require_part(model_class, where, file)
        return _load_plain(model_class, where, dtype)
    make, _ = part_outline(model_class, where, file)
    recipes = {name: Recipe(name) for name in file}
    table = next((name for name in TABLES if name in recipes), None)
    if table:
        recipes = dict.fromkeys(TABLES, Recipe(table)) | recipes
    return build(make, file, recipes, dtype=dtype)


def part_weights(where: Path) -> WeightFile:
    """The weights of a part, opened: under the libraries' own names, else a variant, else shards, else the only file.

    Every weight file that lies there is looked at: a header that promises more than the file holds is found before
    anything is built.

    Raises:
        MissingModelError, UnsafeWeightsError, CorruptWeightsError, IncompatibleWeightsError: see the messages.
    """
    names = _require_part(where)
    opened: dict[Path, WeightFile] = {}
    groups: set[tuple[Path, ...]] = set()
    for path in names:
        group = shard_group(path)
        if group not in groups:
            groups.update([group] if group else [])
            opened[path] = open_weights(path, f"the weights of {where.name}")
            require_float(opened[path])

    def order(path: Path) -> tuple[bool, bool, int, str]:
        variant = _variant(path)
        dtype = opened[path].dtype
        exactness = EXACT_FIRST.index(dtype) if dtype in EXACT_FIRST else len(EXACT_FIRST)
        return variant is None, variant != "", exactness, path.name

    first = min(opened, key=order)
    if _variant(first) is None and len(opened) > 1:
        raise IncompatibleWeightsError(
            "a model part has several weight files, and none is called as usual",
            got=f"{where} with {', '.join(sorted(path.name for path in opened)[:3])}",
            expected=f"one file, or {' or '.join(f'{stem}.safetensors' for stem in STEMS)}",
            remedy="Leave one of them in the folder.",
        )
    return opened[first]


def _variant(path: Path) -> str | None:
    """``""`` for the libraries' own names, ``fp16`` for a variant; None for other names."""
    group = shard_group(path)
    stem, variant = (group[1].name, group[2].name) if group else (path.stem, "")
    if not group:
        stem, _, variant = path.stem.partition(".")
    return variant.strip(".") if stem in STEMS else None


def weights_in(where: Path) -> list[Path]:
    """The safetensors files of a folder, without what other systems hide beside them (``._model.safetensors``)."""
    return [file for file in look(where, 1).files if suffix_of(file) == ".safetensors" and not is_hidden(file)]


def is_hidden(path: Path) -> bool:
    """Whether a file is called so that lists leave it out."""
    return path.name.startswith(".")


def _require_part(where: Path) -> list[Path]:
    if why_unlistable(where):
        raise MissingModelError(
            "a model part cannot be looked into",
            got=f"{where} ({why_unlistable(where)})",
            expected="a folder that can be read",
        )
    if not is_file(where / "config.json"):
        raise MissingModelError(
            "a model part has no configuration",
            got=f"{where} without config.json",
            expected="config.json beside the weights",
        )
    weights = weights_in(where)
    if weights:
        return weights
    pickles = [name for name in look(where, 1).files if suffix_of(name) in PICKLES]
    if pickles:
        raise UnsafeWeightsError(
            "the weights are a pickle, which can run code, so they were not loaded",
            got=f"{pickles[0]}",
            expected="a .safetensors file",
            remedy="Get the safetensors version of the model.",
        )
    raise MissingModelError("a model part has no weights", got=where, expected="a .safetensors file beside config.json")


def _is_plain(where: Path, model_class: Any) -> bool:
    """Whether the library finds the weights by itself."""
    stem = STEMS[0] if hasattr(model_class, "from_config") else STEMS[1]
    return any(is_file(where / f"{stem}.safetensors{end}") for end in ("", ".index.json"))


def _settings(model_class: Any, where: Path) -> dict[str, Any]:
    """Transformers is handed the configuration that was looked at; diffusers reads the file itself."""
    if hasattr(model_class, "from_config"):
        return {}
    return {"config": model_class.config_class.from_dict(read_config(model_class, where))}


def _load_plain(model_class: Any, where: Path, dtype: torch.dtype) -> torch.nn.Module:
    model, report = guarded(
        lambda: model_class.from_pretrained(
            where, **_settings(model_class, where), torch_dtype=dtype, use_safetensors=True, local_files_only=True,
            output_loading_info=True,
        ),
        where,
    )  # fmt: skip
    require_numbers(model.named_parameters(), where)
    problems = {
        "missing": _names(report["missing_keys"]),
        "unexpected": _names(report["unexpected_keys"]),
        "misshapen": _names(report.get("mismatched_keys", ())),
    }
    problems["missing"] = [name for name in problems["missing"] if not name.startswith("encoder.embed_tokens")]
    if any(problems.values()):
        got = "; ".join(f"{len(names)} {word} ({', '.join(names[:3])})" for word, names in problems.items() if names)
        raise IncompatibleWeightsError(
            f"the weights of {where.name} do not fit its configuration",
            got=f"{where}: {got}",
            expected="exactly the configured tensors",
        )
    return model


def _names(keys: Any) -> list[str]:
    return sorted(str(key[0] if isinstance(key, tuple) else key) for key in keys)


def guarded(load: Callable[[], Any], where: Path) -> Any:
    """Run a library's loader and turn its failures into sentences that name the folder.

    Raises:
        IncompatibleWeightsError: whatever the library raised.
    """
    try:
        # Asked a tensor at a time, however many gigabytes; diffusers makes its modules on meta first.
        with stopping_calls(), QuickOnMeta():
            return load()
    except Exception as error:
        if isinstance(error, SoundingVideoError):
            raise
        raise IncompatibleWeightsError(
            "a model part cannot be loaded",
            got=f"{where} ({in_words(error)})",
            expected="a diffusers sub-folder with matching config.json and safetensors",
        ) from error
