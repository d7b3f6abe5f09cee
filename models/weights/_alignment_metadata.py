"""What alignment files say of themselves, validated as a whole before anything is built of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import CorruptWeightsError, IncompatibleWeightsError, InputError
from ...core.json_text import parse_json
from ..alignment.selective import AlignmentConfig

VERSION = "1"
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
    if metadata.get("version", VERSION) != VERSION:
        raise IncompatibleWeightsError(
            "the alignment file is of another version",
            got=f"{metadata['version']!r:.40} in {path}",
            expected=VERSION,
            remedy="Update the package, or write the file again.",
        )
    trained = metadata.get("trained", "true")
    if trained not in ("true", "false"):
        raise _unreadable("trained", trained, path, "it is neither true nor false")
    try:
        config = AlignmentConfig.from_dict(_object("config", metadata, path))
    except InputError as error:
        raise CorruptWeightsError(error.what, got=f"{error.got} in {path}", expected=error.expected) from error
    loras = _object("loras", metadata, path)
    unknown = sorted(set(loras) - {"video", "audio"})
    if unknown:
        raise _unreadable("loras", metadata["loras"], path, f"there is no tower {unknown[0][:40]}")
    return AlignmentNote(config, {side: _lora(said, metadata["loras"], path) for side, said in loras.items()},
                         trained == "true")  # fmt: skip


def _object(name: str, metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    text = metadata.get(name)
    if text is None:
        raise _unreadable(name, "nothing", path, "it is missing")
    told = f"the alignment file's metadata {name!r}"
    value = parse_json(text, what=told, where=path, error=CorruptWeightsError, expected="what save_alignment writes")
    if not isinstance(value, dict):
        raise _unreadable(name, text, path, "it is no JSON object")
    return value


def _lora(said: Any, text: str, path: Path) -> LoraNote:
    if not isinstance(said, dict) or set(said) != {"rank", "alpha"}:
        raise _unreadable("loras", text, path, "a LoRA is no JSON object with rank and alpha")
    rank, alpha = said["rank"], said["alpha"]
    if type(rank) is not int or not 1 <= rank <= MOST_RANK:
        raise _unreadable("loras", text, path, "the rank is no whole number of a LoRA")
    if type(alpha) not in (int, float) or not math.isfinite(alpha) or not 0 < alpha <= MOST_ALPHA:
        raise _unreadable("loras", text, path, "alpha is no number of a LoRA")
    return LoraNote(rank, float(alpha))


def _unreadable(name: str, text: str, path: Path, problem: str) -> CorruptWeightsError:
    return CorruptWeightsError(
        f"the alignment file's metadata {name!r} cannot be read",
        got=f"{text[:80]} in {path} ({problem})",
        expected="what save_alignment writes",
    )
