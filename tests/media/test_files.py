"""A file is there whole or not at all: full disk, forbidden folder, cancel, kill."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import av
import pytest
from sounding_video.core.errors import Cancelled, OutputError
from sounding_video.core.progress import Progress
from sounding_video.media.files import FreeName, new_file, output_error
from sounding_video.media.mux import write_clip
from sounding_video.media.probe import probe
from sounding_video.media.writers import pyav

WAYS = [("pyav", ".mp4"), ("pyav", ".webm"), ("pyav", ".mkv"), ("moviepy", ".mp4")]


@pytest.fixture
def tiny_disk(tmp_path):
    """A real file system of 64 kB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"mounting a small file system is not permitted here: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs is Linux's")
@pytest.mark.parametrize(("writer", "suffix"), WAYS)
@pytest.mark.parametrize(("num_frames", "size"), [(120, (32, 48)), (16, (256, 256))])
def test_disk_really_full(make_clip, tiny_disk, writer, suffix, num_frames, size):
    noise = make_clip(num_frames, size=size)
    noise.video.frames.uniform_()
    noise.audio.waveform.uniform_(-0.5, 0.5)
    with pytest.raises(OutputError, match=r"the disk is full: got .*nothing half-written was left behind"):
        write_clip(noise, tiny_disk / f"a{suffix}", writer=writer)
    assert list(tiny_disk.iterdir()) == []


class _FullContainer:
    """A real container whose disk fills up after some packets."""

    def __init__(self, container, num_packets):
        self.container, self.room = container, num_packets

    def __getattr__(self, name):
        return getattr(self.container, name)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.container.close()

    def mux(self, packets):
        self.room -= len(packets)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.container.mux(packets)


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv"])
@pytest.mark.parametrize("num_packets", [0, 3, 12])
def test_disk_full_while_muxing(make_clip, tmp_path, monkeypatch, suffix, num_packets):
    real = av.open
    monkeypatch.setattr(pyav.av, "open", lambda *args, **kwargs: _FullContainer(real(*args, **kwargs), num_packets))
    with pytest.raises(OutputError, match="the disk is full"):
        write_clip(make_clip(12), tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_disk_full_at_the_rename(make_clip, tmp_path, monkeypatch):
    def full(self, target):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OutputError, match="the disk is full"):
        write_clip(make_clip(2), tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_folders_and_files_in_the_way(make_clip, tmp_path):
    clip = make_clip(2)
    folder, plain = tmp_path / "folder.mp4", tmp_path / "plain"
    folder.mkdir()
    plain.write_text("I am a file")
    with pytest.raises(OutputError, match=r"the output is a folder: got .*folder\.mp4"):
        write_clip(clip, folder)
    with pytest.raises(OutputError, match="a part of the path is a file, not a folder"):
        write_clip(clip, plain / "a.mp4")
    with pytest.raises(OutputError, match="a part of the path is a file, not a folder"):
        write_clip(clip, plain / "deeper" / "a.mp4")
    with pytest.raises(OutputError, match="Choose another folder or name"):
        write_clip(clip, tmp_path / ("n" * 300 + ".mp4"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.mp4", "plain"]
    assert plain.read_text() == "I am a file"
    made = write_clip(clip, tmp_path / "new" / "deep" / "a.mp4").path
    assert [path.name for path in made.parent.iterdir()] == ["a.mp4"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc, which even root cannot write to")
def test_unwritable_folder(make_clip):
    with pytest.raises(OutputError, match=r"got /proc/self/a\.mp4.*Choose another folder"):
        write_clip(make_clip(2), "/proc/self/a.mp4")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(make_clip, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="this folder may not be written to"):
        write_clip(make_clip(2), tmp_path / "a.mp4")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_permission_is_named(tmp_path, number):
    message = str(output_error(tmp_path / "a.mp4", OSError(number, os.strerror(number))))
    assert message.startswith("this folder may not be written to") and "a folder with permission to write" in message


@pytest.mark.parametrize(("writer", "suffix"), WAYS)
@pytest.mark.parametrize("stop_at", [0, 3, 8])
def test_cancel_leaves_what_was_there(make_clip, tmp_path, writer, suffix, stop_at):
    old = tmp_path / f"a{suffix}"
    old.write_bytes(b"an older file")
    seen = []

    def check():
        assert old.read_bytes() == b"an older file"
        seen.append(1)
        if len(seen) > stop_at:
            raise Cancelled

    with pytest.raises(Cancelled):
        write_clip(make_clip(8), old, writer=writer, progress=Progress(check_cancelled=check))
    assert old.read_bytes() == b"an older file"
    assert list(tmp_path.iterdir()) == [old]


def test_an_existing_file_is_replaced_at_the_end(make_clip, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"an older file")
    old = []
    progress = Progress(report=lambda *args: old.append(path.read_bytes()))
    write_clip(make_clip(3), path, progress=progress)
    assert set(old) == {b"an older file"}
    assert probe(path).num_frames == 3


def test_any_exception_removes_the_temporary_file(tmp_path):
    with pytest.raises(KeyboardInterrupt), new_file(tmp_path / "a.png") as part:
        assert part.parent == tmp_path and part.suffix == ".png" and part.name.startswith(".")
        part.write_bytes(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("existing", [False, True])
def test_a_killed_run_leaves_no_half_file(tmp_path, existing):
    path = tmp_path / "a.mp4"
    if existing:
        path.write_bytes(b"an older file")
    program = textwrap.dedent(
        """
        import sys, time, torch
        from sounding_video.core.progress import Progress
        from sounding_video.core.types import AVClip, VideoClip
        from sounding_video.media.mux import write_clip

        def report(stage, done, total, preview=None):
            if done == 100:
                print("writing", flush=True)
                time.sleep(60)

        clip = AVClip(VideoClip(torch.rand(120, 64, 64, 3), 15))
        write_clip(clip, sys.argv[1], progress=Progress(report=report))
        """
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout.readline() == "writing\n"
        half = [entry for entry in tmp_path.iterdir() if entry != path]
        run.send_signal(signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    assert len(half) == 1 and half[0].name.startswith(".") and half[0].stat().st_size > 0
    assert path.exists() == existing
    if existing:
        assert path.read_bytes() == b"an older file"


@pytest.mark.parametrize("has_links", [True, False])
def test_a_free_name_replaces_no_file(tmp_path, monkeypatch, has_links):
    """Two runs found the same name free; the second to finish gets the next one."""

    def no_links(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", no_links)
    names = [tmp_path / f"clip_{number}.mp4" for number in (1, 2, 3)]
    following = lambda: next(name for name in names if not name.exists())  # noqa: E731
    first, second = FreeName(names[0], following), FreeName(names[0], following)
    for name, content in ((first, b"one"), (second, b"two")):
        with new_file(name) as part:
            part.write_bytes(content)
    assert [Path(first), Path(second)] == names[:2]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"clip_1.mp4": b"one", "clip_2.mp4": b"two"}


def test_a_name_that_stays_taken_is_refused(tmp_path):
    path = tmp_path / "clip_1.mp4"
    path.write_bytes(b"one")
    with pytest.raises(OutputError, match="the name is taken"), new_file(FreeName(path, lambda: path)) as part:
        part.write_bytes(b"two")
    assert path.read_bytes() == b"one" and len(list(tmp_path.iterdir())) == 1
