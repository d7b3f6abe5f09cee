"""The options ``--bridge``, ``--fusion``, ``--placement`` and ``--rope`` of commands that run or plan the towers."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError
from .given import MODEL

if TYPE_CHECKING:
    from ..models.bridge_use import BridgeUse
    from ..models.families.base import Found
    from ..models.weights.bridges import BridgeOptions
    from ..models.weights.find import ModelSet


ROPE_HELP = "positions of the tokens, for files that do not say it: official (as published), clock, …"


def add_bridge_options(add: Callable[..., Any]) -> None:
    """Describe them to a parser or group by its ``add_argument``."""
    add(
        "--bridge",
        default="auto",
        type=MODEL,
        metavar="FILE",
        help="a bridge file, none, or auto (default) for the one in DIR",
    )
    add("--fusion", metavar="KIND", help="bridge kind, for files that do not say it: dual_cross, full, additive, …")
    add("--placement", metavar="NAME", help="after which blocks the bridges stand, for files that do not say it")
    add("--rope", metavar="KIND", help=ROPE_HELP)


def bridge_options(args: argparse.Namespace) -> BridgeOptions:
    """What the user says about the bridge file; said without a bridge it would be ignored, so it is refused."""
    from ..models.bridges import BRIDGES
    from ..models.points import placement
    from ..models.ropes import ROPES
    from ..models.weights.bridges import OFFICIAL_KINDS, BridgeOptions

    points = placement(args.placement) if args.placement is not None else None
    if args.fusion is not None:
        BRIDGES.get(OFFICIAL_KINDS.get(args.fusion, args.fusion))
    if args.rope is not None:
        ROPES.get(args.rope)
    if args.bridge == "none" and any(choice is not None for choice in (args.fusion, points, args.rope)):
        raise InputError("a bridge is described but none is loaded", got="--bridge none", expected="a bridge file")
    return BridgeOptions(fusion=args.fusion, points=points, rope=args.rope)


def chosen_bridge(choice: str, found: ModelSet) -> Path | None:
    """The file that ``--bridge`` means."""
    return found.bridge if choice == "auto" else None if choice == "none" else Path(choice)


def bridge_use(choice: str, found: Found) -> BridgeUse | None:
    """What the bridge that ``--bridge`` means was trained for; None where it does not say it, or there is none."""
    from ..models.weights.bridges import use_of

    path = chosen_bridge(choice, found) if hasattr(found, "bridge") else None
    return None if path is None else use_of(path)
