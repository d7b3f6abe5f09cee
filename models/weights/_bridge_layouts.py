"""The layouts of bridge checkpoints: which file of a folder it is, and which of its tensors belong where."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ...core.disk import is_dir, is_file, look, why_unlistable
from ...core.errors import CorruptWeightsError, IncompatibleWeightsError, MissingModelError

# What the metadata of our own files say, of whatever kind.
FORMAT = "sounding_video.bridge"
PREFIXES = (("video", "video_diffusion."), ("audio", "audio_diffusion."), ("bridges", "dual_dit_blocks."))
TOWER_BLOCKS = {"video": "blocks", "audio": "transformer_blocks"}
# The authors' names for the kinds, as they stand in configuration files and directory names.
OFFICIAL_KINDS = {
    "bicross": "dual_cross",
    "full_attn": "full",
    "full-attn": "full",
    "v2a": "video_to_audio",
    "a2v": "audio_to_video",
    "add": "additive",
}
# What DeepSpeed writes into a checkpoint folder: a name in "latest", the model there, its parts under ZeRO-3.
LATEST, DEEPSPEED_MODEL, ZERO_PARTS = "latest", "mp_rank_00_model_states.pt", "zero_pp_rank_*_model_states.pt"
DEEPSPEED_FOLDER = "checkpoint"  # as Lightning names it
# What gathers a checkpoint that lies in parts writes, into the same folder or another.
GATHERED = ("model.safetensors", "pytorch_model.bin", "pytorch_model.safetensors")
GATHER = (
    "Run zero_to_fp32.py, which DeepSpeed puts beside the checkpoint, in that folder, and give the file that it writes."
)
# Of a block, as it is written: "007" and a number of a thousand digits are none.
NUMBER = r"(?:0|[1-9][0-9]{0,8})"
# Of a Lightning checkpoint: when it was saved.
PROGRESS = ("epoch", "global_step")


def named_kind(path: Path) -> str | None:
    """The fusion kind that a name on the path says, as the authors name their folders; the innermost one counts."""
    for part in reversed(path.parts):
        for official, kind in OFFICIAL_KINDS.items():
            if official != "add" and re.match(rf"{official}(?:[-_.]|$)", part.lower()):
                return kind
    return None


def is_named_a_bridge(path: Path, root: Path) -> bool:
    """Whether a file that cannot be read is called a bridge, by its own name or by one of its folders below a root."""
    below = path.relative_to(root) if root in path.parents else Path(path.name)
    return "bridge" in path.name.lower() or named_kind(below) is not None


def bridge_file(path: Path) -> Path:
    """The file that holds the bridges: the path itself, or of a DeepSpeed checkpoint folder its model file.

    Raises:
        MissingModelError: a folder without one.
        CorruptWeightsError: a folder whose parts have to be gathered first.
    """
    if not is_dir(path):
        return path
    folders = [folder for folder in (path / _latest(path), path / DEEPSPEED_FOLDER, path) if is_dir(folder)]
    for folder in folders:
        for name in (DEEPSPEED_MODEL, *GATHERED):
            if is_file(folder / name):
                return folder / name
    for folder in folders:
        if any(fnmatch.fnmatch(file.name, ZERO_PARTS) for file in look(folder, 1).files):
            raise CorruptWeightsError(
                "the checkpoint lies in parts that have to be gathered first",
                got=f"{folder} with {ZERO_PARTS}",
                expected="one file with all weights",
                remedy=GATHER,
            )
    raise MissingModelError(
        "the bridge file was not found",
        got=f"{path} ({why_unlistable(path) or 'a folder there'})",
        expected=f"a weight file, or a DeepSpeed checkpoint folder with {DEEPSPEED_MODEL} in it",
    )


def _latest(folder: Path) -> str:
    """The name that DeepSpeed's note says; where it cannot be read, the one that Lightning gives."""
    try:
        return Path((folder / LATEST).read_text(encoding="utf-8").strip()).name or DEEPSPEED_FOLDER
    except (OSError, ValueError):
        return DEEPSPEED_FOLDER


def progress_notes(contents: Any) -> dict[str, str]:
    """When a training checkpoint was saved, as texts; nothing for other files."""
    found = contents if isinstance(contents, Mapping) else {}
    return {name: str(found[name]) for name in PROGRESS if isinstance(found.get(name), int)}


