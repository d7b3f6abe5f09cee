"""Change a module for one use without touching the module that others use."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import Tensor, nn

from ..core.errors import IncompatibleWeightsError
from .storage import assign, own_hooks, shapes
from .towers.base import Tower


def with_tuned_blocks(tower: Tower, weights: Mapping[str, Tensor]) -> Tower:
    """A tower that shares everything with ``tower`` except the blocks named in ``weights``, which are copies.

    Args:
        tower: Stays as it is.
        weights: Official names such as ``blocks.0.attn1.to_q.weight``; values are cast to the tower's types.

    Raises:
        IncompatibleWeightsError: a name or shape that the tower does not have.
    """
    own = shapes(tower.model)
    wrong = [name for name, value in weights.items() if own.get(name) != value.shape]
    if wrong:
        raise IncompatibleWeightsError(
            f"fine-tuned blocks in the bridge file do not fit the {tower.modality} tower",
            got=f"{len(wrong)} of {len(weights)} tensors, for example {wrong[0]} {tuple(weights[wrong[0]].shape)}",
            expected=f"names and shapes of a tower with {tower.num_blocks} blocks of width {tower.width}",
            remedy="Use the towers these bridges were trained with.",
        )
    numbers = {int(name.split(".")[1]) for name in weights}
    blocks = [
        own_hooks(copy.deepcopy(block)) if index in numbers else block for index, block in enumerate(tower.blocks)
    ]
    model = _shallow(tower.model)
    setattr(model, tower.block_names, nn.ModuleList(blocks))
    for name, value in weights.items():
        assign(model, name, value)
    return type(tower)(model).train(tower.training)


def with_replaced(root: nn.Module, replacements: Mapping[str, nn.Module | nn.Parameter]) -> nn.Module:
    """A module that shares everything with ``root`` except the sub-modules and parameters named in ``replacements``.

    Only the modules on the way to a replacement are made anew; their parameters are shared.

    Args:
        root: Stays as it is.
        replacements: By path below ``root``, such as ``video.model.blocks.0.attn1.to_q``.
    """
    twin = _shallow(root)
    children: dict[str, dict[str, nn.Module | nn.Parameter]] = {}
    for path, module in replacements.items():
        child, _, below = path.partition(".")
        if below:
            children.setdefault(child, {})[below] = module
        elif isinstance(module, nn.Parameter):
            twin._parameters[child] = module
        else:
            twin._modules[child] = module
    for child, inner in children.items():
        twin._modules[child] = with_replaced(root._modules[child], inner)
    return twin


def _shallow(module: nn.Module) -> nn.Module:
    """A module of its own with the same children, so that children can be replaced in it alone."""
    twin = copy.copy(module)
    for name in ("_modules", "_parameters", "_buffers"):
        twin.__dict__[name] = dict(module.__dict__[name])
    return twin
