"""Standard output and error as real processes have them: full, closed, read by nobody, of another alphabet."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sounding_video.cli import main
from sounding_video.cli.streams import Output, Talk

CODE = "from sounding_video.cli import main; sys.exit(main())"
needs_devices = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


@pytest.fixture
def start(python_with_package):
    def run(*arguments: str, before: str = "", **options: object) -> subprocess.Popen:
        return python_with_package(before + CODE, arguments, **options)

    return run


def ended(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in (err or "") and "Exception ignored" not in (err or ""), err
    return process.returncode, out, err


@needs_devices
@pytest.mark.parametrize("arguments", [("download",), ("download", "--json"), ("--help",), ("--version",)])
def test_no_room_for_the_result(start, arguments):
    with Path("/dev/full").open("w") as full:
        code, _, err = ended(start(*arguments, stdout=full))
    assert code == 2
    assert err.startswith("error: the result cannot be printed: got standard output (No space left on device)")


@needs_devices
def test_nobody_hears_what_is_said_on_the_side(start):
    """Notes, progress and errors have nowhere to go, and the work goes on."""
    with Path("/dev/full").open("w") as full:
        assert ended(start("download", stderr=full))[0] == 0
        assert ended(start("download", "no-such", stderr=full))[0] == 2


@pytest.mark.parametrize("arguments", [("download",), ("download", "--json"), ("--help",)])
def test_whoever_reads_has_heard_enough(start, arguments):
    """As ``| head -1``: no word, and the exit code that shells give."""
    read, write = os.pipe()
    os.close(read)
    code, _, err = ended(start(*arguments, stdout=write))
    os.close(write)
    assert (code, err) == (141, "")


@pytest.mark.skipif(os.name != "posix", reason="closes streams by number")
def test_streams_that_are_closed_from_the_start(tmp_path, python_with_package):
    """The first file that is opened must not get the number of a closed stream, and what is printed into it."""

    def run(closed: str, *arguments: str) -> subprocess.CompletedProcess:
        # a shell closes them before Python starts
        loader = python_with_package("", stdin=subprocess.DEVNULL).args[2]
        line = ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", loader + CODE, *arguments]
        return subprocess.run(line, capture_output=True, text=True, timeout=120)

    told = run(">&-", "download")
    assert told.returncode == 2 and "standard output (it is closed)" in told.stderr, told
    assert "Traceback" not in told.stderr
    assert run(">&-", "download", "--quiet").returncode == 0
    silent = run("2>&-", "download", "--json")
    assert silent.returncode == 0 and json.loads(silent.stdout)["downloads"]
    assert run("2>&-", "download", "no-such").returncode == 2
    nothing = run("<&- >&- 2>&-", "synth", "-n", "1", "-o", str(tmp_path / "w"), "--size", "32x32", "--frames", "9")
    assert nothing.returncode == 2
    assert (tmp_path / "w" / "manifest.jsonl").read_text(encoding="utf-8").startswith('{"file"')


@pytest.mark.parametrize("encoding", ["cp1252", "ascii:strict"])
def test_letters_that_the_terminal_has_not_are_replaced(start, encoding, tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "OMP_NUM_THREADS": "1"}
    code, out, _ = ended(start("synth", "--help", env=environment, text=False))
    assert code == 0 and b"scene" in out
    name = "\udcff→œ日.mp4"
    for arguments in (("download", name), ("download", name, "--json")):
        process = start(*arguments, env=environment, text=False)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 2 and b"Traceback" not in err, err
        if "--json" in arguments:
            assert out.isascii() and name[1:] in json.loads(out)["error"]["what"]


def test_json_is_plain_ascii(command, tmp_path):
    for arguments in (("probe", tmp_path / "ü→.mp4"), ("generate", "x", "-o", tmp_path / "x.日", "--no-expand")):
        outcome = command(*arguments, "--json")
        assert outcome.code == 2 and outcome.out.isascii() and outcome.json["error"]
    whole = command("expand", "a café by the sea", "--json")
    assert whole.out.isascii()
    beginning = command("expand", "", "--js")
    assert beginning.json["error"]["what"] == "the prompt is empty"


class Refusing(io.TextIOWrapper):
    """A stream of ASCII that does not take other letters and has room for twenty."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="ascii", write_through=True)

    def write(self, text: str) -> int:
        if self.buffer.tell() + len(text) > 20:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_what_is_shown_of_the_unshowable():
    stream = Refusing()
    Output(stream).write("naïve→\udcff")
    assert stream.buffer.getvalue() == b"na\\xefve\\u2192\\udcff"
    Talk(stream).write("more than there is room for")
    with pytest.raises(Exception, match="the result cannot be printed"):
        Output(stream).write("more than there is room for")


