"""Whether a file has all tensors of its model, told by its header, so that a damaged one is not picked over a good one.

Loading counts every tensor; this is what lists can afford: blocks are alike, and what stands around them is there.
"""

from __future__ import annotations

import re
from itertools import product

from ...core.errors import IncompatibleWeightsError
from ._wan import find_prefix
from ._weight_file import WeightFile

BLOCK = re.compile(r"^(?:encoder\.block|enc\.blk|blocks)\.(\d+)\.(.+)$")
LAYERS_AROUND = {
    "original": ("text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2", "time_projection.1",
                 "head.head", "patch_embedding"),
    "diffusers": ("condition_embedder.text_embedder.linear_1", "condition_embedder.text_embedder.linear_2",
                  "condition_embedder.time_embedder.linear_1", "condition_embedder.time_embedder.linear_2",
                  "condition_embedder.time_proj", "proj_out", "patch_embedding"),
}  # fmt: skip
FINAL_NORMS = ("encoder.final_layer_norm.weight", "norm.weight", "enc.output_norm.weight")


def require_complete(file: WeightFile, kind: str) -> None:
    """Refuse a transformer of Wan or a UMT5 that lacks something, or of which one block is unlike the others.

    Args:
        file: Known to be of the kind.
        kind: A key of ``TITLES``; other kinds are not looked at.

    Raises:
        IncompatibleWeightsError: the message names what is missing.
    """
    if kind not in ("wan", "umt5"):
        return
    prefix = find_prefix(file) if kind == "wan" else ""
    names = {name.removeprefix(prefix): name for name in file}
    missing = [*_around(names, kind), *_unlike(file, names)]
    if missing:
        raise IncompatibleWeightsError(
            "the weight file is incomplete",
            got=f"{file.path} without {', '.join(missing[:3])}" + (f" and {len(missing) - 3} more" * bool(missing[3:])),
            expected="all tensors of its model",
            remedy="Download or copy it again.",
        )


def _around(names: dict[str, str], kind: str) -> list[str]:
    if kind == "umt5":
        return [] if any(name in names for name in FINAL_NORMS) else [FINAL_NORMS[0]]
    layers = LAYERS_AROUND["original" if "head.modulation" in names else "diffusers"]
    wanted = [f"{layer}.{part}" for layer, part in product(layers, ("weight", "bias"))]
    return [name for name in wanted if name not in names]


def _unlike(file: WeightFile, names: dict[str, str]) -> list[str]:
    """What one block lacks and others have, and tensors of another shape than in the first block."""
    blocks: dict[int, dict[str, str]] = {}
    for name, given in names.items():
        match = BLOCK.match(name)
        if match:
            blocks.setdefault(int(match[1]), {})[match[2]] = given
    every = dict.fromkeys(part for block in blocks.values() for part in block)
    lacking = [f"block {number}" for number in range(max(blocks, default=-1) + 1) if number not in blocks]
    lacking += [f"{part} of block {number}" for number, block in blocks.items() for part in every if part not in block]
    if lacking:
        return lacking
    first = blocks.get(0, {})
    return [
        f"{part} of block {number} as {file.shape(first[part])}"
        for number, block in blocks.items()
        for part, given in block.items()
        if file.shape(given) != file.shape(first[part])
    ]
