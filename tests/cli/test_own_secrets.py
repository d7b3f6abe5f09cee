"""What a command writes says nothing of the machine: no home folder, user, key or path that the user did not write."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
from pathlib import Path

import pytest
from chat_server import ChatServer

HOME, USER, KEY = "verysecrethome", "verysecretuser", "sk-verysecretkey-0123456789"
CODE = """
import json
from sounding_video.cli import main
for line in json.loads(sys.argv[1]):
    print("$", *line, flush=True)
    assert main(line) == 0, line
"""
CLIP = ("--frames", "9", "--size", "32x32", "--steps", "2", "--no-expand")
TRAINING = ("models.text_length=16", "data.num_frames=9", "data.width=32", "data.height=32", "data.num_clips=2",
    "data.scenes=ball", "saving.plot=false", "device=cpu", "batch_size=1", "num_steps=2", "optimizer.warmup_steps=1",
    "data.sound_latents=encoded", "objective.codes=learned", "models.root=../.cache/sounding_video/models")  # fmt: skip


@pytest.fixture
def work(tmp_path, small_models_dir, template) -> Path:
    """A folder in the home folder, in which the user stands; the models are where they are looked for by themselves."""
    home = tmp_path / HOME
    shutil.copytree(small_models_dir, home / ".cache" / "sounding_video" / "models")
    (home / "work").mkdir()
    for node, values in {"1": {"video_model": "wan"}, "2": {"audio_model": "stable_audio"},
        "3": {"bridge_file": "bridge.safetensors"}, "5": {"width": 32, "height": 32, "num_frames": 9},
        "7": {"steps": 2}}.items():  # fmt: skip
        template = {**template, node: {**template[node], "inputs": {**template[node]["inputs"], **values}}}
    (home / "work" / "w.json").write_text(json.dumps(template))
    return home / "work"


def commands(server: ChatServer) -> list[list[str]]:
    """A line each; all paths are relative, and below the home folder."""
    asking = ("--looking", "server", "--server", server.url, "--looking-model", "tiny", "--mode", "raw")
    return [
        ["generate", "rain", "-o", "a/own.mp4", *CLIP, "--json"],
        ["generate", "rain", "-o", "a/pocket.mkv", "--models", "pocket", *CLIP],
        ["generate", "rain", "-o", "a/sound.flac", *CLIP, "-n", "2", "--verbose"],
        ["run", "w.json", "--json"],
        ["sound", "a/own.mp4", "rain", "-o", "made", "--models", "pocket", *CLIP[4:], "--json"],
        ["probe", "a/own.mp4", "--picture", "a/own.png"],
        ["caption", "a/own.mp4", "-o", "lists/captions.jsonl", *asking],
        ["synth", "-n", "2", "-o", "world", "--size", "64x64", "--frames", "9"],
        ["train", "pocket_audio", *TRAINING, "--output", "run", "--json"],
        ["convert", "../.cache/sounding_video/models/bridge.safetensors", "-o", "converted.safetensors"],
    ]


@pytest.mark.slow
def test_nothing_of_the_machine_is_in_what_is_written(python_with_package, work, chat_server, root):
    chat_server.answers("a ball bounces", "a ball is heard")
    home = work.parent
    environment = {**os.environ, "HOME": str(home), "USER": USER, "LOGNAME": USER, "OMP_NUM_THREADS": "1"}
    environment |= dict.fromkeys(("OPENAI_API_KEY", "SOUNDING_VIDEO_LLM_KEY", "HF_TOKEN", "ANTHROPIC_API_KEY"), KEY)
    for name in ("SOUNDING_VIDEO_MODELS", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE"):
        environment.pop(name, None)
    process = python_with_package(CODE, [json.dumps(commands(chat_server))], cwd=work, env=environment)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    assert any(KEY in value for headers in chat_server.headers for value in headers.values()), "the key was in use"
    mine = (socket.gethostname(), getpass.getuser())
    secrets = [
        HOME,
        USER,
        KEY,
        str(root),
        *(word for word in mine if len(word) > 7),
    ]  # others may be anywhere by chance
    told = {"what was printed": (out + err).encode()}
    files = [
        path for path in home.rglob("*") if path.is_file() and home / ".cache" / "sounding_video" not in path.parents
    ]
    told |= {str(path.relative_to(home)): path.read_bytes() for path in files}
    assert {"work/a/own.mp4", "work/run/config.json", "work/lists/captions.jsonl", "work/made/own.mp4"} <= set(told)
    found = {
        f"{secret} in {name}: {content[max(0, place - 80) : place + 80]!r}"
        for name, content in told.items()
        for secret in secrets
        if (place := content.find(secret.encode())) >= 0
    }
    assert not found
