"""Several runs at once into one place: each ends right or is refused with a sentence, and nothing is mixed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from sounding_video.captions.backends.lexicon import LexiconBackend
from sounding_video.captions.crr import expand
from sounding_video.captions.jsonl import read_rows
from sounding_video.core.errors import InputError
from sounding_video.core.locks import alone
from sounding_video.core.types import VideoClip
from sounding_video.media.mux import write_clip
from sounding_video.media.probe import probe
from sounding_video.training.checkpoint import load_checkpoint

CODE = "from sounding_video.cli import main; sys.exit(main())"
MADE = expand("a dog barks at a gate", backend=LexiconBackend(), profile="short")
FLAWLESS = (MADE.anchors.to_json(), json.dumps({"video": MADE.captions.video, "audio": MADE.captions.audio}))
TRAINING = ["data.num_clips=2", "data.num_frames=9", "data.width=32", "data.height=32", "data.scenes=ball",
    "saving.plot=false", "device=cpu", "batch_size=1", "optimizer.warmup_steps=1"]  # fmt: skip


@pytest.fixture
def start(python_with_package, tmp_path):
    """Start the command line in the test's folder; what still runs in the end is killed."""
    processes = []

    def begin(*arguments: object, **environment: str):
        env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        processes.append(python_with_package(CODE, [str(each) for each in arguments], cwd=tmp_path, env=env))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def ended(processes: Sequence) -> list[tuple[int, str, str]]:
    told = []
    for process in processes:
        out, err = process.communicate(timeout=300)
        assert "Traceback" not in err, err
        told.append((process.returncode, out, err))
    return told


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".")]


POCKET = ("--models", "pocket", "--steps", 2, "--frames", 9, "--no-expand", "--json")


@pytest.mark.slow
def test_four_generate_into_one_name(start, tmp_path):
    runs = [start("generate", "rain", "-o", "new/a.mp4", "--seed", seed, *POCKET) for seed in range(4)]
    assert [code for code, *_ in ended(runs)] == [0] * 4
    assert probe(tmp_path / "new" / "a.mp4").num_frames == 9
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.mp4"]


@pytest.mark.slow
def test_four_generate_into_one_folder(start, tmp_path):
    runs = [start("generate", "rain", "-o", "new/a.mp4", "-n", 2, "--seed", 10 * run, *POCKET) for run in range(4)]
    told = ended(runs)
    assert [code for code, *_ in told] == [0] * 4, told
    paths = [clip["path"] for _, out, _ in told for clip in json.loads(out)["clips"]]
    assert sorted(paths) == sorted(f"new/a_{number}.mp4" for number in range(1, 9))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(Path(path).name for path in paths)
    seeds = {clip["path"]: clip["seed"] for _, out, _ in told for clip in json.loads(out)["clips"]}
    for path, seed in seeds.items():
        assert json.loads(probe(tmp_path / path).tags["sounding_video"])["seed"] == seed, (
            "each holds what was told of it"
        )


@pytest.mark.slow
def test_four_runs_with_one_prefix(start, template, tmp_path):
    (tmp_path / "w.json").write_text(json.dumps(template))
    small = ("--set", "T2SVJointSampler.steps=2", "--set", "T2SVEmptyAVLatent.num_frames=9")
    runs = [
        start("run", "w.json", *small, "--set", f"T2SVJointSampler.seed={seed}", "--set", "T2SVMux.filename_prefix=a/b")
        for seed in range(4)
    ]
    told = ended(runs)
    assert [code for code, *_ in told] == [0] * 4, told
    names = sorted(path.name for path in (tmp_path / "output" / "a").iterdir())
    assert names == [f"b_{number:05}_.mp4" for number in range(1, 5)]
    prompts = [json.loads(probe(tmp_path / "output" / "a" / name).tags["prompt"]) for name in names]
    assert {prompt["7"]["inputs"]["seed"] for prompt in prompts} == {0, 1, 2, 3}


