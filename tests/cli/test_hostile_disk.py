"""What years of use leave in a model folder: locked folders, dead drives, loops of links, pipes, too long names.

What cannot be looked into is passed over with a note; what was named gets a sentence. The locks are real: root gives
its rights away for the time of a test.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rights import without_rights
from sounding_video.cli import main
from sounding_video.core import disk
from sounding_video.core.disk import look, user_path, what_is_there
from sounding_video.core.errors import CorruptWeightsError, MissingModelError, SoundingVideoError
from sounding_video.models.weights._header import open_weights
from sounding_video.models.weights.bridges import load_bridges
from sounding_video.models.weights.files import write_safetensors
from sounding_video.models.weights.find import find_bridges, find_downloaded, find_files, find_models
from sounding_video.models.weights.hub import hub_snapshots
from sounding_video.models.weights.listing import passed_over
from sounding_video.nodes.host import standalone
from sounding_video.nodes.host.folders import list_loras, list_models

TOO_LONG = "x" * 300


@pytest.fixture
def models(small_models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr("sounding_video.models.weights.hub.hub_cache", lambda: tmp_path / "hub")
    yield shutil.copytree(small_models_dir, tmp_path / "models")
    monkeypatch.undo()
    for place, _, _ in os.walk(tmp_path):
        Path(place).chmod(0o755)


def locked(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "inside.safetensors").touch()
    path.chmod(0)
    return path


def lists(root: Path) -> dict[str, list[str]]:
    with standalone.session(standalone.Session((root,))):
        return {kind: list_models(kind) for kind in ("wan", "stable_audio", "bridge")}


PLAIN = {
    "wan": ["pocket", "wan"],
    "stable_audio": ["pocket", "stable_audio"],
    "bridge": ["pocket", "bridge.safetensors", *(f"pocket/bridge_{name}.safetensors" for name in ("adaptor", "v2a"))],
}


@pytest.mark.parametrize("where", ["locked", "sub/sub/locked", "wan/locked", "loras/locked"])
def test_a_locked_folder_is_passed_over_with_a_note(where, models, command) -> None:
    folder = locked(models / where)
    with without_rights():
        assert lists(models) == PLAIN
        found = find_models(models)
        assert (found.video, found.bridge) == (models / "wan", models / "bridge.safetensors")
        assert [(p.path, p.reason) for p in passed_over([models])] == [(folder, "Permission denied")]
        with standalone.session(standalone.Session((models,))):
            assert list_loras() == []
        outcome = command("models", "--models", models)
    assert outcome.code == 0, outcome.err
    assert f"passed over, since it cannot be looked into:\n  {folder}: Permission denied" in outcome.out


def test_a_locked_folder_is_spoken_of_where_a_model_is_missed(models, command) -> None:
    shutil.rmtree(models / "wan")
    folder = locked(models / "diffusion_models")
    with without_rights():
        with pytest.raises(MissingModelError, match=rf"not usable: {folder} was passed over \(Permission denied\)"):
            find_models(models)
        outcome = command("doctor", "--models", models, "--json")
        assert outcome.code == 0
        assert f"{folder} was passed over: Permission denied." in outcome.json["problems"]
        generated = command("generate", "x", "--models", models, "-o", "/tmp/never.mp4")
    assert (generated.code, f"{folder} was passed over" in generated.err) == (3, True)


def test_a_locked_folder_that_was_named_gets_a_sentence(models, command, monkeypatch) -> None:
    folder = locked(models / "mine")
    inside = folder / "deeper"
    words = "cannot be looked into: got {} (Permission denied)"
    with without_rights():
        for arguments in (("models",), ("doctor",), ("generate", "x", "-o", "/tmp/never.mp4"), ("doctor", "--plan")):
            outcome = command(*arguments, "--models", folder)
            assert (outcome.code, words.format(folder) in outcome.err) == (3, True), outcome.err
            below = command(*arguments, "--models", inside)
            assert (below.code, f"not found: got {inside} (Permission denied)" in below.err) == (3, True), below.err
        monkeypatch.setenv("SOUNDING_VIDEO_MODELS", str(folder))
        assert words.format(folder) in command("models").err
        assert words.format(folder) in command("generate", "x", "-o", "/tmp/never.mp4").err
        for option in ("--wan", "--stable-audio"):
            outcome = command("generate", "x", "-o", "/tmp/never.mp4", "--models", models, option, inside)
            assert (outcome.code, "Permission denied" in outcome.err) == (3, True), outcome.err
        with pytest.raises(MissingModelError, match=r"bridge file was not found: got .*deeper \(Permission denied\)"):
            load_bridges(inside)


@pytest.mark.parametrize("part", ["", "transformer", "vae", "text_encoder", "tokenizer"])
def test_a_tower_of_which_something_is_locked(part, models, command) -> None:
    """It is passed over where another is whole, and named where there is none."""
    (models / "wan" / part).chmod(0)
    with without_rights():
        lists(models)
        outcome = command("generate", "x", "--models", models, "-o", "/tmp/never.mp4", "--no-expand", "--frames", 5)
    assert outcome.code in (2, 3), outcome.err
    assert str(models / "wan") in outcome.err


def test_files_that_may_not_be_read(models, command) -> None:
    for name in ("bridge.safetensors", "wan/vae/diffusion_pytorch_model.safetensors", "wan/transformer/config.json"):
        (models / name).chmod(0)
    with without_rights():
        with pytest.raises(CorruptWeightsError, match=r"cannot be read: got .*Permission denied"):
            load_bridges(models / "bridge.safetensors")
        assert models / "bridge.safetensors" in find_bridges(models), "choosing it says why"
        with pytest.raises(MissingModelError, match=r"diffusion_pytorch_model.safetensors \(.*Permission denied\)"):
            find_models(models)
        refused = " ".join(command("models", "--models", models, "--json").json["refused"])
    for text in ("bridge.safetensors (", "diffusion_pytorch_model.safetensors (", "config.json (Permission denied)"):
        assert text in refused


def test_a_bridge_that_may_not_be_read_ends_the_run(models, command) -> None:
    (models / "bridge.safetensors").chmod(0)
    with without_rights():
        outcome = command("generate", "x", "--models", models, "-o", "/tmp/never.mp4", "--no-expand", "--frames", 5)
    assert (outcome.code, "Permission denied" in outcome.err) == (2, True), outcome.err


BRIDGES_THAT_CANNOT_BE_OPENED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link to nothing": (lambda path: path.symlink_to("/nas/bridge.safetensors"), "a link to nothing"),
    "a link to itself": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    "a pipe": (os.mkfifo, "a pipe"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "a device"),
}


@pytest.mark.parametrize("what", BRIDGES_THAT_CANNOT_BE_OPENED)
@pytest.mark.parametrize("name", ["bridge.safetensors", "BridgeDiT/bicross-1.3B/epoch=20.ckpt"])
def test_a_bridge_that_is_no_file_ends_the_run(name, what, models, command) -> None:
    """Named as ours and not to be opened; without it a clip would be made as if there were none."""
    make, words = BRIDGES_THAT_CANNOT_BE_OPENED[what]
    (models / "bridge.safetensors").unlink()
    (models / name).parent.mkdir(parents=True, exist_ok=True)
    make(models / name)
    assert find_models(models).bridge == models / name
    outcome = command("generate", "x", "--models", models, "-o", "/tmp/never.mp4", "--no-expand", "--frames", 5)
    assert (outcome.code, words in outcome.err) == (3, True), outcome.err
    (models / name).rename(models / f"bridge picture.{what.split()[-1]}")
    found = find_models(models)
    assert found.bridge is None and "was passed over" in found.bridge_note


def test_bridges_in_a_locked_folder_end_the_run_or_are_told(models, command) -> None:
    (models / "bridge.safetensors").unlink()
    folder = locked(models / "bicross-1.3B")
    with without_rights():
        outcome = command("generate", "x", "--models", models, "-o", "/tmp/never.mp4", "--no-expand", "--frames", 5)
        assert (outcome.code, f"{folder}" in outcome.err) == (3, True), outcome.err
        folder.rename(models / "others")
        assert find_models(models).bridge_note == (
            f"no bridge was found; {models / 'others'} (Permission denied) was passed over"
        )


def test_a_file_of_the_system_that_keeps_its_reader_waiting_is_not_read(models) -> None:
    """It says that it has no bytes; ``/proc/kmsg`` waits for the next message of the kernel."""
    (models / "log.safetensors").symlink_to("/proc/kmsg" if Path("/proc/kmsg").exists() else "/dev/null")
    assert find_models(models).video == models / "wan"
    with pytest.raises(SoundingVideoError, match=r"is empty|was not found"):
        open_weights(models / "log.safetensors")


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EACCES])
def test_a_dead_drive_below_a_model_folder(number, models, monkeypatch) -> None:
    """A mount whose other end has gone answers every question with an error."""
    dead = models / "nas"
    dead.mkdir()
    listdir, stat = os.listdir, Path.stat

    def refuse(original: Callable) -> Callable:
        def call(path, *arguments, **named):
            if dead == Path(path) or dead in Path(path).parents:
                raise OSError(number, os.strerror(number), str(path))
            return original(path, *arguments, **named)

        return call

    monkeypatch.setattr(disk.os, "listdir", refuse(listdir))
    assert lists(models) == PLAIN
    assert [str(p) for p in passed_over([models])] == [f"{dead} ({os.strerror(number)})"]
    monkeypatch.setattr(Path, "stat", refuse(stat))
    assert lists(models) == PLAIN
    assert [str(p) for p in passed_over([models])] == [f"{dead} ({os.strerror(number)})"]
    with pytest.raises(MissingModelError, match=os.strerror(number)):
        find_models(dead)


def test_loops_of_links_end(models) -> None:
    (models / "wan" / "again").symlink_to(models)
    (models / "self").symlink_to(models / "self")
    for name, other in (("a", "b"), ("b", "a")):
        (models / name).mkdir()
        (models / name / other).symlink_to(models / other)
    (models / "b" / "x.safetensors").touch()
    tree = look(models, 50)
    assert len(tree.folders) < 60
    assert {p.path.relative_to(models).as_posix(): p.reason for p in tree.passed} == {
        "self": "Too many levels of symbolic links",
        "wan/again": "a link back to a folder around it",
        "a/b/a": "a link back to a folder around it",
        "b/a/b": "a link back to a folder around it",
    }
    assert lists(models)["wan"] == PLAIN["wan"]


def test_a_link_to_a_folder_elsewhere_is_followed(models) -> None:
    shutil.move(models / "wan", models.parent / "elsewhere")
    (models / "linked").symlink_to(models.parent / "elsewhere")
    assert find_models(models).video == models / "linked"


def test_nothing_is_opened_that_is_no_file(models, command) -> None:
    """Opening a pipe waits for somebody to write into it, for ever."""
    os.mkfifo(models / "bridge.ckpt")
    os.mkfifo(models / "wan.gguf")
    (models / "zero.safetensors").symlink_to("/dev/zero")
    (models / "gone.safetensors").symlink_to(models / "nowhere")
    (models / "folder.safetensors").mkdir()
    shutil.rmtree(models / "wan" / "tokenizer")
    (models / "wan" / "tokenizer").mkdir()
    os.mkfifo(models / "wan" / "tokenizer" / "tokenizer.json")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(models / "s.pt"))
    try:
        assert lists(models) == PLAIN
        assert {p.path.name: p.reason for p in passed_over([models])} == {
            "bridge.ckpt": "a pipe",
            "wan.gguf": "a pipe",
            "zero.safetensors": "a device",
            "gone.safetensors": "a link to nothing",
            "s.pt": "a socket",
            "tokenizer.json": "a pipe",
        }
        for name, there in (("bridge.ckpt", "a pipe"), ("zero.safetensors", "a device"), ("folder.safetensors", "a f")):
            with pytest.raises(MissingModelError, match=rf"was not found: got .*\({there}"):
                open_weights(models / name)
        outcome = command("generate", "x", "--models", models, "--wan", models / "wan.gguf", "-o", "/tmp/never.mp4")
        assert (outcome.code, "(a pipe)" in outcome.err) == (3, True)
        outcome = command("generate", "x", "--models", models, "-o", "/tmp/never.mp4", "--no-expand", "--frames", 5)
        assert (outcome.code, "tokenizer" in outcome.err) == (2, True), outcome.err
    finally:
        server.close()


def test_what_goes_while_it_is_looked_at_is_not_there(models, monkeypatch) -> None:
    listdir = os.listdir
    monkeypatch.setattr(disk.os, "listdir", lambda path: [*listdir(path), "moved away.safetensors"])
    assert lists(models) == PLAIN
    assert passed_over([models]) == []


def test_names_that_are_too_long(models, command) -> None:
    # The index beside such a shard would have a name longer than the system allows.
    (models / f"{'y' * 237}-00x.bin").touch()
    assert lists(models)["wan"] == PLAIN["wan"]
    assert len(find_files([models])) == 2
    for arguments in (
        ("models", "--models", TOO_LONG),
        ("doctor", "--models", TOO_LONG),
        ("generate", "x", "-o", "/tmp/never.mp4", "--models", TOO_LONG),
        ("generate", "x", "-o", "/tmp/never.mp4", "--models", models, "--wan", TOO_LONG),
        ("generate", "x", "-o", "/tmp/never.mp4", "--models", models, "--stable-audio", f"/{TOO_LONG}"),
        ("generate", "x", "-o", "/tmp/never.mp4", "--models", models, "--bridge", TOO_LONG, "--no-expand"),
        ("generate", "x", "-o", "/tmp/never.mp4", "--models", models, "--lora", TOO_LONG, "--no-expand"),
        ("convert", TOO_LONG, "-o", "/tmp/never.safetensors"),
    ):
        outcome = command(*arguments)
        assert (outcome.code, "File name too long" in outcome.err) == (3, True), outcome.err
    index = models / "m.safetensors.index.json"
    index.write_text(f'{{"weight_map": {{"a": "{TOO_LONG}.safetensors"}}}}')
    with pytest.raises(MissingModelError, match=r"part of the sharded model was not found: .*File name too long"):
        open_weights(index)
    with pytest.raises(SoundingVideoError, match=r"cannot be written: .*File name too long"):
        write_safetensors(models / f"{TOO_LONG}.safetensors", {}, {})


def test_names_with_bytes_that_are_no_text(models) -> None:
    """A backup of another system; the name can be listed and printed."""
    shutil.copy(models / "bridge.safetensors", os.fsdecode(os.fsencode(models) + b"/b\xff.safetensors"))
    (models / "x\ny.safetensors").touch()
    assert len(find_bridges(models)) == 3
    assert main(["models", "--models", str(models), "--all"]) == 0
    assert main(["models", "--models", str(models), "--json"]) == 0


def test_names_that_cannot_be_printed_as_they_are(models, monkeypatch) -> None:
    """A terminal refuses what is no text; the file is listed all the same."""
    shutil.copy(models / "bridge.safetensors", os.fsdecode(os.fsencode(models) + b"/b\xff.safetensors"))
    shown = io.BytesIO()
    terminal = io.TextIOWrapper(shown, encoding="utf-8", errors="strict", write_through=True)
    monkeypatch.setattr(sys, "stdout", terminal)
    for more in ([], ["--json"], ["--all"]):
        assert main(["models", *more, "--models", str(models)]) == 0
    assert shown.getvalue().count(b"b\\udcff.safetensors") >= 3


def test_other_commands_in_a_locked_folder(models, command, small_models_dir) -> None:
    folder = locked(models / "mine")
    bridge = small_models_dir / "bridge.safetensors"
    (models / "wan" / "transformer" / "diffusion_pytorch_model.safetensors").chmod(0)
    with without_rights():
        for arguments, code in (
            (("convert", bridge, "-o", folder / "x.safetensors"), 2),
            (("convert", bridge, "-o", models / "x.safetensors", "--video-tower", models / "wan"), 2),
            (("convert", bridge, "-o", models / "x.safetensors", "--video-tower", folder / "wan"), 2),
            (("convert", folder / "b.ckpt", "-o", models / "x.safetensors"), 3),
            (("run", "workflows/api/x.json", "--models", folder), 2),
            (("doctor", "--models", models, "--comfyui", folder), 3),
            (("generate", "x", "-o", "x.mp4", "--models", small_models_dir, "--lora", folder / "l", "--no-expand"), 3),
        ):
            outcome = command(*arguments)
            assert outcome.code == code, (arguments, outcome)
            assert "error: " in outcome.err and "Traceback" not in outcome.err


def test_a_drive_that_goes_while_a_command_runs(models, command, monkeypatch) -> None:
    """The last net: whatever place nobody thought of, there is a sentence and no traceback."""

    def gone(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "/mnt/nas/x")

    monkeypatch.setattr("sounding_video.cli.models.collect", gone)
    outcome = command("models", "--models", models)
    assert (outcome.code, outcome.err) == (2, "error: the file system refuses: got /mnt/nas/x (Input/output error).\n")


def test_a_home_that_nobody_has(command) -> None:
    assert user_path("~nobody_of_that_name/x") == Path("~nobody_of_that_name/x")
    assert user_path("~\0/x") == Path("~\0/x")
    outcome = command("models", "--models", "~nobody_of_that_name/x")
    assert (outcome.code, "model folder was not found" in outcome.err) == (3, True)
    assert "embedded null" in what_is_there(Path("a\0b"))


def test_a_cache_that_cannot_be_looked_into(models, small_models_dir) -> None:
    cache = models.parent / "hub"
    whole = cache / "models--small--wan" / "snapshots" / ("a" * 40)
    shutil.copytree(small_models_dir / "wan", whole)
    locked(cache / "models--locked--wan")
    (whole / "broken.json").symlink_to(cache / "no such blob")
    with without_rights():
        assert hub_snapshots() == {"small/wan": whole}, "one broken link does not hide the repository"
    cache.chmod(0)
    with without_rights():
        assert hub_snapshots() == {}
        with pytest.raises(MissingModelError, match=rf"{cache} was passed over \(Permission denied\)"):
            find_downloaded(models / "nothing")
