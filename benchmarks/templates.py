"""Lay the templates of the page out anew from their API twins, with their notes, and the blueprint from the first.

    .venv/bin/python benchmarks/templates.py

Files go to ``workflows/``; ComfyUI's own nodes are known from ``tests/nodes``.
"""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from sounding_video.nodes.host.graph import read_workflow
from sounding_video.nodes.host.known_files import known_file
from sounding_video.nodes.host.ui_format import ui_workflow

ROOT = Path(__file__).parents[1]
BRIDGES = """For the bridges, switch `download_now` on below and press Run; then press R and choose the file in *Load
Bridge*. Those of the folder `bicross` need the fusion `dual_cross`."""
FILES = (
    "wan2.1_t2v_1.3B_fp16.safetensors",
    "umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    "wan_2.1_vae.safetensors",
    "stable-audio-open-1.0.safetensors",
    "t5-base.safetensors",
)
LINKS = "\n".join(f"- {file['directory']}/[{file['name']}]({file['url']})" for file in map(known_file, FILES))
NOTES = {
    "text_to_sounding_video_pocket": """## Press Run
A clip of 64×64 pixels with its sound appears on the right in about 20 seconds.

The bundled model is small and knows ten scenes: anvil, bouncing ball, beacon, drum, water drops, engine, fireworks,
knocking, pendulum, rain. Describe one of them, once for the eye and once for the ear.""",
    "text_to_sounding_video_wan_1.3b": f"""## The real models
Five files, 15 GB, in ComfyUI's folder `models`. Others of the same models do as well: choose yours in the loaders.
{LINKS}

{BRIDGES}""",
    "text_to_sounding_video_native": f"""## ComfyUI's own models
Five files, 15 GB, in ComfyUI's folder `models`. Any loader, LoRA or patch that gives a MODEL may stand here instead.
{LINKS}

{BRIDGES}""",
}


def known_natives() -> Any:
    """The module of the tests that describes ComfyUI's own nodes."""
    spec = importlib.util.spec_from_file_location("native_nodes", ROOT / "tests" / "nodes" / "native_nodes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page_format(name: str) -> dict[str, Any]:
    """A template as the page has it."""
    note = NOTES.get(name)
    with known_natives().known():
        graph = read_workflow(ROOT / "workflows" / "api" / f"{name}.json")
        return ui_workflow(graph, notes=() if note is None else (_flowing(note),))


def _flowing(text: str) -> str:
    """A note without the line breaks of this file; a note keeps every one."""
    return re.sub(r"(?<=[^\n])\n(?=[^\n#-])", " ", text.replace("\n", "\n\n", 1))


def write(path: Path, value: dict[str, Any]) -> None:
    """As the other files of the folder stand there."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    for file in sorted((ROOT / "workflows" / "api").glob("*.json")):
        write(ROOT / "workflows" / file.name, page_format(file.stem))
