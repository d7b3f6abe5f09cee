"""New folders and temporary files go again with what went wrong."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sounding_video.captions.jsonl import append_row
from sounding_video.core import new_files
from sounding_video.core.errors import OutputError
from sounding_video.core.new_files import made_folder, remove_abandoned, scratch_path
from sounding_video.media.files import new_file
from sounding_video.models.weights.files import write_safetensors

needs_signals = pytest.mark.skipif(os.name != "posix", reason="asks for processes as POSIX has it")


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_folders_that_were_made_for_nothing_go_again(tmp_path):
    (tmp_path / "old").mkdir()
    for error in (OSError(errno.ENOSPC, "full"), ValueError(), KeyboardInterrupt()):
        with pytest.raises(type(error)), made_folder(tmp_path / "old" / "a" / "b"):
            raise error
        assert everything(tmp_path) == ["old"]
    with made_folder(tmp_path / "old" / "a" / "b"):
        pass
    assert everything(tmp_path) == ["old", "old/a", "old/a/b"]


def test_a_folder_in_which_something_has_come_to_stand_stays(tmp_path):
    with pytest.raises(ValueError, match="x"), made_folder(tmp_path / "a" / "b"):
        (tmp_path / "a" / "mine").touch()
        raise ValueError("x")
    assert everything(tmp_path) == ["a", "a/mine"]
    with pytest.raises(ValueError, match="x"), made_folder(tmp_path / "a" / "c" / "d"):
        (tmp_path / "a" / "c" / "d").rmdir()
        raise ValueError("x")
    assert everything(tmp_path) == ["a", "a/mine"]


WRITERS = {
    "new_file": lambda path: _fail_in_new_file(path),
    "write_safetensors": lambda path: write_safetensors(path, {"a": "no tensor"}, {}),
    "append_row": lambda path: append_row(path, {"file": {1, 2}}),
}


def _fail_in_new_file(path: Path) -> None:
    with new_file(path) as part:
        part.write_text("half")
        raise ValueError("x")


@pytest.mark.parametrize("writer", WRITERS)
def test_whoever_writes_leaves_neither_folder_nor_half_file(writer, tmp_path):
    with pytest.raises((ValueError, AttributeError, TypeError)):
        WRITERS[writer](tmp_path / "d" / "e" / "x.bin")
    assert everything(tmp_path) == []


def test_no_module_makes_folders_in_another_way(root):
    """Where a folder is made by hand, nobody takes it away again; those that may are named with their reason."""
    may = {
        "core/new_files.py",  # this is the way
        "models/weights/download.py",  # the place of a whole file that has come
        "training/assembly.py",  # inside a model folder that is not whole yet
        "training/checkpoint.py",  # a checkpoint's own folder, whole or not at all
        "training/lora.py",  # inside a checkpoint that is not whole yet
    }
    found = set()
    for folder in ("core", "models", "sampling", "media", "captions", "world", "training", "evaluation", "tasks",
                   "nodes", "headless", "cli"):  # fmt: skip
        for file in (root / folder).rglob("*.py"):
            if re.search(r"\.mkdir\(|makedirs\(", file.read_text(encoding="utf-8")):
                found.add(file.relative_to(root).as_posix())
    assert found <= may


@needs_signals
def test_what_a_killed_process_left_goes_with_the_next_file(tmp_path, python_with_package):
    code = f"""
from pathlib import Path
from sounding_video.media.files import new_file
with new_file(Path({str(tmp_path)!r}) / 'a.mp4') as part:
    part.write_text('half')
    print('now', flush=True)
    import time; time.sleep(60)
"""
    process = python_with_package(code)
    assert process.stdout.readline() == "now\n"
    (part,) = tmp_path.iterdir()
    with new_file(tmp_path / "b.txt") as other:
        other.write_text("whole")
    assert part.exists(), "the one that still writes is left alone"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with new_file(tmp_path / "b.txt") as other:
        other.write_text("whole")
    assert everything(tmp_path) == ["b.txt"]


@needs_signals
def test_only_what_is_ours_and_of_nobody_is_taken_away(tmp_path, monkeypatch):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    dead = int(gone.stdout)
    ours, machine = scratch_path(tmp_path / "x.mp4"), new_files._machine()
    names = {
        ours.name: True,
        f".sounding-video-{machine}-{dead}-0123456789ab.part.mp4": False,
        f".sounding-video-{machine}-{dead}-0123456789ab.part": False,
        f".sounding-video-00000000-{dead}-0123456789ab.part.mp4": True,  # another machine's
        f"sounding-video-{machine}-{dead}-0123456789ab.part.mp4": True,
        ".sounding-video-notes.txt": True,
        ".part": True,
    }
    for name in names:
        (tmp_path / name).touch()
    folder = tmp_path / f".sounding-video-{machine}-{dead}-ba9876543210.part"
    folder.mkdir()
    (folder / "clip.mp4").touch()
    remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {name for name, stays in names.items() if stays}
    old = new_files.time.time() - 2 * 86_400
    os.utime(tmp_path / f".sounding-video-00000000-{dead}-0123456789ab.part.mp4", (old, old))
    remove_abandoned(tmp_path)
    assert not (tmp_path / f".sounding-video-00000000-{dead}-0123456789ab.part.mp4").exists()
    remove_abandoned(tmp_path / "nothing there")


def test_a_folder_that_cannot_be_listed_can_be_written(tmp_path, monkeypatch):
    def refuse(path: object) -> list[str]:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(new_files.os, "listdir", refuse)
    with new_file(tmp_path / "b.txt") as part:
        part.write_text("whole")
    assert (tmp_path / "b.txt").read_text() == "whole"


def test_a_folder_that_is_none_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a part of the path is a file"), new_file(tmp_path / "file" / "x.mp4"):
        pass
