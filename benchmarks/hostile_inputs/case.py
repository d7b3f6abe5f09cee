"""One try: what is laid out, the command, and what is right; it runs in a forked child that may do little harm."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HOME_NAME, USER, KEY = "verysecrethome", "verysecretuser", "sk-verysecretkey-0123456789abcdef"
KEYS = ("OPENAI_API_KEY", "SOUNDING_VIDEO_LLM_KEY", "HF_TOKEN", "ANTHROPIC_API_KEY")
UNSET = (
    "SOUNDING_VIDEO_MODELS",
    "SOUNDING_VIDEO_LLM_SERVER",
    "XDG_CACHE_HOME",
    "HF_HOME",
    "HF_HUB_CACHE",
    "COMFYUI_PATH",
)
CPU_SECONDS, WALL_SECONDS = 20, 150
MOST_MEMORY, MOST_FILE = 3 << 30, 300 << 20
REFUSED, EITHER, RIGHT = (2, 3), (0, 2, 3), (0,)
TRACEBACK = 99
# A small clip of the bundled model.
SMALL = ("--models", "pocket", "--frames", "5", "--steps", "1", "--no-expand")


@dataclass(frozen=True)
class Place:
    """Where one try happens.

    Args:
        root: A folder of its own, with all others below it.
        shared: What many tries read, made once.
    """

    root: Path
    shared: Path

    @property
    def work(self) -> Path:
        """Where the command stands; what is left there is looked at."""
        return self.root / "work"

    @property
    def home(self) -> Path:
        """The home folder, whose name nobody may learn."""
        return self.root / HOME_NAME

    @property
    def canary(self) -> Path:
        """What hostile code makes, or says, when it runs."""
        return self.root / "canary"

    @property
    def elsewhere(self) -> Path:
        """What was asked of a server that nobody named."""
        return self.root / "elsewhere"


@dataclass(frozen=True)
class Case:
    """One hostile input.

    Args:
        kind: Its number in the list of kinds.
        name: Says what is odd about it.
        line: The command; made in the child, where it may also lay out files.
        codes: Exit codes that are right.
        environment: Changes of the environment; None takes a variable away.
        encoding: Of standard output and error.
        before: Done in the child just before the command.
        check: Looks at what there is afterwards, with exit code, output and errors; says what is wrong.
        leaves: Names of what may be there afterwards, though the command failed.
        may_name_home: Whether the user named the home folder.
        leaves_hidden: Whether what was begun may lie in hidden files, for the next run to go on.
        keeps: Whether what is whole may stay, for the next run to go on.
        unheard: Whether nobody can hear what is said.
        fresh: In a new Python, for what is read once at the start.
    """

    kind: int
    name: str
    line: Callable[[Place], Sequence[str]] | Sequence[str]
    codes: tuple[int, ...] = REFUSED
    environment: Mapping[str, str | None] = field(default_factory=dict)
    encoding: str = "utf-8"
    before: Callable[[Place], object] = lambda place: None
    check: Callable[[Place, int, str, str], str] | None = None
    leaves: tuple[str, ...] = ()
    may_name_home: bool = False
    leaves_hidden: bool = False
    keeps: bool = False
    unheard: bool = False
    fresh: bool = False


@dataclass
class Outcome:
    """What became of a case; ``problems`` is empty where it was handled well."""

    code: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    hang: bool = False
    leak: bool = False
    ran: bool = False
    said: str = ""


def run(case: Case, place: Place) -> Outcome:
    """Run a case in a child process, and judge it."""
    for folder in (place.work, place.home):
        folder.mkdir(parents=True)
    child = os.fork()
    if not child:
        _in_child(case, place)
    started = time.monotonic()
    status = None
    while status is None:
        done, found, used = os.wait4(child, os.WNOHANG)
        if done:
            status = found
        elif time.monotonic() - started > WALL_SECONDS:
            os.kill(child, signal.SIGKILL)
            status, used = os.wait4(child, 0)[1:]
        else:
            time.sleep(0.02)
    outcome = Outcome(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime)
    outcome.hang = outcome.code in (-signal.SIGXCPU, -signal.SIGKILL) and -outcome.code not in case.codes
    _judge(case, place, outcome)
    return outcome


def _in_child(case: Case, place: Place) -> None:
    code = TRACEBACK
    try:
        _settle(case, place)
        line = list(case.line(place) if callable(case.line) else case.line)
        (place.root / "line").write_text(json.dumps(line))
        (place.root / "before").write_text(json.dumps(seen(place.work)))
        _streams(case, place)
        case.before(place)
        if case.fresh:
            os.execv(sys.executable, [sys.executable, "-m", "sounding_video", *line])
        code = _command(line)
    except BaseException:  # noqa: BLE001 - whatever a command lets through is what is looked for
        with open(place.root / "err", "a") as file:  # noqa: PTH123 - standard error may be closed
            traceback.print_exc(file=file)
    finally:
        os._exit(code & 255)


def _command(line: Sequence[str]) -> int:
    from sounding_video.cli import main

    sys.argv[1:] = line  # as a process of its own, which takes no signals when it has said how it ended
    try:
        return main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0


def _settle(case: Case, place: Place) -> None:
    """Into its own session, folder, environment and bounds."""
    os.setsid()
    os.chdir(place.work)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MOST_MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 2))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_FILE,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for name in UNSET:
        os.environ.pop(name, None)
    os.environ.update({"HOME": str(place.home), "USER": USER, "LOGNAME": USER, "NO_PROXY": "127.0.0.1"})
    os.environ.update(dict.fromkeys(KEYS, KEY))
    for name, value in case.environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value.format(work=place.work, home=place.home, shared=place.shared)


def _streams(case: Case, place: Place) -> None:
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(place.root / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
        os.close(file)
    how = {"encoding": case.encoding, "errors": "strict", "write_through": True}
    sys.stdout = io.TextIOWrapper(open(1, "wb", closefd=False, buffering=0), **how)  # noqa: SIM115
    sys.stderr = io.TextIOWrapper(open(2, "wb", closefd=False, buffering=0), **how)  # noqa: SIM115
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)


def seen(folder: Path) -> dict[str, list[int]]:
    """Everything below a folder with its kind, size and time; links are not followed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        is_folder = path.is_dir() and not path.is_symlink()
        found[os.fsencode(path.relative_to(folder)).decode("latin-1")] = (
            [0, 0] if is_folder else [status.st_size, status.st_mtime_ns]
        )
    return found