def test_a_name_does_not_steer_the_terminal(command, tmp_path):
    outcome = command("probe", tmp_path / "\x1b]0;mine\x07\x1b[2J\x9b.mp4")
    assert outcome.code == 2 and "\\x1b]0;mine\\x07\\x1b[2J\\x9b.mp4" in outcome.err


def test_streams_are_the_callers_again_after_a_command(command):
    before = sys.stdout, sys.stderr
    main(["download", "no-such"])
    assert (sys.stdout, sys.stderr) == before


needs_signals = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


@needs_signals
@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGINT, 130, "stopped by the user."),
        (signal.SIGTERM, 143, "stopped by SIGTERM."),
        (signal.SIGHUP, 129, "stopped by SIGHUP."),
    ],
)
def test_a_signal_ends_a_command_with_a_word_and_leaves_nothing(start, tmp_path, number, code, words):
    before = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    folder = tmp_path / "new"
    process = start("synth", "-n", "5000", "-o", str(folder), "--size", "32x32", "--frames", "17", before=before)
    limit = time.monotonic() + 60
    while not list(folder.glob("train-*.mp4")) and time.monotonic() < limit:
        time.sleep(0.02)
    process.send_signal(number)
    got, _, err = ended(process)
    assert (got, err.splitlines()[-1]) == (code, words)
    assert not list(folder.glob(".sounding-video-*"))


@needs_signals
def test_a_hang_up_that_is_ignored_is_ignored(start, tmp_path):
    """As ``nohup`` does it."""
    before = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    process = start("synth", "-n", "12", "-o", str(tmp_path), "--size", "32x32", "--frames", "9", before=before)
    while not list(tmp_path.glob("train-*.mp4")) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGHUP)
    assert ended(process)[0] == 0


# Several commands, one after the other, by somebody whom the system does not know.
NOBODY = """
import json, os, pwd
def nobody(*_):
    raise KeyError("getpwuid(): uid not found")
pwd.getpwuid = pwd.getpwnam = nobody
from sounding_video.cli import main
for arguments in json.loads(sys.argv[1]):
    print(f"\\nENDED {main(arguments)} {os.listdir()}", file=sys.stderr)
"""


@pytest.mark.skipif(os.name != "posix" or not hasattr(os, "setuid"), reason="users as POSIX has them")
def test_a_user_without_home_and_without_entry(python_with_package, tmp_path):
    """As in a container with any user number."""
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME", "USER")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "HF_HUB_OFFLINE": "1"}
    work = tmp_path / "work"
    work.mkdir()
    each = (
        (("models",), 0, ""),
        (("download", "bridge"), 2, "there is no home folder to put models into"),
        (("models", "--models", "~/x"), 3, "the model folder was not found: got ~/x (nothing)"),
        (("synth", "-n", "1", "-o", "~/x"), 2, "there is no such home folder"),
        (("probe", "~/x.mp4"), 2, "there is no such file"),
        (("expand", "a dog barks"), 0, ""),
    )
    process = python_with_package(NOBODY, [json.dumps([words for words, _, _ in each])], env=environment, cwd=work)
    _, _, err = ended(process)
    told = err.split("\nENDED ")
    for (arguments, code, words), before, after in zip(each, told[:-1], told[1:], strict=True):
        # Code, and what lies in the working folder: no folder called ~ was made.
        assert after.splitlines()[0] == f"{code} []" and words in before, (arguments, before, after)


INTERRUPTED_IMPORT = """
import sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "sounding_video.cli.console":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
from sounding_video.__main__ import main
sys.exit(main())
"""


def test_ctrl_c_while_the_command_is_imported(python_with_package):
    """In the first tenths of a second, before anything of ours listens for signals."""
    assert ended(python_with_package(INTERRUPTED_IMPORT, ("download",))) == (130, "", "stopped by the user.\n")
