"""Run by a real ComfyUI's Python: what our nodes say of themselves there. Takes the checkout's and our folder.

Prints one JSON object: the fields that this version's classes take, our fields that came through, what was renamed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import sys
from types import SimpleNamespace

checkout, root = sys.argv[1:]
sys.argv = ["main.py", "--cpu"]
sys.path.insert(0, checkout)
import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
importlib.import_module("utils.extra_config")  # as main.py does: a later import puts another `utils` before it
import server  # noqa: E402

try:
    from app.node_replace_manager import NodeReplaceManager
except ImportError:  # older than the manager
    NodeReplaceManager = object
server.PromptServer.instance = SimpleNamespace(node_replace_manager=NodeReplaceManager())

spec = importlib.util.spec_from_file_location(
    "sounding_video", f"{root}/__init__.py", submodule_search_locations=[root]
)
sys.modules["sounding_video"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["sounding_video"])
from sounding_video.nodes import NODES  # noqa: E402
from sounding_video.nodes.host import HOST_NAME, Rename, io, rename_nodes  # noqa: E402

assert HOST_NAME == "comfyui"
rename = Rename(
    "T2SVGone", "T2SVMux", {"images": "pictures"}, widgets=("rate",), values={"format": "mkv"}, outputs={0: 1}
)
asyncio.run(rename_nodes((rename,)))
entries = getattr(server.PromptServer.instance.node_replace_manager, "_replacements", {}).get("T2SVGone", [])
schemas = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in NODES}
told = {
    "schema_takes": sorted(inspect.signature(io.Schema).parameters),
    "input_takes": sorted(inspect.signature(io.Combo.Input).parameters),
    "words": getattr(schemas["T2SVMux"], "search_aliases", None),
    "comes_back": [name for name, schema in schemas.items() if getattr(schema, "has_intermediate_output", False)],
    "advanced": [port.id for port in schemas["T2SVMux"].inputs if port.as_dict().get("advanced")],
    "renamed": [entry.as_dict() for entry in entries],
}
print(json.dumps(told))
