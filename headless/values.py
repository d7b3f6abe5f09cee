"""Values of widgets, read as a ComfyUI server reads them: ``7.0`` and ``"7"`` are whole numbers to it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

from ..core.errors import WorkflowError
from ..core.options import shown
from ..nodes.host.folders import why_unusable
from ..nodes.host.io import Input

log = logging.getLogger(__name__)

WIDGETS = {
    "INT": "a whole number",
    "FLOAT": "a number",
    "STRING": "text",
    "BOOLEAN": "true or false",
    "COMBO": "one of its options",
}
_READERS: Mapping[str, Callable[[Any], Any]] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
_YES_NO = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False, "on": True, "off": False}
# The page wraps a list in this, because a bare list is a link.
WRAPPED = "__value__"


def read_value(where: str, port: Input, value: Any, check_options: bool) -> Any:
    """A workflow's value as the server would hand it to the node.

    Args:
        where: Node and input, for messages.
        port: The input.
        value: As it stands in the file.
        check_options: Whether it must be on the input's list, because it runs here; then oddities are told too.

    Raises:
        WorkflowError: it cannot be read, is out of range, is not on the list, or the input takes links only.
    """
    if isinstance(value, dict) and WRAPPED in value:
        value = value[WRAPPED]
    if port.io_type not in WIDGETS:
        raise WorkflowError(
            f"{where} takes no value", got=repr(value)[:80], expected=f"a link from a {port.io_type} output"
        )
    try:
        taken = _READERS[port.io_type](value) if port.io_type in _READERS else value
    except (TypeError, ValueError, OverflowError) as error:
        raise WorkflowError(
            f"{where}: wrong type", got=f"{value!r} ({type(value).__name__})"[:80], expected=WIDGETS[port.io_type]
        ) from error
    if port.io_type == "COMBO" and not isinstance(value, (str, int, float)):
        raise WorkflowError(f"{where}: wrong type", got=shown(value), expected=WIDGETS["COMBO"])
    if check_options and _means_something_else(port.io_type, value, taken):
        log.warning("%s: %s counts as %r, as it does on a ComfyUI server", where, repr(value)[:80], taken)
    if port.io_type == "COMBO" and check_options and taken not in port.options["options"]:
        raise WorkflowError(
            f"{where}: not among its options",
            got=repr(value),
            expected="one of " + ", ".join(port.options["options"]),
            remedy=" ".join(why_unusable(port.id, value)) if isinstance(value, str) else "",
        )
    if port.io_type in ("INT", "FLOAT"):
        low, high = port.options.get("min", -math.inf), port.options.get("max", math.inf)
        if not low <= taken <= high:
            raise WorkflowError(f"{where}: out of range", got=taken, expected=f"{low} to {high}")
    return taken


def _means_something_else(io_type: str, value: Any, taken: Any) -> bool:
    """Whether the server probably reads something else than the file's writer meant: 2.5 as 2, "false" as true."""
    if io_type == "INT":
        return isinstance(value, float) and value != taken
    if io_type == "BOOLEAN":
        return isinstance(value, str) and _YES_NO.get(value.strip().lower(), False) is not taken
    return io_type == "STRING" and not isinstance(value, (str, int, float))


def from_text(io_type: str, value: Any, target: str) -> Any:
    """A command line and a table give texts; read them as the input's type.

    Args:
        io_type: ComfyUI's name of the type.
        value: A text; anything else is left as it is, or made a text where texts are wanted.
        target: ``NODE.INPUT``, for messages.

    Raises:
        WorkflowError: the text cannot be read.
    """
    if io_type in ("STRING", "COMBO") and isinstance(value, (bool, int, float)):
        return str(value)
    if not isinstance(value, str) or io_type not in ("INT", "FLOAT", "BOOLEAN"):
        return value
    try:
        if io_type == "BOOLEAN":
            return _YES_NO[value.strip().lower()]
        return _whole(value) if io_type == "INT" else float(value)
    except (ValueError, KeyError, OverflowError) as error:
        raise WorkflowError(
            f"the value for {target} cannot be read", got=repr(value), expected=WIDGETS[io_type]
        ) from error


def _whole(text: str) -> int:
    """``7`` and ``7.0``; a whole number does not pass through a float, because seeds have 64 bits."""
    try:
        return int(text)
    except ValueError:
        number = float(text)
        if not number.is_integer():
            raise
        return int(number)
