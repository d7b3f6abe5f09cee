"""The values of a page node's widgets by name. The page writes them as a bare list, in the order of the widgets.

Which widgets a node has, only its description in ``/object_info`` tells.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..nodes.own import AS_SET, MODES

_DEFAULTS = {"INT": 0, "FLOAT": 0, "STRING": "", "BOOLEAN": False}
_DYNAMIC_CHOICE = "COMFY_DYNAMICCOMBO_V3"
# What the page makes a widget of; every other type is a socket.
_RARE = (
    "COLOR COLORS MARKDOWN TEXTAREA TREESELECT SELECTBUTTON MULTISELECT CURVE RANGE PAINTER COMPOSITOR CHART GALLERIA"
)
_TYPES = {*_DEFAULTS, "COMBO", _DYNAMIC_CHOICE, "BOUNDING_BOX", "BOUNDING_BOXES", *_RARE.split(" ")}
_SEEDS = ("seed", "noise_seed")
_COMMENT = re.compile(r"/\*[\s\S]*?\*/|//.*")


def widget_values(node: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    """Values by input name as they stand; widgets that the file has no value for have their default.

    Args:
        node: A node in the page's format.
        info: Its entry of ``/object_info``.
    """
    given = node.get("widgets_values")
    if given is None:
        given = node.get("widgets_values_named")
    if isinstance(given, Mapping):
        return {name: given.get(name, _default(kind, options)) for name, kind, options in _ports(info["input"], info)}
    values: dict[str, Any] = {}
    _take(iter(_without_forced(list(given or ()), info)), _ports(info["input"], info), "", values)
    return values


def sent_values(node: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    """As :func:`widget_values`, with one of ``{one|another}`` picked in texts that the page picks in."""
    dynamic = {name for name, _, options in _ports(info["input"], info) if options.get("dynamicPrompts")}
    values = widget_values(node, info)
    return {
        name: _played(value) if name in dynamic and isinstance(value, str) else value for name, value in values.items()
    }


def _take(given: Iterator[Any], ports: Iterator[tuple[str, str, Mapping[str, Any]]], prefix: str, values: dict) -> None:
    """Hand the values out in order; a dynamic choice brings the widgets of what is chosen with it."""
    for name, kind, options in ports:
        value = next(given, _default(kind, options))
        values[prefix + name] = value
        if kind == _DYNAMIC_CHOICE:
            chosen = next((each for each in options.get("options", ()) if each.get("key") == value), {})
            _take(given, _ports(chosen.get("inputs") or {}), f"{prefix}{name}.", values)
        for _ in range(_control_slots(prefix + name, kind, options)):
            next(given, None)


def _ports(
    inputs: Mapping[str, Mapping[str, Any]], info: Mapping[str, Any] | None = None
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Name, type and options of every input with a widget, in the page's order."""
    for kind in ("required", "optional"):
        ports = inputs.get(kind) or {}
        order = ((info or {}).get("input_order") or {}).get(kind) or ()
        for name in dict.fromkeys([*(name for name in order if name in ports), *ports]):
            io_type, options = _spec(ports[name])
            if io_type in _TYPES and not options.get("forceInput"):
                yield name, io_type, options


def _spec(spec: Any) -> tuple[str, Mapping[str, Any]]:
    """An input's type and options; the older way to write choices is the list of them in place of a type."""
    io_type, options = spec[0], (spec[1] if len(spec) > 1 else None) or {}
    if isinstance(io_type, list):
        return "COMBO", {**options, "options": io_type}
    return options.get("widgetType") or io_type, options


def _default(kind: str, options: Mapping[str, Any]) -> Any:
    if tuple(options.get("options") or ()) == MODES:  # younger than the file, which goes by its own values
        return AS_SET
    if "default" in options:
        return options["default"]
    choices = options.get("options") or [None]
    return _DEFAULTS.get(kind, choices[0].get("key") if isinstance(choices[0], Mapping) else choices[0])


def _control_slots(name: str, kind: str, options: Mapping[str, Any]) -> int:
    """Widgets that the page puts behind this one: what happens to a seed after a run, and a filter for choices."""
    controlled = options.get("control_after_generate")
    if controlled is None:
        controlled = kind == "INT" and name in _SEEDS
    return 0 if not controlled else 2 if kind == "COMBO" else 1


def _without_forced(given: list[Any], info: Mapping[str, Any]) -> list[Any]:
    """Old files may hold values for inputs that have no widget any more; the number of values tells, as on the page."""
    forced: list[bool] = []
    for kind in ("required", "optional"):
        for raw in (info["input"].get(kind) or {}).values():
            io_type, options = _spec(raw)
            if options.get("forceInput") or io_type in _TYPES:
                forced.append(bool(options.get("forceInput")))
                forced += [False] * bool(options.get("control_after_generate"))
    if True not in forced or len(forced) != len(given):
        return given
    return [value for value, skip in zip(given, forced, strict=True) if not skip]


def _played(text: str) -> str:
    """A text with ``{one|another}`` in it, of which the page picks one by chance; comments are taken out."""
    text, made, at = _COMMENT.sub("", text), "", 0
    while at < len(text):
        if text[at] == "{":
            choices, at = _choices(text, at + 1)
            made += _played(random.choice(choices))
        else:
            length = 2 if text[at] == "\\" else 1
            made, at = made + text[at : at + length], at + length
    return re.sub(r"\\([{}|])", r"\1", made)


def _choices(text: str, at: int) -> tuple[list[str], int]:
    """What stands between the signs | up to the brace's end, and where that is."""
    choices, depth = [""], 0
    while at < len(text):
        sign = text[at : at + 2] if text[at] == "\\" else text[at]
        at += len(sign)
        if sign == "}" and depth == 0:
            break
        depth += {"{": 1, "}": -1}.get(sign, 0)
        if sign == "|" and depth == 0:
            choices.append("")
        else:
            choices[-1] += sign
    return choices, at
