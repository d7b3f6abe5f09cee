"""Kills commands at random moments, and looks at what is left. Run: python benchmarks/reliability.py --moments 10.

Each moment is one run in a new process that gets SIGINT, SIGTERM or SIGKILL in turn at a random time of a whole run's,
and then the same command to its end in the same folder (``train`` with --resume where there is a checkpoint). Counted
are files that cannot be read, temporary files that the second run leaves, a second run that fails, results that differ
from those of a run that nobody stopped, tracebacks, and exit codes other than those of the signal. Needs no weights:
the bundled model, and for ``download`` and ``caption`` servers of its own on this machine.

With ``--results DIR`` every moment is noted there, and the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sounding_video.core.errors import SoundingVideoError
from sounding_video.core.json_text import read_json_lines
from sounding_video.media.probe import probe
from sounding_video.models.weights.files import read_safetensors

ROOT = Path(__file__).resolve().parents[1]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
CODES = {signal.SIGINT: (130, -2), signal.SIGTERM: (143, -15), signal.SIGKILL: (-9,)}
KINDS = ("stopped", "had ended", "half file", "stray file", "second run failed", "other result", "traceback",
    "other exit code")  # fmt: skip
MODELS = ("--models", "pocket", "--steps", "2", "--no-expand")
TRAINING = ("data.num_clips=2", "data.num_frames=9", "data.width=32", "data.height=32", "data.scenes=ball",
    "saving.plot=false", "saving.every=2", "saving.keep=1", "device=cpu", "batch_size=1", "num_steps=6",
    "optimizer.warmup_steps=1")  # fmt: skip
# {clips} is a folder with three clips, {server} the address of the language model's stand-in.
COMMANDS: dict[str, tuple[str, ...]] = {
    "synth": ("synth", "-n", "12", "-o", "clips", "--size", "64x64", "--frames", "17"),
    "convert": ("convert", str(ROOT / "models" / "pocket" / "bridge.safetensors"), "-o", "b.safetensors",
        "--overwrite"),
    "generate": ("generate", "rain", "-o", "clips/a.mp4", "--seed", "1", "--frames", "9", *MODELS),
    "run": ("run", str(ROOT / "workflows" / "api" / "text_to_sounding_video_pocket.json"),
        "--set", "T2SVJointSampler.steps=2", "--set", "T2SVEmptyAVLatent.num_frames=9"),
    "sound": ("sound", "{clips}", "rain", "-o", "made", "--seed", "1", *MODELS),
    "train": ("train", "pocket_audio", *TRAINING, "--output", "run"),
    "download": ("download", "wan-1.3b", "--models", "models"),
    "caption": ("caption", "{clips}", "-o", "list.jsonl", "--mode", "raw", "--looking", "server", "--server",
        "{server}", "--looking-model", "tiny"),
}  # fmt: skip
# What holds times, and so differs between any two runs.
TIMED = {"loss.jsonl"}
PIECE_BYTES, PAUSE_SECONDS = 20_000, 0.01


@dataclass
class Hub:
    """A stand-in for Hugging Face's hub and for a language model's server.

    Args:
        files: What the repository holds.
        began: Set when the first byte of a file is on its way.
        hurry: While it is not set, files come in pieces with pauses, slow enough to be stopped in between.
        environment: What commands need in theirs to find it.
    """

    files: Mapping[str, bytes]
    began: threading.Event = field(default_factory=threading.Event)
    hurry: threading.Event = field(default_factory=threading.Event)
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def chat_url(self) -> str:
        """Of the language model."""
        return self.environment["HF_ENDPOINT"] + "/v1"


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """What a file is."""
        self._answer(with_body=False)

    def do_GET(self) -> None:
        """A list, or a file."""
        self._answer(with_body=True)

    def do_POST(self) -> None:
        """A question to the language model."""
        self.rfile.read(int(self.headers["Content-Length"]))
        message = {"role": "assistant", "content": "A ball bounces on a floor."}
        self._send({"id": "1", "object": "chat.completion", "model": "tiny",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})  # fmt: skip

    def _answer(self, *, with_body: bool) -> None:
        if self.path.startswith("/v1/models"):
            self._send({"data": [{"id": "tiny"}]})
        elif self.path.startswith("/api/models/"):
            name = self.path.removeprefix("/api/models/").partition("?")[0].partition("/revision")[0]
            siblings = [{"rfilename": file, "size": len(data)} for file, data in self.hub.files.items()]
            self._send({"id": name, "sha": "d" * 40, "siblings": siblings})
        elif (name := self.path.partition("/resolve/")[2].partition("/")[2]) in self.hub.files:
            self._send_file(self.hub.files[name], with_body)
        else:  # the client asks for more than it needs
            self.send_error(404)

    def _send(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_file(self, body: bytes, with_body: bool) -> None:
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        headers = {"X-Repo-Commit": "d" * 40, "ETag": f'"{hashlib.sha256(body).hexdigest()}"'}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.send_response(206 if start else 200)
        for key, value in (headers | {"Content-Length": str(len(body) - start)}).items():
            self.send_header(key, value)
        self.end_headers()
        for place in range(start, len(body) if with_body else start, PIECE_BYTES):
            try:
                self.wfile.write(body[place : place + PIECE_BYTES])
            except OSError:  # whoever asked was stopped
                return
            self.hub.began.set()
            self.hub.hurry.wait(PAUSE_SECONDS)


@contextmanager
def hub(num_bytes: int = 600_000) -> Iterator[Hub]:
    """Serve files of so many bytes on this machine for a while."""
    names = (
        "split_files/diffusion_models/wan2.1_t2v_1.3B_fp16.safetensors",
        "split_files/vae/wan_2.1_vae.safetensors",
        "split_files/text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors",
    )
    served = Hub({name: random.Random(name).randbytes(num_bytes) for name in names})
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": served}))
    served.environment |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}  # fmt: skip
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield served
    finally:
        served.hurry.set()
        server.shutdown()
        server.server_close()


def run(
    arguments: tuple[str, ...], folder: Path, environment: Mapping[str, str], *, number: int = 0, after: float = 0.0
) -> tuple[int, str]:
    """Run a command to its end, or send it a signal after some seconds; gives exit code and what it said."""
    if arguments[0] == "train" and any(folder.glob("run/checkpoints/step-*")):
        arguments = (*arguments, "--resume")
    line = [sys.executable, "-m", "sounding_video", *arguments]
    env = {**os.environ, **environment}
    process = subprocess.Popen(line, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if number:
        time.sleep(after)
        process.send_signal(number)
    _, err = process.communicate()
    return process.returncode, err


def faults(folder: Path, *, is_last: bool) -> list[str]:
    """What is wrong with the files of a folder; what goes on later lies hidden until the last run is over."""
    found = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        if any(part.startswith(".") for part in path.relative_to(folder).parts):
            found += ["stray file"] if is_last else []
            continue
        try:
            if path.suffix == ".mp4":
                probe(path)
            elif path.suffix == ".safetensors" and folder / "models" not in path.parents:
                read_safetensors(path)
            elif path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.suffix == ".jsonl" and is_last:
                list(read_json_lines(path, what="what was written"))
        except (SoundingVideoError, ValueError):
            found.append("half file")
    return found


def contents(folder: Path) -> dict[str, str]:
    """The hash of every file, by its name."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in TIMED]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def one_moment(
    arguments: tuple[str, ...], environment: Mapping[str, str], number: int, after: float, whole: Mapping[str, str]
) -> Counter[str]:
    """Stop the command once and run it again; what happened, by kind."""
    told: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        code, err = run(arguments, folder, environment, number=number, after=after)
        told["stopped" if code else "had ended"] += 1
        told["other exit code"] += code not in (0, *CODES[number])
        told["traceback"] += "Traceback" in err and "sounding_video" in err
        told.update(faults(folder, is_last=False))
        code, err = run(arguments, folder, environment)
        told["second run failed"] += code != 0
        told["traceback"] += "Traceback" in err
        told.update(faults(folder, is_last=True))
        made = contents(folder)
        told["other result"] += any(made.get(name) != digest for name, digest in whole.items())
    return told


