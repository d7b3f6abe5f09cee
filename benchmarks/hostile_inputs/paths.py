"""Kinds 1, 2 and 13: paths, environments, terminals, and what is left behind where a command fails late."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from .case import EITHER, REFUSED, SMALL, Case, Place

SPARSE = 10**12
ODD_NAMES = (
    "a\nb", "\x1b[31mred", "\x1b]0;title\x07", "\u202egpj.4pm", "\ufeffbom", "a\u2028b", "a\x7fb", "-rf", "--json",
    "~", "$HOME", "%s%n", "{0.__class__}", "a'b\"c", "CON", "x" * 255, "\U0001f941", "e\u0301" * 80, "*?[x]", "a\\b",
    "\udcff\udcfe", "..mp4", "a b\t", "#", "%date:yyyy%", "a:b", ";reboot", "$(touch x)", "&", "\x9b2J",
)  # fmt: skip


def _folder(name: str) -> Callable[[Path], str]:
    def make(work: Path) -> str:
        (work / name).mkdir()
        return name

    return make


def _loop(work: Path) -> str:
    for number in range(3):
        (work / f"l{number}").symlink_to(f"l{(number + 1) % 3}")
    return "l0"


def _chain(work: Path) -> str:
    for number in range(60):
        (work / f"c{number}").symlink_to(f"c{number + 1}")
    (work / "c60").write_text("{}")
    return "c0"


def _socket_linked(work: Path) -> str:
    socket.socket(socket.AF_UNIX).bind("s")
    (work / "to a socket").symlink_to("s")
    return "to a socket"


def _sparse(work: Path) -> str:
    """A terabyte without a byte; the child's own bound on files stands against it, and is lifted for it."""
    bound = resource.getrlimit(resource.RLIMIT_FSIZE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    with (work / "sparse").open("wb") as file:
        for size in (SPARSE, bound[0] - 1):
            with contextlib.suppress(OSError):
                file.truncate(size)
                break
    resource.setrlimit(resource.RLIMIT_FSIZE, bound)
    return "sparse"


def _not_text(work: Path) -> str:
    name = os.fsdecode(b"\xc3\x28\xf0\x9f.json")
    Path(work / name).write_bytes(b"\xc3\x28")
    return name


# What is no file with anything in it that could be read; none of these is in the tests.
READ: dict[str, Callable[[Path], str]] = {
    "links in a ring": _loop,
    "a chain of 60 links": _chain,
    "a link to a socket": _socket_linked,
    "a sparse file": _sparse,
    "a folder with a file's name": _folder("a.json"),
    "this folder": lambda work: ".",
    "the root": lambda work: "/",
    "a device of memory": lambda work: "/dev/mem",
    "its own memory": lambda work: "/proc/self/mem",
    "its own pages": lambda work: "/proc/self/pagemap",
    "its own environment": lambda work: "/proc/self/environ",
    "standard input": lambda work: "/dev/stdin",
    "a number of no file": lambda work: "/dev/fd/987",
    "the terminal": lambda work: "/dev/tty",
    "chance": lambda work: "/dev/random",
    "a file of the kernel": lambda work: "/proc/kcore",
    "what waits for the kernel": lambda work: "/sys/kernel/debug/tracing/trace_pipe",
    "a name that is no text": _not_text,
    "a folder as a file": lambda work: _folder("d")(work) + "/",
    "above the root": lambda work: "/../../../../../no/where",
    "an address": lambda work: "http://127.0.0.1:9/x",
    "a file's address": lambda work: "file:///etc/passwd",
    "a minus": lambda work: "-",
    "a name of blanks": lambda work: "\u3000",
    "another system's": lambda work: "C:\\windows\\win.ini",
    "another machine's": lambda work: "\\\\host\\share\\a",
    "bytes 0xFF": lambda work: "\udcff" * 10,
}
READERS: dict[str, Callable[[str], list[str]]] = {
    "expand --anchors": lambda path: ["expand", f"--anchors={path}"],
    "probe": lambda path: ["probe", "--", path],
    "sound": lambda path: ["sound", "-o", "new/c.mp4", *SMALL[:2], "--steps", "1", "--no-expand", "--", path],
    "evaluate --manifest": lambda path: ["evaluate", "{shared}/world", f"--manifest={path}"],
    "run": lambda path: ["run", "--output-dir", "new", "--", path],
    "caption --input": lambda path: ["caption", f"--input={path}", "-o", "new/l.jsonl", "--looking", "server"],
    "convert": lambda path: ["convert", "-o", "new/b.safetensors", "--", path],
    "generate --first-frame": lambda path: ["generate", "x", "-o", "new/c.mp4", *SMALL, f"--first-frame={path}"],
    "generate --bridge": lambda path: ["generate", "x", "-o", "new/c.mp4", *SMALL, f"--bridge={path}"],
    "generate --lora": lambda path: ["generate", "x", "-o", "new/c.mp4", *SMALL, f"--lora={path}"],
    "generate --alignment": lambda path: ["generate", "x", "-o", "new/c.mp4", *SMALL, f"--alignment={path}"],
    "models": lambda path: ["models", f"--models={path}"],
    "doctor --plan": lambda path: ["doctor", "--plan", "--models", "pocket", f"--bridge={path}"],
    "queue --csv": lambda path: ["queue", "{shared}/clip.mp4", "--server", "http://127.0.0.1:9", f"--csv={path}"],
}
# Folders are what these take, so that one is no fault.
FOLDERS = {"models": ("this folder", "the root", "a folder with a file's name", "a folder as a file")}
ENVIRONMENTS: dict[str, dict[str, str | None]] = {
    "HOME is a file": {"HOME": "/etc/hostname"},
    "HOME is a device": {"HOME": "/dev/null"},
    "HOME is relative": {"HOME": "here"},
    "HOME is empty": {"HOME": ""},
    "HOME is nowhere": {"HOME": "/no/where"},
    "HOME is too long": {"HOME": "/" + "h" * 5000},
    "HOME is no text": {"HOME": "/\udcff"},
    "XDG_CACHE_HOME is a file": {"XDG_CACHE_HOME": "/etc/hostname"},
    "XDG_CACHE_HOME is /proc": {"XDG_CACHE_HOME": "/proc"},
    "HF_HOME is a device": {"HF_HOME": "/dev/zero"},
    "TMPDIR is nowhere": {"TMPDIR": "/no/where"},
    "SOUNDING_VIDEO_MODELS is a ring": {"SOUNDING_VIDEO_MODELS": "/proc/self/cwd/l0"},
    "SOUNDING_VIDEO_MODELS is blank": {"SOUNDING_VIDEO_MODELS": " "},
    "SOUNDING_VIDEO_MODELS is the root's": {"SOUNDING_VIDEO_MODELS": "/proc/1/root"},
    "COLUMNS is a word": {"COLUMNS": "wide"},
    "COLUMNS is below zero": {"COLUMNS": "-5"},
    "COLUMNS is 10**9": {"COLUMNS": str(10**9)},
    "LANG is none": {"LANG": "xx_YY.none", "LC_ALL": "xx_YY.none"},
    "the server is a file": {"SOUNDING_VIDEO_LLM_SERVER": "file:///etc/passwd"},
    "a proxy that is none": {"http_proxy": "socks9://x", "HTTPS_PROXY": "::::"},
}
COMMANDS: dict[str, list[str]] = {
    "generate": ["generate", "x", "-o", "new/c.mp4", *SMALL],
    "expand": ["expand", "rain on a roof"],
    "models": ["models"],
    "doctor": ["doctor", "--plan", "--models", "pocket"],
    "synth": ["synth", "-n", "1", "-o", "new", "--size", "32x32", "--frames", "5"],
}


def cases(chance: random.Random) -> Iterator[Case]:
    """All of the three kinds."""
    for what, make in READ.items():
        for reader in chance.sample(list(READERS), 3):
            right = EITHER if what in FOLDERS.get(reader, ()) or what == "a chain of 60 links" else REFUSED

            def line(place: Place, make: Callable = make, reader: str = reader) -> list[str]:
                given = make(place.work)
                return [part.replace("{shared}", str(place.shared)) for part in READERS[reader](given)]

            yield Case(1, f"{reader}: {what}", line, right)
    yield from _written(chance)
    for what, environment in ENVIRONMENTS.items():
        name = chance.choice(list(COMMANDS))
        yield Case(1, f"{name}: {what}", COMMANDS[name], EITHER, environment, may_name_home=True)
    yield from _poor()
    yield from _shown(chance)
    yield from _late()


def _written(chance: random.Random) -> Iterator[Case]:
    places = {
        "onto itself": "{shared}/world/train-x.mp4/..", "a folder's name": "d/", "this folder": ".", "above": "..",
        "the root": "/", "standard output": "/dev/stdout", "a device of memory": "/dev/mem", "in /sys": "/sys/c.mp4",
        "in /proc/self/fd": "/proc/self/fd/c.mp4", "only an ending": ".mp4", "two endings": "c.mp4.", "a minus": "-",
        "ending in capitals": "d/c.MP4", "a ring": "l0/c.mp4", "an ending of a program": "c.exe", "none": "c",
        "date without end": "%date:" + "y" * 3000 + "%.mp4", "date of slashes": "%date:../../../x%.mp4",
        "half a date": "%date:yyyy.mp4", "an address": "http://127.0.0.1:9/c.mp4", "a pipe's address": "pipe:1.mp4",
        "a protocol": "md5:c.mp4", "tee": "tee:c.mp4|d.mp4",
    }  # fmt: skip
    for what, path in places.items():

        def line(place: Place, path: str = path) -> list[str]:
            _loop(place.work)
            return ["generate", "x", *SMALL, f"--output={path.format(shared=place.shared)}"]

        yield Case(1, f"generate -o: {what}", line, EITHER)
    for name in chance.sample(ODD_NAMES, 14):
        yield Case(1, f"synth -o {name!r:.30}", ["synth", "-n", "1", "--size", "32x32", "--frames", "5", f"-o={name}"],
            EITHER, may_name_home=name == "~")  # fmt: skip
    for name in chance.sample(ODD_NAMES, 12):
        long = name.encode("utf-8", "surrogateescape")[:240].decode("utf-8", "surrogateescape")
        yield Case(1, f"generate -o {name!r:.30}.mp4", ["generate", "x", *SMALL, "--json", f"-o={long}.mp4"], EITHER)

    def onto_itself(place: Place) -> list[str]:
        shutil.copy(place.shared / "clip.mp4", place.work / "a.mp4")
        (place.work / "b.mp4").hardlink_to(place.work / "a.mp4")
        return ["sound", "a.mp4", "-o", "b.mp4", *SMALL[:2], "--steps", "1", "--no-expand", "--overwrite"]

    yield Case(1, "sound -o: a hard link to what it reads", onto_itself, EITHER, leaves=("b.mp4",))

    def gone(place: Place) -> None:
        (place.work / "gone").mkdir()
        os.chdir(place.work / "gone")
        (place.work / "gone").rmdir()

    for name in ("generate", "synth", "expand", "models"):
        yield Case(1, f"{name}: in a folder that is gone", COMMANDS[name], EITHER, before=gone)


def _poor() -> Iterator[Case]:
    """Little is allowed: open files, size of files, another user."""

    def nobody(place: Place) -> None:
        for folder in (place.root, place.home, place.work, place.root.parent):
            folder.chmod(0o755)
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)

    def few_files(place: Place) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))

    def odd_user(place: Place) -> None:
        place.work.chmod(0o777)
        os.setresuid(54321, 54321, 54321)

    for name in COMMANDS:
        yield Case(1, f"{name}: as nobody, in a folder of somebody's", COMMANDS[name], EITHER, before=nobody)
        yield Case(1, f"{name}: as a user without a name or a home", COMMANDS[name], EITHER, {"HOME": None},
            before=odd_user)  # fmt: skip
    for name in ("generate", "synth", "models"):
        yield Case(1, f"{name}: twelve open files", COMMANDS[name], EITHER, before=few_files)