def test_a_folder_in_which_another_run_trains_is_refused(command, tmp_path):
    output = tmp_path / "run"
    output.mkdir()
    (output / "config.json").write_text("theirs")
    for more in ((), ("--resume",)):
        with alone(output / ".lock", InputError("no")):
            outcome = command("train", "pocket_audio", *TRAINING, "--output", output, *more)
        assert outcome.code == 2 and "another run is training into this folder" in outcome.err, outcome.err
        assert [(path.name, path.read_text()) for path in output.iterdir()] == [("config.json", "theirs")]


@pytest.mark.slow
def test_two_trainings_into_one_folder(start, tmp_path):
    runs = [
        start("train", "pocket_audio", *TRAINING, "num_steps=3", f"seed={seed}", "--output", "run", "--quiet")
        for seed in (1, 2)
    ]
    told = ended(runs)
    assert sorted(code for code, *_ in told) == [0, 2], told
    assert "into this folder" in (said := " ".join(err for *_, err in told)) or "already holds a run" in said
    seed = 1 + [code for code, *_ in told].index(0)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == seed
    assert load_checkpoint(tmp_path / "run" / "checkpoints" / "step-0000003").config["seed"] == seed
    assert [json.loads(line)["step"] for line in (tmp_path / "run" / "loss.jsonl").open()] == [1, 2, 3]
    assert not hidden(tmp_path / "run")


@pytest.fixture
def clip(tmp_path) -> Path:
    write_clip(_clip(), tmp_path / "clips" / "one.mkv")
    return tmp_path / "clips" / "one.mkv"


def _clip():
    import torch
    from sounding_video.core.types import AudioClip, AVClip

    return AVClip(VideoClip(torch.rand(6, 32, 48, 3), 12), AudioClip(torch.zeros(2, 4000), 8000))


def test_two_captions_of_one_manifest(start, command, chat_server, clip, tmp_path):
    asked, go_on = threading.Event(), threading.Event()

    def slowly(body: dict) -> str:
        asked.set()
        assert go_on.wait(120)
        return "seen"

    chat_server.answers(slowly, "heard", *FLAWLESS)
    output = tmp_path / "list.jsonl"
    arguments = ["caption", clip, "-o", output, "--profile", "short", "--json", "--looking", "server",
        "--backend", "openai_server", "--server", chat_server.url, "--model", "tiny"]  # fmt: skip
    first = start(*arguments)
    try:
        assert asked.wait(120)
        second = command(*arguments)
    finally:
        go_on.set()
    assert second.code == 2 and "another run is writing captions into this file" in second.err + second.out
    ((code, _, err),) = ended([first])
    assert code == 0, err
    assert [row["file"] for row in read_rows(output)] == ["clips/one.mkv"]
    assert len(chat_server.requests) == 4, "the second asked nothing"
    assert not hidden(tmp_path)


@pytest.fixture(scope="module")
def reliability(root):
    spec = importlib.util.spec_from_file_location("reliability", root / "benchmarks" / "reliability.py")
    module = sys.modules["reliability"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("stopped", [False, True])
def test_two_downloads_of_one_model(start, reliability, tmp_path, stopped):
    """The second is refused while the first is under way; a killed one is gone on with."""
    with reliability.hub(3_000_000) as server:
        arguments = ("download", "wan-1.3b", "--models", tmp_path / "models", "--quiet")
        first = start(*arguments, **server.environment)
        assert server.began.wait(120)
        ((code, _, err),) = ended([start(*arguments, **server.environment)])
        assert code == 2 and "this model is being downloaded already" in err, err
        if stopped:
            first.send_signal(signal.SIGKILL)
            first.wait()
        server.hurry.set()
        last = start(*arguments, **server.environment) if stopped else first
        ((code, _, err),) = ended([last])
        assert code == 0, err
        for name, content in server.files.items():
            assert (tmp_path / "models" / name.removeprefix("split_files/")).read_bytes() == content
        assert not hidden(tmp_path / "models")
