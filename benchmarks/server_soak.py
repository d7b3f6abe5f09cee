"""Many prompts in one ComfyUI: does the process grow, does a prompt fail, does ``/free`` give memory back?

    COMFYUI_PATH=… python benchmarks/server_soak.py --prompts 500 --write

Each prompt is the pocket template with another seed and another caption, so that text encoders, towers and codecs run
anew. Counted is the resident memory of the server's process after each prompt. ComfyUI itself keeps the graph and the
outputs of every prompt, up to 10 000 of them, about 0.15 MB each as Python objects; it is asked to forget them every 50
prompts, so that what grows is what the pack keeps. ``--one-heap`` starts the server with
one heap for all threads (``MALLOC_ARENA_MAX=1``): what then grows is kept by somebody.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import os
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from types import ModuleType

import psutil

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_suffix(".md")
MIB = 2**20
WARM_UP = 50


def by_path(name: str, path: Path) -> ModuleType:
    """A module of this checkout that is no part of the package."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def prompt_of(template: dict, seed: int, steps: int) -> dict:
    """The template with another seed and another caption a prompt."""
    graph = copy.deepcopy(template)
    graph["7"]["inputs"] |= {"seed": seed, "steps": steps}
    graph["6"]["inputs"]["video_caption"] += f" Take {seed}."
    graph["6"]["inputs"]["audio_caption"] += f" Take {seed}."
    return graph


def free(url: str) -> None:
    """Ask ComfyUI to let go of models and of node results, and wait until its worker came round to it."""
    body = b'{"unload_models": true, "free_memory": true}'
    urllib.request.urlopen(urllib.request.Request(f"{url}/free", body, method="POST"), timeout=60).close()
    time.sleep(5)


def forget_history(url: str) -> None:
    """Ask ComfyUI to drop the prompts that it has run."""
    body = b'{"clear": true}'
    urllib.request.urlopen(urllib.request.Request(f"{url}/history", body, method="POST"), timeout=60).close()


def soak(url: str, process: psutil.Process, template: dict, *, num_prompts: int, steps: int) -> tuple[list[int], int]:
    """Queue one prompt after the other.

    Returns:
        Resident bytes after each prompt, and how many prompts failed.
    """
    from sounding_video.core.errors import SoundingVideoError
    from sounding_video.headless.client import queue_workflow

    sizes, failed = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(num_prompts):
            try:
                report = queue_workflow(url, prompt_of(template, seed, steps), output_dir=Path(folder))
                failed += len(report.files) != 1
                for path in report.files:
                    path.unlink()
            except SoundingVideoError as error:
                failed += 1
                print(f"prompt {seed}: {error}", flush=True)
            sizes.append(process.memory_info().rss)
            if (seed + 1) % WARM_UP == 0:
                forget_history(url)
                print(f"after {seed + 1}: {sizes[-1] / MIB:.0f} MiB, {failed} failed", flush=True)
    return sizes, failed


def main() -> int:
    """Run and print; 1 when a prompt failed or the process grew by 2 % and more."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--steps", type=int, default=2, help="of the sampler a prompt (default: 2)")
    parser.add_argument("--one-heap", action="store_true", help="start the server with MALLOC_ARENA_MAX=1")
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.name}")
    given = parser.parse_args()
    servers = by_path("comfyui_server", ROOT / "tests" / "comfyui_server.py")
    from sounding_video.headless.graph import read_workflow

    (comfyui, *_) = servers.checkouts() or [None]
    if comfyui is None:
        print(servers.NO_CHECKOUT)
        return 0
    template = read_workflow(ROOT / "workflows" / "api" / "text_to_sounding_video_pocket.json")
    with (
        tempfile.TemporaryDirectory() as base,
        servers.serving(comfyui, ROOT, Path(base), None, one_heap=given.one_heap) as server,
    ):
        process = psutil.Process(server.pid)
        idle = process.memory_info().rss
        sizes, failed = soak(server.url, process, template, num_prompts=given.prompts, steps=given.steps)
        free(server.url)
        freed = process.memory_info().rss
    warm, last = sizes[min(WARM_UP, len(sizes)) - 1], sizes[-1]
    growth = last / warm - 1
    rows = [
        ("after the start", f"{idle / MIB:.0f}"),
        *((f"after {n} prompts", f"{sizes[n - 1] / MIB:.0f}") for n in range(50, len(sizes) + 1, 50)),
        ("after `/free`", f"{freed / MIB:.0f}"),
    ]
    words = (
        f"{given.prompts} prompts of {given.steps} steps on ComfyUI {servers.version_of(comfyui)}: {failed} failed; "
        f"from prompt {WARM_UP} to the last the process grew by {growth:.1%} (ComfyUI's own history dropped every "
        f"{WARM_UP} prompts); "
        f"`/free` gave back {(last - freed) / MIB:.0f} MiB."
    )
    table = "\n".join(["| server's process | MiB |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows)])
    print(f"{words}\n\n{table}")
    if given.write:
        options = " --one-heap" if given.one_heap else ""
        command = f"`COMFYUI_PATH=… python benchmarks/{Path(__file__).name} --prompts {given.prompts}{options} --write`"
        TABLE.write_text(
            f"# Many prompts in one server\n\n{command} on {os.cpu_count()} CPU cores.\n\n{words}\n\n{table}\n"
        )
    return int(bool(failed) or growth >= 0.02)


if __name__ == "__main__":
    sys.exit(main())
