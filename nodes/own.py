"""Inputs that follow the loaded model: what still stands at a node's default is what the model was made for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.errors import require_choice
from ..models.own import PUBLISHED, OwnSettings
from .host import io

FROM_MODEL, AS_SET = "from the model", "as set here"
MODES = (FROM_MODEL, AS_SET)


def defaults_input(what: str) -> io.Input:
    """The choice, to be appended. A workflow without it means ``as set here``: it is older than the choice.

    Args:
        what: What follows, for the tooltip.
    """
    return io.Combo.Input(
        "defaults",
        options=list(MODES),
        default=FROM_MODEL,
        optional=True,
        tooltip=f"from the model: {what} that still stand at this node's defaults are those that the loaded model was "
        "made for. as set here: the values above, whatever the model.",
    )


def settled(mode: str, own: OwnSettings, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values to work with.

    Args:
        mode: One of ``MODES``.
        own: What the model was made for.
        given: Values by the name of a setting; their nodes' defaults are the published system's.

    Raises:
        InputError: another mode.
    """
    require_choice("defaults", mode, MODES)
    if mode == AS_SET:
        return dict(given)
    return {name: getattr(own, name) if value == getattr(PUBLISHED, name) else value for name, value in given.items()}


def followed(given: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """A sentence that names what was taken from the model; empty where nothing was."""
    taken = [f"{name} {_worded(values[name])}" for name in given if values[name] != given[name]]
    return f"{', '.join(taken)}: from the model" if taken else ""


def _worded(value: Any) -> str:
    return (value or "empty") if isinstance(value, str) else f"{float(value):g}"
