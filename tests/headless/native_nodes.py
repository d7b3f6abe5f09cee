"""ComfyUI's own nodes that a template uses, described well enough to check and lay out a workflow with them.

``native_nodes.json`` is what ComfyUI 0.3.64 says of them in ``/object_info``, without its lists of files;
``tests/integration`` compares it with the server at hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sounding_video.headless import graph
from sounding_video.nodes.host.io import ComfyNode, Input, Output, Schema

FILE_LISTS = {"unet_name", "clip_name", "vae_name", "ckpt_name"}


def described() -> dict[str, Any]:
    """Node name to its entry of ``/object_info``, reduced."""
    return json.loads(Path(__file__).with_name("native_nodes.json").read_text(encoding="utf-8"))


def reduced(info: Mapping[str, Any]) -> dict[str, Any]:
    """Ports of one entry of ``/object_info``: names, types and choices, which do not differ between machines."""
    inputs = {
        kind: {name: _port(name, spec) for name, spec in ports.items()}
        for kind, ports in info["input"].items()
        if kind != "hidden"
    }
    return {"input": inputs, "output": info["output"], "output_name": info["output_name"]}


def _port(name: str, spec: list[Any]) -> list[Any]:
    options = spec[1] if len(spec) > 1 else {}
    kind = spec[0] if isinstance(spec[0], str) else [] if name in FILE_LISTS else spec[0]
    return [kind, {key: options[key] for key in ("multiline",) if key in options}]


def node_class(name: str, info: Mapping[str, Any]) -> type[ComfyNode]:
    """A stand-in that describes the node."""
    inputs = []
    for kind, ports in info["input"].items():
        for port, (io_type, options) in ports.items():
            listed = isinstance(io_type, list)
            choices = {"options": io_type} if listed else {}
            inputs.append(Input("COMBO" if listed else io_type, port, kind == "optional", {**options, **choices}))
    outputs = [
        Output(io_type, f"{title}_out_{slot}", title, None, False)
        for slot, (io_type, title) in enumerate(zip(info["output"], info["output_name"], strict=True))
    ]

    class Foreign(ComfyNode):
        @classmethod
        def define_schema(cls) -> Schema:
            return Schema(name, inputs=inputs, outputs=outputs)

    return Foreign


@contextmanager
def known() -> Iterator[None]:
    """Let the workflow checker and the layout know these nodes beside ours."""
    ours = graph.node_classes
    both = {**ours(), **{name: node_class(name, info) for name, info in described().items()}}
    graph.node_classes = lambda: both
    try:
        yield
    finally:
        graph.node_classes = ours