def _judge(case: Case, place: Place, outcome: Outcome) -> None:
    out, err = (_text(place.root / name, case.encoding) for name in ("out", "err"))
    outcome.said = f"{out[-1500:]}\n{err[-3000:]}"
    wrong = outcome.problems
    if outcome.hang:
        wrong.append("it does not end")
    elif outcome.code not in case.codes:
        wrong.append(f"exit code {outcome.code}")
    if "Traceback (most" in out + err:
        wrong.append("a traceback")
    line = json.loads(_text(place.root / "line", "utf-8") or "[]")
    if (
        outcome.code > 0
        and outcome.code not in (130, 141, 143, 129)
        and outcome.code in case.codes
        and not (case.unheard or _is_a_sentence(line, out, err))
    ):
        wrong.append("no sentence")
    if any((ord(char) < 32 and char not in "\n\t\r") or char == "\x7f" for char in out + err):
        wrong.append("steers the terminal")
    _look_for_files(case, place, outcome)
    if place.canary.exists() or (place.work / "canary").exists():
        outcome.ran = True
        wrong.append("hostile code has run")
    _look_for_secrets(case, place, outcome, out + err)
    if case.check is not None and not wrong and (problem := case.check(place, outcome.code, out, err)):
        wrong.append(problem)


def _is_a_sentence(line: Sequence[str], out: str, err: str) -> bool:
    if "--json" in line:
        try:
            return bool(json.loads(out)["error"]["message"])
        except (ValueError, KeyError, TypeError):
            return err.rstrip().rpartition("\n")[2].startswith("error: ")
    lines = [text for text in err.splitlines() if text.startswith("error: ")]
    return len(lines) == 1 and len(lines[0]) < 6000


def _look_for_files(case: Case, place: Place, outcome: Outcome) -> None:
    if not (place.root / "before").exists():
        outcome.problems.append("the try itself failed")
        return
    before, after = json.loads((place.root / "before").read_text()), seen(place.work)
    new = [name for name in after if name not in before and name not in case.leaves]
    if case.leaves_hidden and any("/." in f"/{name}" for name in new):
        new = [name for name in new if "." in name and "/." not in f"/{name}"]
    hidden = [name for name in new if any(part.startswith(".sounding") for part in name.split("/"))]
    if outcome.code and new and not case.keeps:
        outcome.problems.append(f"left behind: {new[:5]}")
    elif hidden:
        outcome.problems.append(f"temporary files: {hidden[:5]}")
    changed = [name for name, mark in before.items() if after.get(name) != mark and name not in case.leaves]
    if changed and outcome.code:
        outcome.problems.append(f"lost or changed: {changed[:5]}")


def _look_for_secrets(case: Case, place: Place, outcome: Outcome, said: str) -> None:
    secrets = [USER, KEY, KEY[3:20]] + ([] if case.may_name_home else [HOME_NAME])
    before = json.loads(_text(place.root / "before", "utf-8") or "{}")
    told = {"what was printed": said.encode("utf-8", "replace")}
    for path in place.work.rglob("*"):
        name = os.fsencode(path.relative_to(place.work)).decode("latin-1")
        if path.is_file() and not path.is_symlink() and name not in before and path.stat().st_size < 50_000_000:
            told[name] = path.read_bytes()
    if place.elsewhere.exists():
        told["what was sent elsewhere"] = place.elsewhere.read_bytes()
        outcome.problems.append("a server was asked that nobody named")
    for where, content in told.items():
        for secret in secrets:
            if secret.encode() in content:
                outcome.leak = True
                outcome.problems.append(f"{secret} stands in {where}")


def _text(path: Path, encoding: str) -> str:
    try:
        return path.read_bytes().decode(encoding if encoding != "ascii" else "utf-8", "replace")
    except OSError:
        return ""


def after(seconds: float, do: Callable[[], object]) -> None:
    """Do something a little later, whatever the command is at."""
    timer = threading.Timer(seconds, do)
    timer.daemon = True
    timer.start()
