"""What this pack adds to ComfyUI's start (needs COMFYUI_PATH), and how long the command takes to its first step.

    python benchmarks/startup.py             # the real server, with and without the pack
    python benchmarks/startup.py --command   # sounding-video generate --models pocket

Of the command the time until its captions are read is shown, from where on it samples, in seconds of all its threads,
beside the imports of the stock classes that it runs, once as they are and once without the packages that the command
leaves out (``cli/libraries.py``), which it cannot do without.

Of the server, ``--quick-test-for-ci`` loads everything a start loads and ends. Printed are the whole start with and
without the pack, ComfyUI's own line for it (best of the runs), and from one run under ``-X importtime`` what takes the
time. Limit: under 0.5 s.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

PACK = "ComfyUI-SoundingVideo"
ROOT = Path(__file__).resolve().parents[1]
LIMIT_SECONDS = 0.5
# Classes of the libraries that a run of the bundled model takes.
STOCK = (
    "import torch, av; from transformers import T5EncoderModel, UMT5EncoderModel, PreTrainedTokenizerFast; "
    "from diffusers import AutoencoderKLWan, AutoencoderOobleck, StableAudioDiTModel, WanTransformer3DModel, "
    "UniPCMultistepScheduler, CosineDPMSolverMultistepScheduler"
)


@dataclass(frozen=True)
class Start:
    """One start of ComfyUI.

    Args:
        seconds: By the clock.
        cpu_seconds: Of all its threads; a busy machine changes it less.
        log: What it printed.
    """

    seconds: float
    cpu_seconds: float
    log: str


def start(comfyui: Path, *, pack: bool, import_times: bool = False) -> Start:
    """Start ComfyUI, let it load everything and end."""
    with tempfile.TemporaryDirectory() as folder:
        packs = Path(folder) / "custom_nodes"
        packs.mkdir()
        (packs / PACK).symlink_to(ROOT, target_is_directory=True)
        flags = ["-X", "importtime"] if import_times else []
        command = [
            os.environ.get("COMFYUI_PYTHON", sys.executable), *flags, "main.py", "--cpu", "--quick-test-for-ci",
            "--disable-auto-launch", "--disable-api-nodes", "--base-directory", folder,
            "--database-url", f"sqlite:///{Path(folder) / 'comfyui.db'}", "--disable-all-custom-nodes",
        ]  # fmt: skip
        if pack:
            command += ["--whitelist-custom-nodes", PACK]
        started, before = time.perf_counter(), os.times()
        done = subprocess.run(command, cwd=comfyui, capture_output=True, text=True, check=False)
        seconds, after = time.perf_counter() - started, os.times()
    if done.returncode:
        raise SystemExit(f"ComfyUI did not start:\n{(done.stdout + done.stderr)[-2000:]}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Start(seconds, cpu, done.stdout + done.stderr)


def own_line(log: str) -> float:
    """Seconds that ComfyUI says the pack's import took."""
    found = re.search(rf"([\d.]+) seconds: .*{re.escape(PACK)}", log)
    if found is None or "IMPORT FAILED" in log:
        raise SystemExit(f"ComfyUI did not load the pack:\n{log[-2000:]}")
    return float(found[1])


def slowest(log: str, count: int) -> list[tuple[float, str]]:
    """The pack's modules, and those it is the first to import, by their own seconds.

    ``importtime`` writes children before their parent and deeper, so what the pack pulls in are the lines above one of
    its own that are indented further.
    """
    lines = re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|( +)(\S+)", log, re.MULTILINE)
    # ComfyUI's name of a pack is its path, with dots written out.
    ours, depth = [], None
    for own, indent, name in reversed(lines):
        if PACK in name and (depth is None or len(indent) <= depth):
            depth = len(indent)
        if depth is not None and (PACK in name or len(indent) > depth):
            ours.append((int(own) / 1e6, name.rpartition(PACK)[2].lstrip(".") or name))
        elif PACK not in name:
            depth = None
    return sorted(ours, reverse=True)[:count]


def cpu_seconds_until(command: list[str], mark: str) -> float:
    """CPU seconds that a command takes until it prints a mark on stderr, or ends."""
    import psutil

    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        watched, seconds = psutil.Process(process.pid), 0.0
        for line in process.stderr:
            if mark in line:
                times = watched.cpu_times()
                seconds = times.user + times.system
                break
        process.stderr.read()
    if process.returncode or not seconds:
        raise SystemExit(f"the command did not come to {mark!r}: exit code {process.returncode}")
    return seconds


def command_table(runs: int) -> str:
    """The command's start and its floors, which take turns."""
    there = "import sys; print('there', file=sys.stderr, flush=True); import time; time.sleep(1)"
    left_out = (
        "from argparse import Namespace; from sounding_video.cli.libraries import leave_out_unused; "
        "leave_out_unused(Namespace(alone=True, storage='native', backend=None))"
    )
    python = [sys.executable, "-W", "ignore", "-c"]
    with tempfile.TemporaryDirectory() as folder:
        generate = [sys.executable, "-m", "sounding_video", "generate", "a red ball bounces", "--models", "pocket"]
        generate += ["--steps", "1", "-o", str(Path(folder) / "a.mp4")]
        rows = {
            "imports of the stock classes, with all that is installed": ([*python, f"{STOCK}; {there}"], "there"),
            "the same without what the command leaves out": ([*python, f"{left_out}; {STOCK}; {there}"], "there"),
            "sounding-video generate --models pocket, to its first step": (generate, "reading captions"),
        }
        turns = [{name: cpu_seconds_until(*row) for name, row in rows.items()} for _ in range(runs)]
    first = next(iter(rows))
    lines = [f"| start, best of {runs} | CPU seconds | of the first, median of turns |", "|---|---|---|"]
    for name in rows:
        shares = [turn[name] / turn[first] for turn in turns]
        lines.append(f"| {name} | {min(turn[name] for turn in turns):.2f} | {median(shares):.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print a table; exit 1 above the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3, help="starts of each kind (default: 3)")
    parser.add_argument("--command", action="store_true", help="the command instead of the server")
    args = parser.parse_args()
    runs = args.runs
    if args.command:
        print(command_table(runs))
        return
    if "COMFYUI_PATH" not in os.environ:
        print("COMFYUI_PATH is not set: nothing to measure against.")
        return
    comfyui = Path(os.environ["COMFYUI_PATH"])
    with_pack = [start(comfyui, pack=True) for _ in range(runs)]
    without = [start(comfyui, pack=False) for _ in range(runs)]
    imported = min(own_line(run.log) for run in with_pack)
    print("| start of ComfyUI, best of runs | seconds | CPU seconds |\n|---|---|---|")
    for title, kind in (("without the pack", without), ("with it", with_pack)):
        print(f"| {title} | {min(run.seconds for run in kind):.2f} | {min(run.cpu_seconds for run in kind):.2f} |")
    print(f"| the pack's import, as ComfyUI says | {imported:.1f} | |")
    modules = slowest(start(comfyui, pack=True, import_times=True).log, 1000)
    print(f"| the same, summed over {len(modules)} modules | {sum(own for own, _ in modules):.2f} | |")
    print("\nSlowest modules (with the import timer on): ")
    for own, name in modules[:8]:
        print(f"  {own * 1000:6.1f} ms  {name}")
    if imported >= LIMIT_SECONDS:
        raise SystemExit(f"The pack takes {imported:.1f} s, the limit is {LIMIT_SECONDS} s.")


if __name__ == "__main__":
    main()
