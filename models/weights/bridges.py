"""Bridge files: the published checkpoints' layouts and our own safetensors, read and written.

Layouts (BridgeDiT reference, section 1): one flat dict of bridge and fine-tuned tower block names (Lightning, under
``state_dict``); a DeepSpeed file with everything under ``module`` and attribute prefixes; the same prefixed names
flat. Four fusion kinds share every key and shape, so the kind is read or asked for, never guessed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from ...core.disk import user_path
from ...core.errors import IncompatibleWeightsError, InputError
from ..bridge_use import BridgeUse
from ..bridges import BRIDGES
from ..bridges.base import Bridge
from ..bridges.config import BridgeConfig
from ..counting import stopping_calls
from ..empty import on_meta
from ..joint import BridgePoints, BridgeStack, placement
from ._bridge_choice import use_of
from ._bridge_layouts import (
    FORMAT,
    OFFICIAL_KINDS,
    TOWER_BLOCKS,
    bridge_file,
    group_blocks,
    named_kind,
    progress_notes,
    split_groups,
)
from ._bridge_metadata import BridgeNote, config_of, read_note
from ._header import open_weights
from ._limits import made, outlined, require_numbers
from .files import read_weights, write_safetensors
from .layouts import refuse_alignment

__all__ = [
    "BridgeOptions",
    "LoadedBridges",
    "kinds_with",
    "load_bridges",
    "load_strictly",
    "outline_bridges",
    "save_bridges",
    "use_of",
]

log = logging.getLogger(__name__)
OWN_METADATA = ("format", "version", "fusion", "config", "points", "trained")
OFFICIAL_HEAD_WIDTH = 128
NO_BRIDGES = "the file holds no bridges"


@dataclass(frozen=True)
class BridgeOptions:
    """What the user may say about a file that does not say it itself.

    Args:
        fusion: Bridge kind.
        num_heads: Heads of a block.
        points: Where the blocks stand.
        reading: ``official`` or ``paper``.
        rope: Positions of the tokens, a kind of :mod:`..ropes`.
        tuned_blocks: For files that hold whole towers (DeepSpeed): how many leading blocks of the video and audio
            tower were fine-tuned and are taken from the file; the published code's setting is 5 and 5.
    """

    fusion: str | None = None
    num_heads: int | None = None
    points: BridgePoints | None = None
    reading: str | None = None
    rope: str | None = None
    tuned_blocks: tuple[int, int] = (5, 5)


@dataclass(frozen=True)
class LoadedBridges:
    """A bridge file, understood.

    Args:
        stack: The bridges.
        tower_weights: Fine-tuned tower tensors by modality and official name; empty when the towers stay stock.
        source: The file.
        fusion_source: Where the kind was read: "metadata", "keys", "directory name" or "your choice".
        trained: False for bridges that are random and only show the form.
        ignored: Keys of the file that are not used (whole-tower layouts).
        notes: What else the file says of itself: notes of :func:`save_bridges`, or a trainer's epoch and step.
        use: What they were trained for; None where the file does not say it.
    """

    stack: BridgeStack
    tower_weights: dict[str, dict[str, Tensor]]
    source: Path
    fusion_source: str
    trained: bool = True
    ignored: tuple[str, ...] = field(default=(), repr=False)
    notes: Mapping[str, str] = field(default_factory=dict, repr=False)
    use: BridgeUse | None = None

    def summary(self) -> str:
        """One sentence for the user: kind, points, which tower blocks the file replaces, and what they are for."""
        points = self.stack.points
        text = (
            f"{len(self.stack)} {self.stack.kind} bridges (kind from {self.fusion_source}) after video blocks "
            f"{list(points.video)} and audio blocks {list(points.audio)}"
        )
        for modality, weights in self.tower_weights.items():
            numbers = sorted({int(name.split(".")[1]) for name in weights})
            text += f"; fine-tuned {modality} blocks {numbers} ({len(weights)} tensors)" if numbers else ""
        return text + (f"; for {self.use.words}" if self.use else "")


@stopping_calls()
def load_bridges(path: str | Path, options: BridgeOptions | None = None) -> LoadedBridges:
    """Load a bridge file of any known layout, strictly; of a DeepSpeed checkpoint the folder may be given.

    Raises:
        MissingModelError: no such file.
        CorruptWeightsError, UnsafeWeightsError: it cannot be read safely.
        IncompatibleWeightsError: it holds no bridges, keys are missing or left over, or its kind is unknown.
    """
    options = options or BridgeOptions()
    path = bridge_file(user_path(path))
    contents, metadata = read_weights(path, "the bridge file")
    refuse_alignment(metadata, NO_BRIDGES, path, "a bridge file")
    groups, ignored = split_groups(contents, path, options.tuned_blocks)
    note = read_note(metadata, path)
    make, fusion_source = made(lambda: _stack_of(groups["bridges"], note, path, options), path)
    outline = outlined(make, len(groups["bridges"]), path)
    require_fit(outline, groups["bridges"], f"the bridge file {path.name}")
    stack = make()
    load_strictly(stack, groups["bridges"], f"the bridge file {path.name}")
    require_numbers(groups["bridges"].items(), path)
    stack.eval()
    loaded = LoadedBridges(
        stack,
        # Copies: what was read may still lie on disk, and the file may change.
        {name: {n: tensor.clone() for n, tensor in groups[name].items()} for name in TOWER_BLOCKS if groups[name]},
        path,
        fusion_source,
        trained=note.trained,
        ignored=tuple(ignored),
        notes={k: v for k, v in metadata.items() if k not in OWN_METADATA} | progress_notes(contents),
        use=note.use,
    )
    log.info("%s: %s", path.name, loaded.summary())
    return loaded


def outline_bridges(path: str | Path, options: BridgeOptions | None = None) -> BridgeStack:
    """The bridges of a file without their weights, on the ``meta`` device: only the header is read.

    Raises:
        MissingModelError, WeightsError: as :func:`load_bridges`.
    """
    options = options or BridgeOptions()
    file = open_weights(bridge_file(user_path(path)), "the bridge file")
    refuse_alignment(file.metadata, NO_BRIDGES, file.path, "a bridge file")
    contents = {name: torch.empty(info.shape, device="meta") for name, info in file.infos.items()}
    groups, _ = split_groups(contents, file.path, options.tuned_blocks)
    note = read_note(file.metadata, file.path)
    make, _ = made(lambda: _stack_of(groups["bridges"], note, file.path, options), file.path)
    outline = outlined(make, len(groups["bridges"]), file.path)
    require_fit(outline, groups["bridges"], f"the bridge file {file.path.name}")
    return outline


def _stack_of(
    tensors: dict[str, Tensor], note: BridgeNote, path: Path, options: BridgeOptions
) -> tuple[Callable[[], BridgeStack], str]:
    """Makes a stack of the file's kind and sizes, not filled yet; and where the kind was read."""
    blocks = group_blocks(tensors, path)
    fusion, fusion_source = _fusion(path, blocks[0], note, options.fusion)
    config = _config(BRIDGES.get(fusion), blocks[0], note, path, options)
    points = _points(len(blocks), config, note, options)
    return lambda: BridgeStack(fusion, config, points), fusion_source


