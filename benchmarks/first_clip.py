"""From README to the first clip in ComfyUI, step by step, with the seconds of each. Needs COMFYUI_PATH.

    COMFYUI_PATH=… python benchmarks/first_clip.py --write

The steps are README's: clone into a fresh ``custom_nodes``, install ``requirements.txt`` (a dry run of pip, which tells
what it would add to the Python that runs ComfyUI), start ComfyUI, find the template in its list, run it, and run
it again with another seed. COMFYUI_PYTHON names that Python, if it is not this one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sounding_video.cli.probe import describe
from sounding_video.media.probe import probe

FILE = Path(__file__).with_suffix(".md")
ROOT = Path(__file__).resolve().parents[1]
PACK, TEMPLATE = "ComfyUI-SoundingVideo", "text_to_sounding_video_pocket"
PYTHON = os.environ.get("COMFYUI_PYTHON", sys.executable)
START_SECONDS = 300.0


class Steps:
    """What was done, how long it took and what came of it."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, str]] = []

    @contextmanager
    def timed(self, title: str) -> Iterator[list[str]]:
        """A step; what is put into the list is told beside its time."""
        said: list[str] = []
        started = time.perf_counter()
        yield said
        self.rows.append((title, time.perf_counter() - started, "; ".join(said)))
        print(f"{self.rows[-1][1]:7.1f} s  {title}: {self.rows[-1][2]}", flush=True)

    def table(self) -> str:
        """Markdown."""
        lines = ["| step | seconds | |", "|---|---:|---|"]
        lines += [f"| {title} | {seconds:.1f} | {said} |" for title, seconds, said in self.rows]
        lines.append(f"| all | {sum(seconds for _, seconds, _ in self.rows):.1f} | |")
        return "\n".join(lines)


def walk(comfyui: Path, base: Path) -> Steps:
    """Do as README says."""
    steps = Steps()
    pack = base / "custom_nodes" / PACK
    pack.parent.mkdir(parents=True)
    with steps.timed("`git clone`") as said:
        subprocess.run(["git", "clone", "--quiet", "--no-local", "--depth", "1", ROOT.as_uri(), pack], check=True)
        size = sum(file.stat().st_size for file in pack.rglob("*") if file.is_file() and ".git" not in file.parts)
        said.append(f"{size / 1e6:.0f} MB")
    with steps.timed("`pip install -r requirements.txt` (dry run)") as said:
        said.append(would_install(pack / "requirements.txt"))
    with server(comfyui, base, steps) as url:
        with steps.timed("the template is in ComfyUI's list") as said:
            names = get(f"{url}/workflow_templates")[PACK]
            nodes = get(f"{url}/api/workflow_templates/{PACK}/{TEMPLATE}.json")["nodes"]
            said.append(f"one of {len(names)}, {len(nodes)} nodes" if TEMPLATE in names else f"MISSING from {names}")
        for title, seed in (("Run: the first clip", 1), ("Run again, another seed", 2)):
            with steps.timed(title) as said:
                said.append(clip(url, base, seed))
    return steps


def would_install(requirements: Path) -> str:
    """What pip would add."""
    command = [PYTHON, "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-", "-r", requirements]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    added = sorted(part["metadata"]["name"] for part in report["install"])
    return f"adds {', '.join(added)}" if added else "adds nothing to this Python"


@contextmanager
def server(comfyui: Path, base: Path, steps: Steps) -> Iterator[str]:
    """ComfyUI with this pack alone, until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}", base / "server.log"
    command = [
        PYTHON, "-u", "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port), "--disable-auto-launch",
        "--disable-api-nodes", "--base-directory", str(base), "--database-url", f"sqlite:///{base / 'comfyui.db'}",
    ]  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=comfyui, stdout=out, stderr=out)
        try:
            with steps.timed("ComfyUI starts") as said:
                wait(url, process, log)
                took = re.search(rf"([\d.]+ seconds): .*{re.escape(PACK)}", log.read_text())
                said.append(f"of which this pack {took[1]}" if took else "the pack is not in its log")
            yield url
        finally:
            process.terminate()
            process.wait(30)


def wait(url: str, process: subprocess.Popen, log: Path) -> None:
    """Until the server answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            get(f"{url}/system_stats")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.25)
        else:
            return
    raise SystemExit(f"ComfyUI did not start:\n{log.read_text()[-3000:]}")


def get(url: str) -> dict:
    """An answer of the server."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def clip(url: str, base: Path, seed: int) -> str:
    """Run the template through the queue, as the page does, and look at the file."""
    target = base / f"clips {seed}"
    command = [sys.executable, "-m", "sounding_video", "queue", ROOT / "workflows" / "api" / f"{TEMPLATE}.json"]
    options = ["--server", url, "--output-dir", target, "--set", f"T2SVJointSampler.seed={seed}", "--quiet"]
    subprocess.run([*command, *options], check=True)
    (file,) = target.rglob("*.mp4")
    return describe(probe(file)).partition("; tags")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name}")
    args = parser.parse_args()
    if "COMFYUI_PATH" not in os.environ:
        print("COMFYUI_PATH is not set: there is no ComfyUI to put the pack into.")
        return
    base = Path(tempfile.mkdtemp(prefix="first-clip-"))
    try:
        text = walk(Path(os.environ["COMFYUI_PATH"]), base).table()
    finally:
        shutil.rmtree(base, ignore_errors=True)
    if args.write:
        note = f"`COMFYUI_PATH=… python benchmarks/{Path(__file__).name} --write` on {os.cpu_count()} CPU cores."
        FILE.write_text(f"# From README to the first clip in ComfyUI\n\n{note}\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