def _shown(chance: random.Random) -> Iterator[Case]:
    encodings = ("ascii", "cp1252", "shift_jis", "utf-16", "cp437", "koi8-r", "utf-7")
    words = "ein Trommler \U0001f941 schl\u00e4gt \u592a\u9f13 \u202e\u0410\u0411 \ufdfd \x85"
    lines: dict[str, list[str]] = {
        "expand": ["expand", words],
        "expand --json": ["expand", words, "--json"],
        "an error": ["expand", words, "--mode", "\u592a\u9f13"],
        "an error --json": ["probe", "\u592a\u9f13.mp4", "--json"],
        "generate": ["generate", words, "-o", "\u592a\u9f13.mp4", *SMALL, "--verbose"],
        "train --list": ["train", "--list"],
        "download": ["download"],
        "help": ["generate", "--help"],
        "models": ["models", "--models", "pocket"],
    }
    for name, line in lines.items():
        for encoding in chance.sample(encodings, 3):
            right = EITHER if "error" not in name else REFUSED
            yield Case(2, f"{name}: a terminal of {encoding}", line, right, encoding=encoding)

    def closed(number: int) -> Callable[[Place], None]:
        return lambda place: os.close(number)

    def full(place: Place) -> None:
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)

    def all_full(place: Place) -> None:
        full(place)
        os.dup2(1, 2)

    def broken(place: Place) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)

    def for_reading(place: Place) -> None:
        os.dup2(os.open("/dev/null", os.O_RDONLY), 1)

    for name in ("expand --json", "models", "train --list", "help", "download"):
        yield Case(2, f"{name}: standard error is closed", lines[name], EITHER, before=closed(2), unheard=True)
        yield Case(2, f"{name}: standard output is closed", lines[name], EITHER, before=closed(1))
        yield Case(2, f"{name}: both are full", lines[name], REFUSED, before=all_full, unheard=True)
        yield Case(2, f"{name}: nobody reads on", lines[name], (0, 2, 3, 141), before=broken)
        yield Case(2, f"{name}: standard output is only for reading", lines[name], EITHER, before=for_reading)
    names = chance.sample([name for name in ODD_NAMES if "/" not in name and len(name) < 200], 12)
    for name in names:

        def line(place: Place, name: str = name) -> list[str]:
            folder = place.work / "m"
            folder.mkdir()
            shutil.copy(place.shared / "clip.mp4", folder / f"{name}.mp4")
            (folder / f"{name}.safetensors").write_bytes(b"no weights")
            return ["models", "--models", "m", "--all"] if len(name) % 2 else ["evaluate", "m"]

        yield Case(2, f"a file called {name!r:.30}", line, EITHER)