def split_groups(
    contents: Any, path: Path, tuned_blocks: tuple[int, int]
) -> tuple[dict[str, dict[str, Tensor]], list[str]]:
    """Tensors by group (bridges, video, audio), official names without prefixes; and the keys left aside.

    Args:
        contents: A checkpoint's contents, or names to tensors.
        path: For messages.
        tuned_blocks: How many leading blocks of each tower are taken from a file that holds whole towers.

    Raises:
        IncompatibleWeightsError: no bridges among them, or tensors of something else.
        CorruptWeightsError: empty places instead of weights.
    """
    for wrapper in ("state_dict", "module"):
        if isinstance(contents, dict) and isinstance(contents.get(wrapper), dict):
            contents = contents[wrapper]
    tensors = {k: v for k, v in contents.items() if isinstance(v, Tensor)} if isinstance(contents, dict) else {}
    tensors = {re.sub(r"^(?:_forward_module\.|module\.)+", "", name): tensor for name, tensor in tensors.items()}
    groups: dict[str, dict[str, Tensor]] = {"bridges": {}, "video": {}, "audio": {}}
    ignored = []
    prefixed = any(name.startswith(prefix) for name in tensors for _, prefix in PREFIXES)
    for name, tensor in tensors.items():
        group, short = _place_key(name, prefixed, tuned_blocks)
        if group is None:
            ignored.append(name)
        else:
            groups[group][short] = tensor
    if not groups["bridges"]:
        examples = ", ".join(list(tensors)[:3]) or "no tensors"
        raise IncompatibleWeightsError(
            "the file holds no bridges",
            got=f"{path} with {len(tensors)} tensors ({examples})",
            expected="names such as 0.attn.q_proj_1.weight or dual_dit_blocks.0.attn.q_proj_1.weight",
            remedy="Give the bridge checkpoint, not a tower or another model.",
        )
    empty = sorted(name for group in groups.values() for name, tensor in group.items() if tensor.numel() == 0)
    if empty:
        raise CorruptWeightsError(
            "the checkpoint holds places for its weights and not the weights: it was saved in parts (ZeRO-3)",
            got=f"{path} with {len(empty)} empty tensors ({', '.join(empty[:3])})",
            expected="one file with all weights",
            remedy=GATHER,
        )
    if ignored and not prefixed:
        raise IncompatibleWeightsError(
            "the bridge file holds unknown tensors",
            got=f"{len(ignored)}: {', '.join(sorted(ignored)[:3])}",
            expected="bridge blocks and fine-tuned tower blocks only",
        )
    return groups, ignored


def _place_key(name: str, prefixed: bool, tuned_blocks: tuple[int, int]) -> tuple[str | None, str]:
    if not prefixed:
        for group, stem in TOWER_BLOCKS.items():
            if re.match(rf"{stem}\.{NUMBER}\.", name):
                return group, name
        return ("bridges", name) if re.match(rf"{NUMBER}\.", name) else (None, name)
    for group, prefix in PREFIXES:
        if name.startswith(prefix):
            short = name[len(prefix) :]
            if group == "bridges":
                return (group, short) if re.match(rf"{NUMBER}\.", short) else (None, name)
            match = re.match(rf"{TOWER_BLOCKS[group]}\.({NUMBER})\.", short)
            limit = tuned_blocks[0] if group == "video" else tuned_blocks[1]
            return (group, short) if match and int(match.group(1)) < limit else (None, short)
    return None, name


def group_blocks(tensors: Mapping[str, Tensor], path: Path) -> list[dict[str, Tensor]]:
    """The tensors of each bridge under their names within it.

    Raises:
        IncompatibleWeightsError: a number is left out.
    """
    blocks: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, rest = name.partition(".")
        blocks.setdefault(int(number), {})[rest] = tensor
    numbers = sorted(blocks)
    if numbers != list(range(len(numbers))):
        raise IncompatibleWeightsError(
            "bridge blocks are missing",
            got=f"{path} with blocks {', '.join(map(str, numbers[:8]))}",
            expected="0, 1, 2, … without gaps",
        )
    return [blocks[number] for number in numbers]