def save_bridges(
    path: str | Path,
    stack: BridgeStack,
    *,
    tower_weights: Mapping[str, Mapping[str, Tensor]] | None = None,
    dtype: torch.dtype | None = None,
    trained: bool = True,
    notes: Mapping[str, str] | None = None,
) -> None:
    """Write bridges (and fine-tuned tower blocks) as safetensors under the official names, with metadata.

    Args:
        path: Target file.
        stack: The bridges.
        tower_weights: Tower tensors by modality and official name, as :class:`LoadedBridges` holds them.
        dtype: Storage type; None keeps each tensor's own.
        trained: False marks random weights.
        notes: Further metadata (recipe, towers, licence); ``task`` and the given times say what they are for.
    """
    tensors = dict(stack.state_dict())
    for weights in (tower_weights or {}).values():
        tensors.update(weights)
    metadata = {
        **(notes or {}),
        "format": FORMAT,
        "version": "1",
        "fusion": stack.kind,
        "config": json.dumps(asdict(stack.config)),
        "points": json.dumps({"video": stack.points.video, "audio": stack.points.audio}),
        "trained": "true" if trained else "false",
    }
    write_safetensors(path, {name: t.detach().cpu().to(dtype or t.dtype) for name, t in tensors.items()}, metadata)


def load_strictly(module: torch.nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """``load_state_dict`` that counts and names missing, surplus and misshapen keys.

    Raises:
        IncompatibleWeightsError: any of those.
    """
    require_fit(module, state, what)
    module.load_state_dict(state, strict=True)


def require_fit(module: torch.nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Compare names and shapes, also of modules and tensors without numbers.

    Raises:
        IncompatibleWeightsError: as :func:`load_strictly`.
    """
    own = module.state_dict()
    missing = sorted(set(own) - set(state))
    surplus = sorted(set(state) - set(own))
    shapes = [
        f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}"
        for k in own
        if k in state and own[k].shape != state[k].shape
    ]
    packed = sorted(k for k in own if k in state and not state[k].is_floating_point() and own[k].is_floating_point())
    problems = [
        f"{len(names)} {word}: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
        for word, names in (
            ("missing", missing),
            ("unexpected", surplus),
            ("of the wrong shape", shapes),
            ("of whole numbers", packed),
        )
        if names
    ]
    if problems:
        raise IncompatibleWeightsError(
            f"{what} does not fit", got="; ".join(problems), expected=f"exactly the {len(own)} tensors of the model"
        )


def _fusion(path: Path, block: dict[str, Tensor], note: BridgeNote, choice: str | None) -> tuple[str, str]:
    """The kind and where it was read: keys, metadata, the user's choice, or the authors' directory names."""
    kinds = kinds_with(block)
    if choice is not None:
        choice = OFFICIAL_KINDS.get(choice, choice)
        BRIDGES.get(choice)
    known, source = (kinds[0], "keys") if len(kinds) == 1 else (note.fusion, "metadata")
    if known is not None:
        BRIDGES.get(known)
        if choice not in (None, known) or known not in kinds:
            raise IncompatibleWeightsError(
                "the chosen fusion kind is not the file's",
                got=f"{choice or known} for a file that is {known if choice else ' or '.join(kinds)}",
                expected=known if known in kinds else ", ".join(kinds),
                remedy="Leave the kind to the file.",
            )
        return known, source
    if choice is not None and choice not in kinds:
        raise IncompatibleWeightsError(
            "the chosen fusion kind is not the file's", got=choice, expected="one of " + ", ".join(kinds)
        )
    if choice is not None:
        return choice, "your choice"
    named = named_kind(path.resolve())
    if named is not None:
        return named, "directory name"
    raise IncompatibleWeightsError(
        "the bridge file does not say which fusion kind it is",
        got=path,
        expected="one of " + ", ".join(kinds),
        remedy="These share every name and shape, so choose the kind yourself (--fusion, or the node's input). "
        "The authors' files are named after it: bicross-… is dual_cross, full-attn-… is full.",
    )


def kinds_with(names: Iterable[str]) -> list[str]:
    """Kinds whose blocks have most of these tensors and least beside: four of the published ones share all names.

    Args:
        names: Of a block's tensors, as they are in the block.
    """
    names = set(names)
    own = {kind: _names_of(BRIDGES.get(kind)) for kind in BRIDGES}
    likeness = {kind: (len(names & own[kind]), -len(names ^ own[kind])) for kind in own}
    return [kind for kind, alike in likeness.items() if alike == max(likeness.values())]


@lru_cache(maxsize=32)
def _names_of(kind: type[Bridge]) -> frozenset[str]:
    """Names of a block's tensors, which no setting changes."""
    with on_meta():
        return frozenset(kind(kind.Config()).state_dict())


def _config(
    kind: type[Bridge], block: dict[str, Tensor], note: BridgeNote, path: Path, options: BridgeOptions
) -> BridgeConfig:
    if note.config is not None:
        config = config_of(kind, note.config, path)
        asked = {"num_heads": options.num_heads, "reading": options.reading, "rope": options.rope}
        for name, value in asked.items():
            if value is not None and value != getattr(config, name):
                raise IncompatibleWeightsError(
                    f"the chosen {name} is not the file's",
                    got=value,
                    expected=f"{getattr(config, name)}, which its metadata says",
                )
        return config
    try:
        sizes = kind.sizes_of(block)
    except KeyError as error:
        raise IncompatibleWeightsError(
            "a bridge block is incomplete", got=f"no {error.args[0]}", expected="all tensors of a block"
        ) from error
    except (IndexError, ValueError) as error:
        raise IncompatibleWeightsError(
            "the matrices of a bridge block have another number of axes",
            got=", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in list(block.items())[:3]),
            expected="two axes",
        ) from error
    sizes["num_heads"] = options.num_heads or sizes.get("num_heads") or _official_heads(sizes["qk_width"])
    return kind.Config(**sizes, reading=options.reading or "official", rope=options.rope or kind.usual_rope)


def _official_heads(qk_width: int) -> int:
    if qk_width % OFFICIAL_HEAD_WIDTH:
        raise IncompatibleWeightsError(
            "the bridge file does not say how many heads its blocks have",
            got=f"query width {qk_width} without metadata",
            expected=f"a multiple of {OFFICIAL_HEAD_WIDTH} as in the published files",
            remedy="Give the number of heads yourself.",
        )
    return qk_width // OFFICIAL_HEAD_WIDTH


def _points(num_blocks: int, config: BridgeConfig, note: BridgeNote, options: BridgeOptions) -> BridgePoints:
    if options.points is not None:
        points = options.points
    elif note.points is not None:
        points = note.points
    elif num_blocks == 4:
        points = placement("uniform_early")
    elif num_blocks == 3 and config.video_width == 5120:
        points = BridgePoints((7, 11, 15), (5, 8, 11))  # the authors' 14B sampling configuration
    else:
        raise InputError(
            "the bridge file does not say after which blocks its bridges stand",
            got=f"{num_blocks} bridges without metadata",
            expected="bridge points",
            remedy="Give the video and audio bridge points yourself.",
        )
    if len(points.video) != num_blocks:
        raise IncompatibleWeightsError(
            "the bridge points do not match the file",
            got=f"{len(points.video)} points",
            expected=f"{num_blocks}, one a bridge",
        )
    return points
