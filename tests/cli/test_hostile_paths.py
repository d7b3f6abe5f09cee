"""Every option of every command that takes a path gets every hostile one; the options come from the parser itself.

A new option is tried without a new test; a new command needs a line that runs it, in ``USUAL``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rights import without_rights
from sounding_video.cli import build_parser, given
from sounding_video.cli.given import PathOption, free_text, path_options
from user_files import write_file

COMMANDS = next(a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
SMALL = ("--models", "MODELS", "--frames", "5", "--size", "32x32", "--steps", "1", "--no-expand")
# What a command needs beside the option that is tried: positional arguments and required options by their name.
USUAL: dict[str, dict[str, str | tuple[str, ...]]] = {
    "generate": {"prompt": "x", "--output": "new/c.mp4", "": SMALL},
    "sound": {"inputs": "VIDEO", "--output": "new/c.mp4", "": ("--models", "MODELS", "--steps", "1", "--no-expand")},
    "picture": {"inputs": "VIDEO", "--output": "new/c.mp4", "": ("--models", "MODELS", "--steps", "1", "--no-expand")},
    "run": {"workflow": "WORKFLOW", "": ("--models", "MODELS", "--output-dir", "new")},
    "queue": {"workflows": "WORKFLOW", "--server": "http://127.0.0.1:9", "": ("--output-dir", "new")},
    "probe": {"file": "VIDEO"},
    "expand": {},
    "caption": {"clips": "VIDEO", "--output": "new/l.jsonl", "": ("--looking", "server")},
    "synth": {"--number": "1", "--output": "new", "": ("--size", "32x32", "--frames", "5")},
    "train": {"recipe": "pocket_video"},
    "evaluate": {"folder": "CLIPS"},
    "models": {},
    "download": {"name": "bridge"},
    "convert": {"checkpoint": "BRIDGE", "--output": "new/b.safetensors"},
    "doctor": {"": ("--plan",)},
}
LONG = {"-o": "--output"}
NOT_READ = {("--caption-model", "--no-expand"), ("--comfyui", "--plan")}
TOO_LONG = "x" * 300


def _make(make: Callable[[Path], object]) -> Callable[[Path], str]:
    def hostile(folder: Path) -> str:
        make(folder / "it")
        return str(folder / "it")

    return hostile


def _socket(path: Path) -> None:
    socket.socket(socket.AF_UNIX).bind(os.path.relpath(path))  # names of sockets are short


def _locked(path: Path) -> None:
    path.mkdir()
    (path / "inside").touch()
    path.chmod(0)


def _locked_file(path: Path) -> None:
    path.write_text("{}")
    path.chmod(0)


def _not_utf8(folder: Path) -> str:
    name = os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.bin")
    Path(name).write_bytes(os.urandom(4096))
    return name


# to be read: nothing good can come of any
READ: dict[str, Callable[[Path], str]] = {
    "nothing": lambda folder: str(folder / "nothing" / "there"),
    "a locked file": _make(_locked_file),
    "a locked folder": _make(_locked),
    "in a locked folder": lambda folder: _make(_locked)(folder) + "/inside",
    "too long": lambda folder: TOO_LONG,
    "too deep": lambda folder: "/".join(["d" * 200] * 30),
    "nobody's home": lambda folder: "~nobody_of_that_name/x",
    "a link to nothing": _make(lambda path: path.symlink_to(path / "gone")),
    "a link to itself": _make(lambda path: path.symlink_to(path)),
    "a pipe": _make(os.mkfifo),
    "a socket": _make(_socket),
    "a device without end": lambda folder: "/dev/zero",
    "a link to a device": _make(lambda path: path.symlink_to("/dev/urandom")),
    "a file that keeps its reader waiting": lambda folder: "/proc/kmsg",
    "a zero byte": lambda folder: f"{folder}/a\0b",
    "an empty name": lambda folder: "",
    "a blank name": lambda folder: " \t",
    "an empty file": _make(Path.touch),
    "a file of noise, its name no text": _not_utf8,
    "a file as a folder": lambda folder: _make(Path.touch)(folder) + "/x.mp4",
}
# to be written
WRITE: dict[str, Callable[[Path], str]] = {
    "in a locked folder": lambda folder: _make(_locked)(folder) + "/c.mp4",
    "below a locked folder": lambda folder: _make(_locked)(folder) + "/new/c.mp4",
    "too long": lambda folder: f"{folder}/new/{TOO_LONG}.mp4",
    "in a folder that is too long": lambda folder: f"{folder}/{TOO_LONG}/c.mp4",
    "too deep": lambda folder: f"{folder}/{'/'.join(['d' * 200] * 30)}.mp4",
    "nobody's home": lambda folder: "~nobody_of_that_name/x.mp4",
    "a full device": lambda folder: "/dev/full",
    "a link to a device": _make(lambda path: path.symlink_to("/dev/null")),
    "a pipe": _make(os.mkfifo),
    "a socket": _make(_socket),
    "a file as a folder": lambda folder: _make(Path.touch)(folder) + "/c.mp4",
    "a file as a folder's folder": lambda folder: _make(Path.touch)(folder) + "/d/c.mp4",
    "below a link to nothing": lambda folder: _make(lambda path: path.symlink_to(path / "gone"))(folder) + "/c.mp4",
    "below a link to itself": lambda folder: _make(lambda path: path.symlink_to(path))(folder) + "/c.mp4",
    "where nobody can write": lambda folder: "/proc/self/c.mp4",
    "a zero byte": lambda folder: f"{folder}/a\0b.mp4",
    "an empty name": lambda folder: "",
    "a blank name": lambda folder: "  ",
}
WRITE_FILE = {**WRITE, "a folder": _make(Path.mkdir), "a locked folder": _make(_locked)}
WRITE_FOLDER = {**WRITE, "a file": _make(Path.touch), "a link to nothing": READ["a link to nothing"]}


def _options(*, heavy: bool) -> Iterator[object]:
    """Every option that takes a path; those for which models are loaded before anybody looks are heavy."""
    for name, parser in COMMANDS.items():
        for action, kind in path_options(parser):
            if heavy is (kind.check is None and name in ("generate", "sound", "picture", "doctor")):
                option = action.option_strings[-1] if action.option_strings else action.dest
                yield pytest.param(name, option, kind, id=f"{name} {option}")


@pytest.fixture
def files(tmp_path: Path, small_models_dir: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict]:
    """What the words in capitals of ``USUAL`` stand for; the working folder is empty but for what a test makes."""
    monkeypatch.setattr("sounding_video.models.weights.hub.hub_cache", lambda: tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("SOUNDING_VIDEO_MODELS", "SOUNDING_VIDEO_LLM_SERVER", "OPENAI_API_KEY", "SOUNDING_VIDEO_LLM_KEY"):
        monkeypatch.delenv(name, raising=False)
    clips, work = tmp_path / "clips", tmp_path / "work"
    clips.mkdir()
    work.mkdir()
    monkeypatch.chdir(work)
    yield {
        "VIDEO": write_file(clips / "v.mp4"),
        "CLIPS": clips,
        "MODELS": small_models_dir,
        "BRIDGE": small_models_dir / "bridge.safetensors",
        "WORKFLOW": root / "workflows" / "api" / "text_to_sounding_video_pocket.json",
    }
    for path in work.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)


@contextlib.contextmanager
def no_waiting(seconds: int) -> Iterator[None]:
    def rings(number: int, frame: object) -> None:
        raise AssertionError(f"it waits for more than {seconds} s")

    before = signal.signal(signal.SIGALRM, rings)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def everything(folder: Path) -> set[str]:
    return {os.fsdecode(path) for path in folder.rglob("*")}


def attempt(name: str, option: str, path: str, files: dict, command: Callable) -> str:
    """Run a command with a hostile path; gives what is wrong with its answer, or nothing."""
    usual = dict(USUAL[name])
    line = [*map(str, usual.pop("", ()))]
    # Not read where nothing is expanded, or where only a plan is made.
    line = [each for each in line if (option, each) not in NOT_READ]
    usual.pop(LONG.get(option, option), None)
    before = everything(Path.cwd())
    line += [f"{option}={path}"] if option.startswith("-") else []
    positional = [] if option.startswith("-") else [path]
    for key, value in usual.items():
        line += [key, value] if key.startswith("-") else []
        positional += [] if key.startswith("-") else [value]
    arguments = [files.get(str(one), one) for one in (*positional, *line)]
    with without_rights(), no_waiting(60):
        outcome = command(name, *arguments)
    if outcome.code not in (2, 3) or "Traceback" in outcome.err:
        return f"exit code {outcome.code}: {outcome.err}"
    if "error: " not in outcome.err.splitlines()[-1]:
        return f"no sentence: {outcome.err}"
    left = everything(Path.cwd()) - before
    return f"left behind: {left}" if left else ""


def try_all(name: str, option: str, kind: PathOption, hostile: dict, files: dict, command: Callable) -> None:
    wrong = {}
    for number, (words, make) in enumerate(hostile.items()):
        folder = Path.cwd() / str(number)
        folder.mkdir()
        problem = attempt(name, option, make(folder), files, command)
        wrong |= {words: problem} if problem else {}
    assert not wrong, f"{name} {option}: {wrong}"


def hostile_for(kind: PathOption) -> dict[str, Callable[[Path], str]]:
    if not kind.writes:
        return READ
    return WRITE_FOLDER if kind is given.NEW_FOLDER else WRITE_FILE if kind is given.NEW_FILE else WRITE


@pytest.mark.parametrize(("name", "option", "kind"), _options(heavy=False))
def test_a_hostile_path_ends_in_a_sentence(name, option, kind, files, command) -> None:
    try_all(name, option, kind, hostile_for(kind), files, command)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "option", "kind"), _options(heavy=True))
def test_a_hostile_model_ends_in_a_sentence(name, option, kind, files, command) -> None:
    try_all(name, option, kind, hostile_for(kind), files, command)


def test_every_command_has_a_line_that_runs_it() -> None:
    assert set(USUAL) == set(COMMANDS)


def test_what_looks_like_a_path_is_declared_as_one() -> None:
    places = ("FILE", "DIR", "PATH", "CLIP", "PICTURE", "PNG", "VIDEO", "CKPT", "WORKFLOW", "MODEL")
    for name, parser in COMMANDS.items():
        for action in parser._actions:
            if any(place in str(action.metavar) for place in places):
                assert isinstance(action.type, PathOption), f"{name} {action.dest} declares no kind of path"


def _words() -> Iterator[object]:
    for name, parser in COMMANDS.items():
        for action in parser._actions:
            if action.nargs != 0 and action.type is not free_text:
                yield pytest.param(name, action, id=f"{name} {action.dest}")


@pytest.mark.parametrize(("name", "action"), _words())
@pytest.mark.parametrize("text", ["", " "])
def test_an_empty_word_is_refused(name, action, text, command) -> None:
    """Taken for the default, it would do something that nobody asked for."""
    option = action.option_strings[-1] if action.option_strings else ""
    outcome = command(name, f"{option}={text}" if option else text)
    assert outcome.code == 2, outcome
    assert outcome.err.startswith("error: argument "), outcome


@pytest.mark.parametrize("text", ["\udcff", "a\0b"])
def test_words_that_are_no_text_are_refused(text, command, tmp_path) -> None:
    """A terminal hands over any bytes; a tokenizer takes text only."""
    for arguments in (
        ("expand", text),
        ("generate", text, "-o", tmp_path / "x.mp4"),
        ("generate", "x", "-o", tmp_path / "x.mp4", "--audio-caption", text),
        ("expand", "x", "--mode", text),
        ("sound", text, "-o", tmp_path / "x.mp4"),
    ):
        outcome = command(*arguments)
        assert (outcome.code == 2 and "names nothing" in outcome.err) or "not text" in outcome.err, outcome


def _choices() -> Iterator[object]:
    for name, parser in COMMANDS.items():
        for action in parser._actions:
            if isinstance(action.type, given.Choice):
                yield pytest.param(name, action.option_strings[-1], id=f"{name} {action.dest}")


@pytest.mark.parametrize(("name", "option"), _choices())
def test_a_word_that_is_no_choice_is_refused_even_where_nothing_asks_for_it(name, option, command) -> None:
    """``sound`` without a text writes no captions, and ``--no-expand`` none either."""
    outcome = command(name, f"{option}=evil")
    assert outcome.code == 2, outcome
    assert f"error: argument {option}: unknown " in outcome.err and "got 'evil'; expected one of " in outcome.err


def test_who_writes_captions_is_a_choice_everywhere() -> None:
    found = {(parameter.values[0], parameter.values[1]) for parameter in _choices()}
    for name in ("generate", "sound", "picture", "expand"):
        assert {(name, option) for option in ("--mode", "--backend", "--profile", "--quantization")} <= found
