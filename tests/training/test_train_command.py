"""``sounding-video train``: lists, prints, refuses, trains, and stops with a checkpoint on Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from sounding_video.cli import main
from sounding_video.training.recipes import RECIPES
from sounding_video.training.tasks import TRAINING_TASKS
from training_runs import command_line

CHILD = "from sounding_video.cli import main\nsys.exit(main(sys.argv[1:]))\n"


def test_list_and_print(capsys) -> None:
    assert main(["train", "--list"]) == 0
    out = capsys.readouterr().out
    recipes, _, tasks = out.partition("\n\n")
    assert [line.split()[0] for line in recipes.splitlines()] == RECIPES.names()
    assert tasks == f"tasks: {', '.join(TRAINING_TASKS)}\n"
    assert main(["train", "bridgedit", "optimizer.lr=1e-3", "--print-config"]) == 0
    assert json.loads(capsys.readouterr().out)["optimizer"]["lr"] == 1e-3


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["train"], f"error: no recipe was given; expected one of {', '.join(RECIPES)}"),
        (["train", "mine"], "error: unknown recipe: got 'mine'"),
        (["train", "bridgedit", "lr=1"], "error: unknown key in a training configuration: got lr"),
    ],
)
def test_wrong_command_lines(capsys, given: list[str], sentence: str) -> None:
    assert main(given) == 2
    assert capsys.readouterr().err.startswith(sentence)


def test_a_run_by_command(small_run, capsys, tmp_path) -> None:
    code = main([*command_line(small_run("pocket_audio")), "--output", str(tmp_path / "run"), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert report["steps"] == 4
    assert Path(report["checkpoint"], "state.json").is_file()
    assert set(report["losses"]) == {"total", "audio"}
    assert main([*command_line(small_run("pocket_audio")), "--output", str(tmp_path / "run")]) == 2
    assert "already holds a run" in capsys.readouterr().err


SIGNALS = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


@SIGNALS
def test_a_signal_ends_the_step_and_leaves_a_checkpoint(small_run, capfd, tmp_path, number: int, code: int) -> None:
    """From another thread, at some moment of a step."""
    arguments, log, ended, unheard = endless(small_run, tmp_path)
    before = signal.signal(number, lambda *_: unheard.append(number))  # which would end the tests
    sender = threading.Thread(target=lambda: wait_for_steps(log, ended) and os.kill(os.getpid(), number))
    try:
        sender.start()
        found = main(arguments)
    finally:
        ended.set()
        sender.join()
        after = signal.signal(number, before)
    assert unheard == [] and after.__name__ == "<lambda>", "it listens for as long as it runs"
    assert found == code
    assert_stopped(tmp_path / "run", capfd.readouterr().err)


@pytest.mark.slow
@SIGNALS
def test_a_signal_ends_the_process(small_run, python_with_package, tmp_path, number: int, code: int) -> None:
    arguments, log, ended, _ = endless(small_run, tmp_path)
    process = python_with_package(CHILD, arguments)
    assert wait_for_steps(log, ended)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert_stopped(tmp_path / "run", err)


def endless(small_run, folder: Path) -> tuple[list[str], Path, threading.Event, list[int]]:
    """A run that does not end by itself: its command line, its log, what says that it has ended, an empty list."""
    config = small_run("pocket_audio", "num_steps=100000", "saving.every=100000")
    output = folder / "run"
    return [*command_line(config), "--output", str(output), "--quiet"], output / "loss.jsonl", threading.Event(), []


def wait_for_steps(log: Path, ended: threading.Event) -> bool:
    """Whether three steps were done before it ended."""
    deadline = time.monotonic() + 120
    while not ended.wait(0.05) and time.monotonic() < deadline:
        if log.is_file() and log.read_text().count("\n") > 2:
            return True
    return False


def assert_stopped(output: Path, err: str) -> None:
    steps = (output / "loss.jsonl").read_text().count("\n")
    assert f"stopped by the user after step {steps}; continue with --resume" in err
    assert [path.name for path in (output / "checkpoints").iterdir()] == [f"step-{steps:07d}"]


def test_a_run_that_fails_before_its_first_step_leaves_no_folder(small_run, capsys, tmp_path) -> None:
    config = small_run("pocket_audio", f"data.source={tmp_path / 'no-such.jsonl'}")
    before = sorted(tmp_path.iterdir())
    assert main([*command_line(config), "--output", str(tmp_path / "new" / "run")]) == 2
    assert sorted(tmp_path.iterdir()) == before