def moments(name: str, count: int, seed: int, results: Path, served: Hub) -> Counter[str]:
    """Stop a command so many times; what happened, by kind."""
    log = results / f"{name}-{seed}.jsonl"
    done = {row["moment"]: row["told"] for _, row in read_json_lines(log, what="results")} if log.exists() else {}
    if all(moment in done for moment in range(count)):
        return sum((Counter(done[moment]) for moment in range(count)), Counter())
    given = {"clips": str(results / "given"), "server": served.chat_url}
    arguments = tuple(part.format(**given) for part in COMMANDS[name])
    if not (results / "given").is_dir():
        run(("synth", "-n", "3", "-o", given["clips"], "--size", "64x64", "--frames", "17"), results, {})
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        code, err = run(arguments, Path(place), served.environment)
        if code:
            raise SystemExit(f"{name} fails by itself: {err}")
        lasting, whole = time.perf_counter() - started, contents(Path(place))
    for moment in sorted(set(range(count)) - set(done)):
        number, chance = SIGNALS[moment % len(SIGNALS)], random.Random(f"{name} {seed} {moment}")
        done[moment] = one_moment(arguments, served.environment, number, chance.uniform(0.02, lasting), whole)
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"moment": moment, "signal": number.name, "told": done[moment]}) + "\n")
    return sum((Counter(done[moment]) for moment in range(count)), Counter())


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--moments", type=int, default=10, help="how often each command is stopped")
    parser.add_argument("--commands", nargs="+", default=list(COMMANDS), choices=list(COMMANDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, metavar="DIR", help="where moments are noted, outside the repository")
    args = parser.parse_args()
    print(f"| command | {' | '.join(KINDS)} |\n|---|{'---|' * len(KINDS)}")
    with tempfile.TemporaryDirectory() as passing, hub() as served:
        results = (args.results or Path(passing)).absolute()
        results.mkdir(parents=True, exist_ok=True)
        for name in args.commands:
            told = moments(name, args.moments, args.seed, results, served)
            print(f"| {name} | {' | '.join(str(told[kind]) for kind in KINDS)} |", flush=True)


if __name__ == "__main__":
    main()
