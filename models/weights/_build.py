"""From a weight file to a module: which tensor comes from where, and a build that leaves nothing over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...core.errors import IncompatibleWeightsError
from ...core.progress import ask_to_stop
from ..empty import QuickOnMeta
from ._header import WeightFile, require_float
from ._limits import outlined, require_numbers


@dataclass(frozen=True)
class Recipe:
    """Where one tensor of a module comes from.

    Args:
        source: Name in the file.
        part: Which of several equal parts along the first axis, and of how many: ``(0, 3)`` for q of a joined qkv.
        trailing: Axes of size one: 1 adds one behind (and one in front), -1 drops the last one, 0 leaves the shape.
        zeros: Zeros of the source's shape, for a tensor that writers leave out because it is zero.
    """

    source: str
    part: tuple[int, int] | None = None
    trailing: int = 0
    zeros: bool = False

    def shape(self, file: WeightFile) -> tuple[int, ...]:
        """The shape that the tensor will have, by the header.

        Raises:
            IncompatibleWeightsError: it is not there, or does not divide into its parts.
            CorruptWeightsError: it holds no numbers.
        """
        shape = file.shape(self.source)
        if self.part is not None:
            if not shape or shape[0] % self.part[1]:
                raise IncompatibleWeightsError(
                    "a tensor does not divide into its parts",
                    got=f"{self.source} {shape} in {file.path}",
                    expected=f"{self.part[1]} equal parts",
                )
            shape = (shape[0] // self.part[1], *shape[1:])
        if self.trailing > 0:
            return (1, *shape, 1)
        return shape[:-1] if self.trailing < 0 and shape[-1:] == (1,) else shape

    def read(self, file: WeightFile) -> Tensor:
        """The tensor, in the file's type.

        Raises:
            IncompatibleWeightsError: it does not divide into its parts.
        """
        tensor = file.tensor(self.source)
        if self.zeros:
            return torch.zeros_like(tensor)
        if self.part is not None:
            tensor = tensor.chunk(self.part[1])[self.part[0]]
        if self.trailing > 0:
            return tensor[None, :, None]
        return tensor.squeeze(-1) if self.trailing < 0 else tensor


Recipes = Mapping[str, Recipe]


def build(make: Callable[[], nn.Module], file: WeightFile, recipes: Recipes, *, dtype: torch.dtype) -> nn.Module:
    """Make a module without weights and give it exactly those of the file.

    Types are as the folder loaders of diffusers and transformers give them: ``dtype``, and float32 for the modules
    that their class keeps in float32.

    Args:
        make: Makes the module; its parameters are never filled with random numbers.
        file: Where the tensors are.
        recipes: One for each tensor of the module's state dict.
        dtype: Type of the weights.

    Raises:
        IncompatibleWeightsError: missing, surplus or misshapen tensors; the message counts and names them.
    """
    from accelerate import init_empty_weights

    require_float(file)
    _require_fit(outlined(make, len(file.infos), file.path), file, recipes)
    with init_empty_weights(include_buffers=False), QuickOnMeta():
        module = make()
    own = module.state_dict()
    kept = kept_in_float32(module, dtype)
    state = {}
    for name, recipe in recipes.items():
        ask_to_stop()
        tensor = recipe.read(file)
        if tensor.shape != own[name].shape:
            raise _misshapen(module, file, recipe, tuple(tensor.shape), tuple(own[name].shape))
        wanted = torch.float32 if kept.intersection(name.split(".")) else dtype
        # A copy of its own: chunks would keep their whole, and mapped files stay open.
        state[name] = tensor.to(wanted, copy=True).contiguous()
    require_numbers(state.items(), file.path)
    module.load_state_dict(state, strict=True, assign=True)
    if hasattr(module, "tie_weights"):
        module.tie_weights()
    return module.eval()


def _require_fit(outline: nn.Module, file: WeightFile, recipes: Recipes) -> None:
    """Compare names and shapes with the header, before anything is made or read."""
    own = outline.state_dict()
    _require_equal(file, type(outline).__name__, missing=set(own) - set(recipes), surplus=set(recipes) - set(own))
    for name, recipe in recipes.items():
        shape = recipe.shape(file)
        if shape != tuple(own[name].shape):
            raise _misshapen(outline, file, recipe, shape, tuple(own[name].shape))


def _misshapen(
    module: nn.Module, file: WeightFile, recipe: Recipe, got: tuple[int, ...], expected: tuple[int, ...]
) -> IncompatibleWeightsError:
    return IncompatibleWeightsError(
        f"a tensor of the {type(module).__name__} has another shape",
        got=f"{recipe.source} {got} in {file.path}",
        expected=f"{expected}",
    )


def require_all_used(file: WeightFile, used: set[str], what: str) -> None:
    """Refuse a file with tensors that nothing takes.

    Raises:
        IncompatibleWeightsError: it names them.
    """
    _require_equal(file, what, missing=set(), surplus=set(file) - used)


def _require_equal(file: WeightFile, what: str, *, missing: set[str], surplus: set[str]) -> None:
    problems = [
        f"{len(names)} {word}: {', '.join(sorted(names)[:3])}{', …' if len(names) > 3 else ''}"
        for word, names in (("missing", missing), ("unexpected", surplus))
        if names
    ]
    if problems:
        raise IncompatibleWeightsError(
            f"the file does not fit {what}", got=f"{file.path}: {'; '.join(problems)}", expected="exactly its tensors"
        )


def kept_in_float32(module: nn.Module, dtype: torch.dtype) -> set[str]:
    """Diffusers keeps these parts in float32 under any type; transformers, but for the oldest, only under float16."""
    from transformers import PreTrainedModel

    tells_apart = hasattr(PreTrainedModel, "_keep_in_fp32_modules_strict")
    if isinstance(module, PreTrainedModel) and dtype != torch.float16 and tells_apart:
        return set(getattr(module, "_keep_in_fp32_modules_strict", None) or ()) if dtype == torch.bfloat16 else set()
    return set(getattr(module, "_keep_in_fp32_modules", None) or ())
