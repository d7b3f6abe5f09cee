"""Where nodes stand on the page: the prompt first, one group a stage, with room for what appears while they run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from typing import Any

from ..nodes.host.io import Input
from .graph import Step

WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
# Groups with their colours, from left to right; the last three stand below the others.
_GET, _PROMPT, _SAMPLING, _RESULT, _SIZE, _MODELS = "Get the models", "Prompt", "Sampling", "Result", "Size", "Models"
_CLIP = "Your clip"
_COLOURS = {
    _GET: "#8A8",
    _PROMPT: "#3f789e",
    _SAMPLING: "#A88",
    _RESULT: "#b58b2a",
    _SIZE: "#88A",
    _MODELS: "#8AA",
    _CLIP: "#A8A",  # last: the others keep their numbers in files
}
_ABOVE = (_GET, _PROMPT, _SAMPLING, _RESULT)
_BY_CATEGORY = {
    "captions": _PROMPT,
    "conditioning": _PROMPT,
    "latent": _SAMPLING,
    "sampling": _SAMPLING,
    "loaders": _MODELS,
    "output": _RESULT,
    "evaluation": _RESULT,
}
_BY_NODE = {
    "T2SVDownloadModels": _GET,
    "T2SVEmptyAVLatent": _SIZE,
    "CLIPTextEncode": _PROMPT,
    "UNETLoader": _MODELS,
    "CLIPLoader": _MODELS,
    "VAELoader": _MODELS,
    "CheckpointLoaderSimple": _MODELS,
}
_LEFT, _TOP, _GAP, _ROW_WIDTH = 60, 120, 60, 1700
_PADDING, _TITLES = 20, 80  # of a group around its nodes: beside and below, and above for its title and a node's
_WIDTH, _WIDE = 320, 420
_SCALE, _EDGE = 0.7, 110  # how a workflow opens: texts can be read; pixels for the page's own bars
# Room below the widgets for what appears while a node runs: the page's own player, its text, and our panels of web/js.
_FILE_ROOM = 320
_LEAST_ROOM = 60
_ROOM = {
    "T2SVMux": 430,
    "T2SVJoinTowers": 220,
    "T2SVLoadPavDit": 220,
    "T2SVJointSampler": 400,
    "T2SVNativeSampler": 400,
    "T2SVEncodeCaptions": 150,
    "T2SVDecodeAV": 190,
    "T2SVEncodeClip": 190,
    "T2SVEmptyAVLatent": 100,
    "T2SVExpandPrompt": 340,
    "T2SVEditAnchors": 650,
    "T2SVCaptionVideo": 310,
    "T2SVLoadBridge": 130,
    "T2SVLoadAlignment": 150,
    "T2SVConditionOnPicture": 190,
    "T2SVConditionOnSound": 190,
    "T2SVDownloadModels": 200,
}
Place = tuple[list[int], list[int]]  # position of the upper left corner, and size


def ports_on_page(step: Step) -> tuple[list[Input], list[Input]]:
    """Sockets and widgets of a node, each in the page's order: required before optional."""
    ordered = sorted(step.schema.inputs, key=lambda port: port.optional)
    widgets = [port for port in ordered if port.io_type in WIDGET_TYPES and not port.options.get("forceInput")]
    return [port for port in ordered if port not in widgets], widgets


def laid_out(
    steps: list[Step], notes: Mapping[str, tuple[int, int]] | None = None
) -> tuple[dict[str, Place], list[dict[str, Any]], dict[str, Any]]:
    """Places of all nodes and notes, the groups around them, and the view in which the page opens them.

    Args:
        steps: The nodes.
        notes: Sizes of notes, which stand above the nodes that get models, or else above the prompt.
    """
    sizes = {**(notes or {}), **{step.node_id: _size(step) for step in steps}}
    members: dict[str, list[list[str]]] = {title: [] for title in _COLOURS}
    given = _giving_a_clip(steps)
    stages = {step.node_id: _CLIP if step.node_id in given else _stage(step) for step in steps}
    for title in members:
        members[title] = _by_depth([step for step in steps if stages[step.node_id] == title])
    pairs = range(0, len(members[_CLIP]), 2)  # narrow: it is not what one looks at
    members[_CLIP] = [[*chain(*members[_CLIP][place : place + 2])] for place in pairs]
    if notes:
        beside = _GET if members[_GET] else _PROMPT
        first, *others = members[beside] or [[]]
        members[beside] = [[*notes, *first], *others]
    places: dict[str, Place] = {}
    left, below = _LEFT, _TOP
    for title in _ABOVE:
        if members[title]:
            right, end = _stack(members[title], sizes, places, left, _TOP)
            left, below = right + _GAP, max(below, end)
    top = below + _TITLES + 2 * _PADDING
    left = _LEFT
    for title in (_SIZE, _CLIP):
        if members[title]:
            left = _stack(members[title], sizes, places, left, top)[0] + _GAP
    _rows([name for column in members[_MODELS] for name in column], sizes, places, left, top)
    groups = [_group(number, title, members[title], places) for number, title in enumerate(_COLOURS) if members[title]]
    view = {"scale": _SCALE, "offset": [round(_EDGE / _SCALE) - _LEFT + _PADDING, round(_EDGE / _SCALE) - _TOP + 60]}
    return places, groups, {"ds": view}


