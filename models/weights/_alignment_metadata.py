"""What alignment files say of themselves, validated as a whole before anything is built of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...core.errors import CorruptWeightsError, InputError
from ..alignment.selective import AlignmentConfig
from ._metadata import OwnMetadata

MOST_RANK, MOST_ALPHA = 1 << 14, 1e6


@dataclass(frozen=True)
class LoraNote:
    """What a file says of the LoRA for one tower.

    Args:
        rank: Rows of A.
        alpha: The change is scaled by alpha / rank.
    """

    rank: int
    alpha: float


@dataclass(frozen=True)
class AlignmentNote:
    """What the metadata of an alignment file say.

    Args:
        config: Sizes.
        loras: By tower.
        trained: False for random weights that only show the form.
    """

    config: AlignmentConfig
    loras: Mapping[str, LoraNote]
    trained: bool = True


def read_note(metadata: Mapping[str, str], path: Path) -> AlignmentNote:
    """Read all entries that are ours.

    Raises:
        CorruptWeightsError: an entry that is missing, no JSON, or not of the right form.
        IncompatibleWeightsError: a newer version.
    """
    own = OwnMetadata("alignment file", "save_alignment", metadata, path)
    own.require_version()
    trained = own.trained()
    try:
        config = AlignmentConfig.from_dict(_object("config", own))
    except InputError as error:
        raise CorruptWeightsError(error.what, got=f"{error.got} in {path}", expected=error.expected) from error
    loras = _object("loras", own)
    unknown = sorted(set(loras) - {"video", "audio"})
    if unknown:
        raise own.unreadable("loras", metadata["loras"], f"there is no tower {unknown[0][:40]}")
    return AlignmentNote(config, {side: _lora(said, own) for side, said in loras.items()}, trained)


def _object(name: str, own: OwnMetadata) -> dict[str, Any]:
    if name not in own.entries:
        raise own.unreadable(name, "nothing", "it is missing")
    value = own.json(name)
    if not isinstance(value, dict):
        raise own.unreadable(name, own.entries[name], "it is no JSON object")
    return value


def _lora(said: Any, own: OwnMetadata) -> LoraNote:
    unreadable = partial(own.unreadable, "loras", own.entries["loras"])
    if not isinstance(said, dict) or set(said) != {"rank", "alpha"}:
        raise unreadable("a LoRA is no JSON object with rank and alpha")
    rank, alpha = said["rank"], said["alpha"]
    if type(rank) is not int or not 1 <= rank <= MOST_RANK:
        raise unreadable("the rank is no whole number of a LoRA")
    if type(alpha) not in (int, float) or not math.isfinite(alpha) or not 0 < alpha <= MOST_ALPHA:
        raise unreadable("alpha is no number of a LoRA")
    return LoraNote(rank, float(alpha))
