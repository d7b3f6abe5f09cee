"""Where fine-tuned tower blocks go in ComfyUI's own models, which keep the original names and join some matrices.

A bridge file names its blocks as diffusers does. ComfyUI's Wan has Wan's own names; its Stable Audio joins query, key
and value, and leaves out the biases of its norms, which are zero before fine-tuning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ...core.errors import IncompatibleWeightsError
from ._build import Recipe
from ._stable_audio import transformer_recipes
from ._wan import transformer_names

ROOT = "diffusion_model."
# The renaming of Stable Audio looks for the names of a checkpoint, in which the whole model stands under "model.".
CHECKPOINT_ROOT = "model."


@dataclass(frozen=True)
class Replacement:
    """One tensor that takes the place of a part of a native model.

    Args:
        name: Native name of the parameter, with ``diffusion_model.`` in front.
        value: The new numbers.
        rows: First row and number of rows within the parameter; None replaces all of it.
        is_new: The native model has no such parameter: a bias of a norm that it leaves out.
    """

    name: str
    value: Tensor
    rows: tuple[int, int] | None = None
    is_new: bool = False


def native_replacements(
    modality: str, weights: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> list[Replacement]:
    """Where each fine-tuned tensor goes.

    Args:
        modality: ``video`` (Wan) or ``audio`` (Stable Audio).
        weights: Official names such as ``blocks.0.attn1.to_q.weight``.
        shapes: Native name to shape of every parameter of the native model.

    Raises:
        IncompatibleWeightsError: a tensor has no place or another shape there; counts them and names one.
    """
    places = native_places(modality, shapes)
    found = {name: _replacement(name, value, places, shapes) for name, value in weights.items()}
    lost = [name for name, replacement in found.items() if replacement is None]
    if lost:
        raise IncompatibleWeightsError(
            f"fine-tuned blocks in the bridge file do not fit the native {modality} model",
            got=f"{len(lost)} of {len(weights)} tensors, for example {lost[0]} {tuple(weights[lost[0]].shape)}",
            expected="names and shapes of the model these bridges were trained with",
            remedy="Load Wan 2.1 T2V 1.3B (or 14B for 14B bridges) and Stable Audio Open 1.0.",
        )
    return list(found.values())


def native_places(modality: str, names: Iterable[str]) -> dict[str, Recipe]:
    """Diffusers' name of every tensor that a native model has, to its native name and part."""
    own = [name for name in names if name.startswith(ROOT)]
    if modality == "video":
        return {name: Recipe(source) for name, source in transformer_names(own).items()}
    recipes = transformer_recipes(CHECKPOINT_ROOT + name for name in own)
    return {name: Recipe(r.source.removeprefix(CHECKPOINT_ROOT), r.part) for name, r in recipes.items()}


def _replacement(
    name: str, value: Tensor, places: Mapping[str, Recipe], shapes: Mapping[str, tuple[int, ...]]
) -> Replacement | None:
    place, scale = places.get(name), places.get(f"{name.removesuffix('.bias')}.weight")
    if place is None:
        is_bias = name.endswith(".bias") and scale is not None and scale.source.endswith(".gamma")
        if not is_bias or tuple(shapes[scale.source]) != tuple(value.shape):
            return None
        return Replacement(scale.source.removesuffix("gamma") + "beta", value, is_new=True)
    shape = tuple(shapes[place.source])
    if place.part is None:
        return Replacement(place.source, value) if shape == tuple(value.shape) else None
    number, count = place.part
    rows = shape[0] // count
    return Replacement(place.source, value, (number * rows, rows)) if (rows, *shape[1:]) == tuple(value.shape) else None
