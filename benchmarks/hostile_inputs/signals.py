"""Kind 12: signals at odd moments and twice, and the same command again, which has to give the same bytes."""

from __future__ import annotations

import hashlib
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence

from .case import SMALL, Case, Place, after
from .texts import POCKET, WORKFLOW

LINES: dict[str, list[str]] = {
    "generate": ["generate", "rain", "-o", "a/b/c.mp4", *SMALL[:4], "--steps", "40", "--no-expand"],
    "several": ["generate", "rain", "-o", "a/c.mkv", *SMALL, "-n", "6"],
    "sound": ["sound", "{shared}/clip.mp4", "rain", "-o", "a/c.mp4", "--models", "pocket", "--steps", "40",
        "--no-expand"],
    "synth": ["synth", "-n", "300", "-o", "a/b", "--size", "64x64", "--frames", "9"],
    "convert": ["convert", "{pocket}", "-o", "a/b.safetensors"],
    "run": ["run", "{workflow}", "--output-dir", "a"],
    "train": ["train", "pocket_audio", "--output", "a/run", "data.num_clips=2", "data.num_frames=9", "data.width=32",
        "data.height=32", "data.scenes=ball", "saving.plot=false", "device=cpu", "batch_size=1", "num_steps=500"],
    "caption": ["caption", "{shared}/world", "-o", "a/l.jsonl", "--looking", "server", "--server",
        "http://127.0.0.1:9/v1", "--looking-model", "x"],
    "expand": ["expand", "rain"],
    "doctor": ["doctor"],
}  # fmt: skip
# What a run that goes on later may leave: whole clips and their manifest, a checkpoint.
GOES_ON = ("synth", "train", "several")
SAME: dict[str, list[str]] = {
    "synth of other sizes": ["synth", "-n", "3", "-o", "{place}", "--size", "48x80", "--frames", "13", "--fps",
        "30000/1001", "--seed", "77"],
    "synth for a test": ["synth", "-n", "3", "-o", "{place}", "--size", "64x32", "--frames", "5", "--split", "test"],
    "generate to WebM": ["generate", "a drum", "-o", "{place}/a.webm", *SMALL, "--seed", "5"],
    "generate a sound": ["generate", "a drum", "-o", "{place}/a.flac", *SMALL, "--seed", "5"],
    "windows": ["generate", "a drum", "-o", "{place}/a.mkv", "--models", "pocket", "--steps", "1", "--no-expand",
        "--seconds", "4", "--windows", "blended"],
    "sound": ["sound", "{shared}/clip.mkv", "rain", "-o", "{place}/a.mkv", "--models", "pocket", "--steps", "1",
        "--no-expand"],
    "picture": ["picture", "{shared}/clip.wav", "rain", "-o", "{place}/a.mp4", "--models", "pocket", "--steps", "1",
        "--no-expand"],
    "convert": ["convert", "{pocket}", "-o", "{place}/a.safetensors"],
    "run": ["run", "{workflow}", "--output-dir", "{place}", "--set", "T2SVJointSampler.steps=1", "--no-metadata"],
    "a picture of a clip": ["probe", "{shared}/clip.mp4", "--picture", "{place}/a.png"],
}  # fmt: skip


def _words(line: Sequence[str], place: Place, folder: str = "a") -> list[str]:
    fields = {"shared": place.shared, "pocket": POCKET / "bridge.safetensors", "workflow": WORKFLOW, "place": folder}
    return [part.format(**fields) if "{" in part else part for part in line]


def cases(chance: random.Random) -> Iterator[Case]:
    """All of the kind."""
    sent = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for name, line in LINES.items():
        for times in (1, 2, 3):
            number, seconds = chance.choice(sent), chance.uniform(0.01, 1.5)

            def ring(place: Place, number: int = number, seconds: float = seconds, times: int = times) -> None:
                for more in range(times):
                    after(seconds + 0.02 * more, lambda: os.kill(os.getpid(), number))

            codes = (0, 128 + number, -number) if name != "caption" else (0, 1, 2, 128 + number, -number)
            yield Case(12, f"{name}: {number.name} after {seconds:.2f} s, {times} times", lambda place,
            line=line: _words(line, place),
                codes, before=ring, check=_goes_on if name in GOES_ON else _whole, keeps=True)  # fmt: skip
    for name, line in SAME.items():
        yield Case(12, f"{name}, twice", lambda place, line=line: _words(line, place), (0,), check=_same(line))


def _whole(place: Place, code: int, out: str, err: str) -> str:
    """Nothing, or what was finished just before; a folder of nothing is none of that."""
    empty = [path.name for path in place.work.rglob("*") if path.is_dir() and not any(path.iterdir())]
    return f"an empty folder: {empty}" if empty else _goes_on(place, code, out, err)


def _goes_on(place: Place, code: int, out: str, err: str) -> str:
    """Nothing half is there: every clip can be read."""
    from sounding_video.core.errors import SoundingVideoError
    from sounding_video.media.probe import probe

    for path in (*place.work.rglob("*.mp4"), *place.work.rglob("*.mkv")):
        try:
            probe(path)
        except SoundingVideoError as error:
            return f"half a file: {error}"
    hidden = [path.name for path in place.work.rglob(".sounding*")]
    return f"temporary files: {hidden}" if hidden else ""


def _same(line: Sequence[str]) -> Callable[[Place, int, str, str], str]:
    def check(place: Place, code: int, out: str, err: str) -> str:
        child = os.fork()
        if not child:
            ended = 1
            try:
                nothing = os.open(os.devnull, os.O_RDWR)
                os.dup2(nothing, 1)
                os.dup2(nothing, 2)
                os.chdir(place.work)
                from sounding_video.cli import main

                ended = main(_words(line, place, "again"))
            finally:
                os._exit(ended)
        if os.waitpid(child, 0)[1]:
            return "it fails the second time"
        first, second = (_bytes(place, folder) for folder in ("a", "again"))
        return "" if first and first == second else f"other bytes: {sorted(first)} and {sorted(second)}"

    return check


def _bytes(place: Place, folder: str) -> dict[str, str]:
    root = place.work / folder
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }
