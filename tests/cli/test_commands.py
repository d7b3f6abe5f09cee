"""The other commands, and what all commands share."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from sounding_video import __version__
from sounding_video.cli.bar import StageBars, StageLines
from sounding_video.cli.console import StopOnInterrupt
from sounding_video.cli.run import parse_overrides
from sounding_video.core.errors import Cancelled, InputError
from sounding_video.media.probe import probe

GRAPH = {
    "1": {"class_type": "T2SVLoadWanTower", "inputs": {"video_model": "wan"}},
    "2": {"class_type": "T2SVLoadStableAudioTower", "inputs": {"audio_model": "stable_audio"}},
    "3": {"class_type": "T2SVLoadBridge", "inputs": {"bridge_file": "bridge.safetensors", "fusion": "from file"}},
    "4": {
        "class_type": "T2SVJoinTowers",
        "inputs": {"video_tower": ["1", 0], "audio_tower": ["2", 0], "bridge": ["3", 0]},
    },
    "5": {
        "class_type": "T2SVEmptyAVLatent",
        "inputs": {"width": 32, "height": 32, "num_frames": 5, "fps": 15.0, "batch_size": 1}
        | {"video_codec": ["1", 2], "audio_codec": ["2", 2]},
    },
    "6": {
        "class_type": "T2SVEncodeCaptions",
        "inputs": {"video_text_encoder": ["1", 1], "audio_text_encoder": ["2", 1], "seconds": ["5", 3]}
        | {"video_caption": "waves", "audio_caption": "surf", "video_negative": "", "audio_negative": ""},
    },
    "7": {
        "class_type": "T2SVJointSampler",
        "inputs": {"model": ["4", 0], "conditioning": ["6", 0], "video_latent": ["5", 0], "audio_latent": ["5", 1]}
        | {"seed": 1, "steps": 2, "video_guidance_scale": 6.0, "audio_guidance_scale": 6.0}
        | {"schedule": "lockstep", "flow_sigmas": "diffusers-0.36", "guidance_batching": "auto"},
    },
    "8": {
        "class_type": "T2SVDecodeAV",
        "inputs": {"video_codec": ["1", 2], "audio_codec": ["2", 2], "fps": ["5", 2], "tiling": "auto"}
        | {"video_samples": ["7", 0], "audio_samples": ["7", 1]},
    },
    "9": {
        "class_type": "T2SVMux",
        "inputs": {"images": ["8", 0], "audio": ["8", 1], "fps": ["5", 2], "filename_prefix": "clip"}
        | {"format": "mp4", "writer": "pyav"},
    },
}  # fmt: skip


@pytest.fixture
def workflow(tmp_path):
    """The graph above as a file, loaders with their default placement."""
    for loader in ("1", "2"):
        GRAPH[loader]["inputs"] |= {"dtype": "auto", "attention": "auto", "offload": "none"}
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(GRAPH))
    return path


@pytest.fixture
def run(command, workflow, small_models_dir, tmp_path):
    """``run`` with the small models, into ``tmp_path / "out"``."""

    def call(*arguments):
        usual = ("--models", small_models_dir, "--output-dir", tmp_path / "out")
        return command("run", workflow, *usual, *arguments)

    return call


def test_run_writes_and_lists_the_file(run, tmp_path):
    outcome = run("--set", "T2SVJointSampler.steps=3", "--set", "6.video_caption=a=b, c.d")
    assert outcome.code == 0, outcome.err
    file = tmp_path / "out" / "clip_00001_.mp4"
    assert f"{file}: mp4, 0.333 s; h264 32x32, 5 frames at 15 fps; aac 8000 Hz stereo" in outcome.out
    graph = json.loads(probe(file).tags["prompt"])
    assert graph["7"]["inputs"]["steps"] == 3 and graph["6"]["inputs"]["video_caption"] == "a=b, c.d"
    assert "sampling: 3/3" in outcome.err and "untrained" not in outcome.err


def test_run_as_json(run, tmp_path):
    outcome = run("--json")
    assert outcome.err == ""
    values = outcome.json
    assert values["files"] == [str(tmp_path / "out" / "clip_00001_.mp4")] and values["trained"] is True
    assert values["outputs"]["9"]["images"][0]["filename"] == "clip_00001_.mp4"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--set", "7.steps"], 2, "--set needs a value: got '7.steps'; expected NODE.INPUT=VALUE"),
        (["--set", "7.steps=2", "--set", "7.steps=3"], 2, "--set names one input twice"),
        (["--set", "7.steps=many"], 2, "expected a whole number"),
        (["--set", "7.steps=0"], 2, "out of range"),
        (["--set", "7.stepps=2"], 2, "steps"),
        (["--set", "77.steps=2"], 2, "the workflow has no such node"),
        (["--set", "9.format=avi"], 2, "avi"),
        (["--set", "1.video_model=nothing"], 2, "nothing"),
        (["--set", "9.filename_prefix=../clip"], 2, "does not name a file inside the output folder"),
    ],
)
def test_a_workflow_that_cannot_run_is_refused(run, tmp_path, arguments, code, sentence):
    outcome = run(*arguments)
    assert outcome.code == code and sentence in outcome.err
    assert outcome.err.splitlines()[-1].startswith("error: ") and "Traceback" not in outcome.err
    assert not list((tmp_path / "out").rglob("*.*"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "the workflow file cannot be read"),
        ("{", "the workflow file is not JSON"),
        ("{}", "this is not a workflow"),
        ('{"nodes": [], "links": []}', "the workflow has no node that would run"),
        ('{"1": {"class_type": "KSampler", "inputs": {}}}', "KSampler"),
    ],
)
def test_a_file_that_is_no_workflow(command, tmp_path, content, sentence):
    path = tmp_path / "other.json"
    if content is not None:
        path.write_text(content)
    outcome = command("run", path, "--json")
    assert outcome.code == 2 and outcome.json["error"]["type"] == "WorkflowError"
    assert sentence in outcome.json["error"]["message"]


@pytest.mark.parametrize(
    ("server", "sentence"),
    [("http://127.0.0.1:9", "no ComfyUI server answers"), ("not an address", "this is not the address of a server")],
)
def test_queue_without_a_server(command, workflow, server, sentence):
    outcome = command("queue", workflow, "--server", server)
    assert outcome.code == 1 and sentence in outcome.err and "Traceback" not in outcome.err


def test_probe(run, command, tmp_path):
    assert run("--quiet").code == 0
    file = tmp_path / "out" / "clip_00001_.mp4"
    parts = [
        "mp4, 0.333 s",
        "h264 32x32, 5 frames at 15 fps",
        "aac 8000 Hz stereo, 2667 samples",
        "tags prompt, workflow",
    ]
    assert command("probe", file).out == f"{file}: {'; '.join(parts)}\n"
    values = command("probe", file, "--json").json
    assert (values["num_frames"], values["num_samples"], values["path"]) == (5, 2667, str(file))
    file.write_bytes(file.read_bytes()[:-500])
    outcome = command("probe", file)
    assert outcome.code == 2 and "the file is truncated" in outcome.err
    outcome = command("probe", tmp_path / "nothing.mp4")
    assert outcome.code == 2 and "there is no such file" in outcome.err


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["probe"], ["queue", "x.json"]])
def test_a_wrong_command_line(command, arguments):
    outcome = command(*arguments)
    assert outcome.code == 2 and outcome.err.startswith("error: ") and "--help" in outcome.err


def test_version(command, capsys):
    with pytest.raises(SystemExit) as caught:
        command("--version")
    assert caught.value.code == 0 and capsys.readouterr().out == f"sounding-video {__version__}\n"


def test_help_answers_at_once(python_with_package):
    """No model library is loaded for it. Best of three, the start of Python included."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        process = python_with_package("from sounding_video.cli import main\nmain(['generate', '--help'])")
        out, err = process.communicate(timeout=30)
        seconds.append(time.perf_counter() - started)
        assert process.returncode == 0 and "--video-caption" in out, err
    assert min(seconds) < 1.0


def test_the_module_is_the_command(root):
    """``python -m sounding_video``, as the installed package gives it."""
    probe_run = subprocess.run(
        [sys.executable, "-c", "import importlib.util as u; print(u.find_spec('sounding_video'))"],
        capture_output=True,
        text=True,
        cwd=root.parent,
        check=True,
    )
    if probe_run.stdout.strip() == "None":
        pytest.skip("the package is not installed here")
    done = subprocess.run(
        [sys.executable, "-m", "sounding_video", "probe", "nothing.mp4"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and done.stderr.startswith("error: there is no such file")


def test_set_splits_at_the_first_equals_sign():
    assert parse_overrides(["6.caption=a=b", "T2SVMux.format="]) == {"6.caption": "a=b", "T2SVMux.format": ""}
    with pytest.raises(InputError, match="needs a value"):
        parse_overrides(["6.caption"])


def test_lines_come_when_a_stage_is_done(capsys):
    lines = StageLines()
    for done in range(1, 4):
        lines.report("sample", done, 3)
    lines.report("mux", 1, 2)
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == ["sampling: 3/3"]


def test_bars_show_stage_steps_and_start_anew(capsys):
    bars = StageBars()
    for stage, total in (("sample", 2), ("decode", 2), ("decode", 2), ("T2SVSomeNode", 1)):
        for done in range(1, total + 1):
            bars.report(stage, done, total)
    bars.close()
    text = capsys.readouterr().err
    assert text.count("decoding: 100%") == 2  # two clips of a batch: a bar each
    assert "sampling: 100%" in text and "2/2" in text and "T2SVSomeNode" in text


def test_an_interrupt_that_a_library_swallows_still_stops_the_run():
    import os
    import signal

    before = signal.getsignal(signal.SIGINT)  # a shell's background jobs ignore it
    with pytest.raises(Cancelled), StopOnInterrupt() as check:
        check()
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            pass  # as a careless library does
        check()
    with pytest.raises(Cancelled), StopOnInterrupt():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt as error:
            raise ImportError("half loaded") from error
    assert signal.getsignal(signal.SIGINT) is before


def test_the_log_and_the_warnings_are_as_before(run):
    import logging
    import warnings

    logger = logging.getLogger("sounding_video")
    before = (list(logger.handlers), logger.level, list(warnings.filters))
    assert run("--verbose", "--set", "7.steps=0").code == 2
    assert (list(logger.handlers), logger.level, list(warnings.filters)) == before


@pytest.mark.parametrize(
    "line",
    [
        "pocket_bridges batch_size=3 num_steps=7 --print-config",
        "pocket_bridges --print-config batch_size=3 num_steps=7",
        "--print-config pocket_bridges batch_size=3 num_steps=7",
        "pocket_bridges batch_size=3 --print-config num_steps=7",
    ],
)
def test_options_may_stand_between_what_has_no_name(command, line):
    outcome = command("train", *line.split(), "--json")
    assert outcome.code == 0 and (outcome.json["batch_size"], outcome.json["num_steps"]) == (3, 7)


def test_files_may_stand_on_both_sides_of_an_option(command, tmp_path):
    one, two = tmp_path / "one.mp4", tmp_path / "two.mp4"
    one.write_bytes(b"no video")
    outcome = command("sound", one, "-o", tmp_path / "sounds", two, "waves")
    assert outcome.code == 2 and f"the file was not found: got {two}" in outcome.err


def test_a_second_ctrl_c_of_a_training_ends_in_a_word_too(command, monkeypatch, tmp_path):
    """The first waits for the running step, and the second for nothing."""
    import os
    import signal

    def train(*arguments, **options):
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    monkeypatch.setattr("sounding_video.training.trainer.train", train)
    outcome = command("train", "pocket_audio", "--output", tmp_path / "run")
    assert (outcome.code, outcome.err.splitlines()[-1]) == (130, "stopped by the user.")