def _late() -> Iterator[Case]:
    """What fails when something has been made already."""

    def little_room(place: Place) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    late: dict[str, list[str]] = {
        "generate": ["generate", "x", *SMALL, "-o", "a/b/c/d.mp4"],
        "generate three": ["generate", "x", *SMALL, "-o", "a/c.mp4", "-n", "3"],
        "generate a sound": ["generate", "x", *SMALL, "-o", "a/b/c.flac"],
        "sound": ["sound", "{shared}/clip.mp4", "x", *SMALL[:2], "--steps", "1", "--no-expand", "-o", "a/b.mkv"],
        "picture": ["picture", "{shared}/clip.wav", "x", *SMALL[:2], "--steps", "1", "--no-expand", "-o", "a/b.webm"],
        "synth": ["synth", "-n", "2", "-o", "a/b", "--size", "64x64", "--frames", "9"],
        "convert": ["convert", "{pocket}/bridge.safetensors", "-o", "a/b/c.safetensors"],
        "probe --picture": ["probe", "{shared}/clip.mp4", "--picture", "a/b/c.png"],
        "evaluate --pictures": ["evaluate", "{shared}/world", "--pictures", "a/b"],
        "run": ["run", "{workflow}", "--output-dir", "a/b", "--set", "T2SVJointSampler.steps=1"],
        "train": ["train", "pocket_audio", "--output", "a/run", "data.num_clips=2", "data.num_frames=9",
            "data.width=32", "data.height=32", "num_steps=2", "batch_size=1", "device=cpu", "data.scenes=ball"],
    }  # fmt: skip
    root = Path(__file__).parents[2]
    fields = {"pocket": str(root / "models" / "pocket"),
        "workflow": str(root / "workflows" / "api" / "text_to_sounding_video_pocket.json")}  # fmt: skip
    for name, words in late.items():

        def line(place: Place, words: list[str] = words) -> list[str]:
            return [part.format(shared=place.shared, **fields) if "{" in part else part for part in words]

        yield Case(13, f"{name}: room for 3000 bytes a file", line, (1, 2, 3), before=little_room)
    bad: dict[str, list[str]] = {
        "a LoRA that is no file": ["generate", "x", *SMALL, "-o", "a/b.mp4", "--lora", "none.safetensors"],
        "a codec that the file cannot hold": ["generate", "x", *SMALL, "-o", "a/b.webm", "--codec", "h264"],
        "an unknown card": ["generate", "x", *SMALL, "-o", "a/b.mp4", "--device", "cuda:99"],
        "a picture that is none": ["generate", "x", *SMALL, "-o", "a/b.mp4", "--first-frame", "{shared}/clip.wav"],
        "a cascade without an alignment": ["generate", "x", *SMALL, "-o", "a/b.mp4", "--cascade", "video_first",
            "--alignment", "none.safetensors"],
        "the second of two": ["sound", "{shared}/clip.mp4", "{shared}/none.mp4", *SMALL[:2], "-o", "a"],
        "an input that is not set": ["run", "{workflow}", "--output-dir", "a", "--set", "T2SVJointSampler.nosuch=1"],
        "no server": ["caption", "{shared}/clip.mp4", "-o", "a/l.jsonl", "--looking", "server", "--server",
            "http://127.0.0.1:9/v1", "--looking-model", "x"],
        "a scene that is not": ["synth", "-n", "1", "-o", "a/b", "--scene", "volcano"],
        "a setting that is not": ["train", "pocket_audio", "--output", "a/b", "nosuch=1"],
        "a folder of nothing to train on": ["train", "pocket_audio", "--output", "a/b", "data.source=none"],
        "a metric that is not": ["evaluate", "{shared}/world", "--output", "a/b", "--metrics", "taste"],
        "pictures of no clips": ["evaluate", ".", "--pictures", "a/b", "--output", "a/c"],
        "no model to download": ["download", "wan-9000b", "--models", "a/b"],
        "a hub that nobody may ask": ["download", "wan-1.3b", "--models", "a/b"],
        "no server of ComfyUI": ["queue", "{workflow}", "--server", "http://127.0.0.1:9", "--output-dir", "a/b"],
        "no language model": ["generate", "x", *SMALL[:-1], "-o", "a/b.mp4", "--backend", "openai_server",
            "--server", "http://127.0.0.1:9/v1", "--caption-model", "x"],
    }  # fmt: skip
    for name, words in bad.items():

        def line(place: Place, words: list[str] = words) -> list[str]:
            return [part.format(shared=place.shared, **fields) if "{" in part else part for part in words]

        yield Case(13, name, line, (1, 2, 3))