def _stage(step: Step) -> str:
    category = step.schema.category.rpartition("/")[2]
    return _BY_NODE.get(step.schema.node_id) or _BY_CATEGORY.get(category, _SAMPLING)


def _giving_a_clip(steps: list[Step]) -> set[str]:
    """Nodes that give Encode Clip its picture and sound: whoever has a clip of one's own puts that in their place."""
    known = {step.node_id: step for step in steps}
    found: set[str] = set()
    encoding = [step for step in steps if step.schema.node_id == "T2SVEncodeClip"]
    waiting = [step.links[side][0] for step in encoding for side in ("images", "audio") if side in step.links]
    while waiting:
        name = waiting.pop()
        if name not in found and name in known and _stage(known[name]) not in (_GET, _MODELS):
            found.add(name)
            waiting += [source for source, _ in known[name].links.values()]
    return found


def _by_depth(steps: list[Step]) -> list[list[str]]:
    """Columns: a node stands right of those of the same stage that it needs."""
    depth: dict[str, int] = {}
    for step in steps:
        depth[step.node_id] = max(
            (depth[source] + 1 for source, _ in step.links.values() if source in depth), default=0
        )
    return [[name for name in depth if depth[name] == column] for column in sorted(set(depth.values()))]


def _size(step: Step) -> tuple[int, int]:
    """A node's size on the page, measured as the page does: title, sockets, widgets, a large field for long texts."""
    sockets, widgets = ports_on_page(step)
    long_texts = sum(bool(port.options.get("multiline")) for port in widgets)
    seeds = sum(bool(port.options.get("control_after_generate")) for port in widgets)
    height = 40 + 20 * max(len(sockets), len(step.schema.outputs)) + 24 * (len(widgets) + seeds) + 76 * long_texts
    room = _ROOM.get(step.schema.node_id, _FILE_ROOM if step.schema.is_output_node else 0)
    return _WIDE if long_texts or room else _WIDTH, height + max(room, _LEAST_ROOM)


def _stack(
    columns: list[list[str]], sizes: Mapping[str, tuple[int, int]], places: dict[str, Place], left: int, top: int
) -> tuple[int, int]:
    """Put columns side by side; gives where the last ends, and where the longest does."""
    below = top
    for column in columns:
        y = top
        for name in column:
            places[name] = ([left, y], list(sizes[name]))
            y += sizes[name][1] + _GAP
        left += max(sizes[name][0] for name in column) + _GAP
        below = max(below, y - _GAP)
    return left - _GAP, below


def _rows(
    names: Iterable[str], sizes: Mapping[str, tuple[int, int]], places: dict[str, Place], start: int, top: int
) -> None:
    """Put nodes side by side, in a new row where one would get too long."""
    left, height = start, 0
    for name in names:
        if left > start and left + sizes[name][0] > start + _ROW_WIDTH:
            left, top, height = start, top + height + _GAP, 0
        places[name] = ([left, top], list(sizes[name]))
        left += sizes[name][0] + _GAP
        height = max(height, sizes[name][1])


def _group(number: int, title: str, columns: list[list[str]], places: Mapping[str, Place]) -> dict[str, Any]:
    boxes: Collection[Place] = [places[name] for column in columns for name in column]
    left, top = (min(position[axis] for position, _ in boxes) for axis in (0, 1))
    right, below = (max(position[axis] + size[axis] for position, size in boxes) for axis in (0, 1))
    box = [left - _PADDING, top - _TITLES, right - left + 2 * _PADDING, below - top + _TITLES + _PADDING]
    return {"id": number, "title": title, "bounding": box, "color": _COLOURS[title], "font_size": 24, "flags": {}}
