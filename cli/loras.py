"""The options ``--lora``, ``--audio-lora`` and ``--bridge-lora``: files with strengths, in any number."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError
from ..core.options import Bounds, shown
from .given import MODEL

if TYPE_CHECKING:
    from ..models.lora.distilled import Distilled
    from ..pipeline import FamilyModel

STRENGTH = Bounds("strength of a LoRA", -1000, 1000, whole=False)
# option -> the part of the model it is for
OPTIONS = {"lora": "video", "audio_lora": "audio", "bridge_lora": "bridge"}


@dataclass(frozen=True)
class Lora:
    """One LoRA as the command line names it.

    Args:
        path: The file, or a peft folder.
        strength: Factor.
        part: "video", "audio" or "bridge".
    """

    path: Path
    strength: float
    part: str


def add_lora_options(parser: argparse.ArgumentParser) -> None:
    """Describe the three options."""
    add = parser.add_argument_group("LoRA (each option may be given several times)").add_argument
    for option, part in (
        ("--lora", "the Wan tower"),
        ("--audio-lora", "the sound's tower"),
        ("--bridge-lora", "bridges"),
    ):
        add(
            option,
            action="append",
            default=[],
            type=MODEL,
            metavar="FILE[:STRENGTH]",
            help=f"a LoRA for {part}, and its strength (default: 1)",
        )


def parse_lora(text: str, part: str) -> Lora:
    """``style.safetensors:0.8`` to a file and a strength; a colon that no number follows belongs to the name.

    Raises:
        InputError: no file name, or a strength out of its range.
    """
    name, colon, number = text.rpartition(":")
    try:
        strength = float(number) if colon else None
    except ValueError:
        strength = None
    if strength is None:
        name, strength = text, 1.0
    else:
        strength = _strength(number)
    if not name or strength is None:
        raise InputError(
            "a LoRA cannot be understood",
            got=shown(text),
            expected="FILE or FILE:STRENGTH, from -1000 to 1000, for example style.safetensors:0.8",
        )
    from ..core.disk import user_path

    return Lora(user_path(name), strength, part)


def _strength(text: str) -> float | None:
    try:
        return STRENGTH.read(text)
    except InputError:
        return None


def asked_loras(args: argparse.Namespace) -> list[Lora]:
    """Every LoRA of the command line."""
    return [parse_lora(text, part) for option, part in OPTIONS.items() for text in getattr(args, option)]


def apply_loras(model: FamilyModel, loras: list[Lora]) -> FamilyModel:
    """The model with all of them beside its layers.

    Raises:
        MissingModelError, WeightsError: a file that is absent or does not fit.
    """
    from ..models.lora.files import read_lora
    from ..pipeline import add_lora

    for lora in loras:
        model = add_lora(model, read_lora(lora.path), lora.strength, part=lora.part)
    return model


def distilled_loras(loras: list[Lora]) -> list[Distilled | None]:
    """What those for the picture were made for; their headers are read.

    Raises:
        MissingModelError, WeightsError: a file that is absent or no LoRA.
    """
    from ..models.lora.files import read_lora

    return [read_lora(lora.path).distilled for lora in loras if lora.part == "video" and lora.strength > 0]


def with_lora_nodes(graph: Mapping[str, Any], loras: list[Lora]) -> dict[str, Any]:
    """A workflow with a chain of Load LoRA nodes behind Join Towers, files named as in a ``loras`` folder."""
    graph = dict(graph)
    joined = next(node_id for node_id, node in graph.items() if node["class_type"] == "T2SVJoinTowers")
    source: list[Any] = [joined, 0]
    readers = [node_id for node_id, node in graph.items() if source in node["inputs"].values()]
    for lora in loras:
        node_id = str(max(map(int, graph)) + 1)
        inputs = {"model": source, "lora_file": lora_name(lora.path), "strength": lora.strength, "part": lora.part}
        graph[node_id] = {"class_type": "T2SVLoadLora", "inputs": inputs}
        source = [node_id, 0]
    for reader in readers:
        inputs = {name: source if value == [joined, 0] else value for name, value in graph[reader]["inputs"].items()}
        graph[reader] = {**graph[reader], "inputs": inputs}
    return graph


def lora_root(path: Path) -> Path:
    """The folder below which a LoRA is named: the nearest one called ``loras``, else its own."""
    path = path.absolute()
    return next((parent for parent in path.parents if parent.name == "loras"), path.parent)


def lora_name(path: Path) -> str:
    """How Load LoRA names the file."""
    return path.absolute().relative_to(lora_root(path)).as_posix()
