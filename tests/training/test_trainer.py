"""The loop: it learns, it resumes exactly after a kill, it refuses NaN, and it stops when asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sounding_video.core.errors import Cancelled, InputError, MissingModelError, MissingPackageError, NonFiniteError
from sounding_video.core.progress import SILENT, Progress
from sounding_video.models.patching import with_tuned_blocks
from sounding_video.models.weights.bridges import load_bridges
from sounding_video.models.weights.files import read_safetensors
from sounding_video.training.assembly import assemble, build_workbench, exported
from sounding_video.training.batches import Batches, Share
from sounding_video.training.checkpoint import checkpoints, latest_checkpoint, load_checkpoint
from sounding_video.training.config import TrainConfig
from sounding_video.training.log import cut_log, read_log
from sounding_video.training.trainer import train
from training_runs import Died, dying_at

LOSSES = ("total", "video", "audio")
CHILD = """
import json, os, signal, torch
torch.set_num_threads(int(sys.argv[4]))  # sums depend on it: a resumed run must have as many as the whole one
from sounding_video.core.progress import Progress
from sounding_video.training.config import TrainConfig
from sounding_video.training.trainer import train
config = TrainConfig.from_dict(json.loads(sys.argv[1]))
def die(stage, done, total, preview=None):
    if stage == 'train' and done == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
train(config, sys.argv[2], progress=Progress(report=die))
"""


def curve(output: Path, *names: str) -> torch.Tensor:
    return torch.tensor([[row[name] for name in names or LOSSES] for row in read_log(output / "loss.jsonl")])


@pytest.mark.parametrize("how", ["dies", pytest.param("killed", marks=pytest.mark.slow)])
def test_a_run_that_was_cut_off_continues_exactly(
    small_run, loaded_anew, python_with_package, tmp_path, how: str
) -> None:
    """After step 7 of 10, also by SIGKILL; checkpoints every 3: the continued curve is the uninterrupted one."""
    config = small_run(
        "pocket_bridges", "trainable=bridges,video_last:1", "num_steps=10", "saving.every=3", "accumulation=2",
        "optimizer.ema_decay=0.9", "batch_size=1",
    )  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(config, whole)
    if how == "killed":
        arguments = [json.dumps(config.as_dict()), str(cut), "7", str(torch.get_num_threads())]
        process = python_with_package(CHILD, arguments)
        _, err = process.communicate(timeout=240)
        assert process.returncode == -9, err
    else:
        with pytest.raises(Died):
            train(config, cut, progress=Progress(dying_at(7)))
    assert len(read_log(cut / "loss.jsonl")) == 7
    assert latest_checkpoint(cut).name == "step-0000006"
    train(config, cut, resume=True)
    assert [row["step"] for row in read_log(cut / "loss.jsonl")] == list(range(1, 11))
    torch.testing.assert_close(curve(cut), curve(whole), rtol=0, atol=1e-6)
    ends = [load_checkpoint(latest_checkpoint(folder)) for folder in (whole, cut)]
    for part in ("weights", "average", "optimizer"):
        for name, tensor in getattr(ends[0], part).items():
            torch.testing.assert_close(getattr(ends[1], part)[name], tensor, rtol=0, atol=1e-6, msg=name)


def loss_on_fixed_clips(config: TrainConfig, weights: dict[str, torch.Tensor]) -> float:
    bench = build_workbench(config, Path(config.models.root))
    batches = Batches(config, bench, Path(config.data.cache))
    batches.prepare(torch.device("cpu"), Share(), SILENT)
    for name, parameter in bench.parameters.items():
        parameter.data.copy_(weights.get(name, parameter.data))
    with torch.no_grad():
        return float(bench.step(batches.at(10_000, 16).tensors)["total"])


def test_bridges_between_frozen_towers_learn(small_run, tmp_path) -> None:
    config = small_run("pocket_bridges", "num_steps=30", "batch_size=4", "saving.every=30", "optimizer.ema_decay=0.9")
    before = loss_on_fixed_clips(config, {})
    report = train(config, tmp_path)
    after = loss_on_fixed_clips(config, load_file(report.checkpoint / "weights.safetensors"))
    averaged = loss_on_fixed_clips(config, load_file(report.checkpoint / "average.safetensors"))
    assert after < before - 0.05
    assert averaged < before - 0.05
    assert averaged != after
    exported = load_bridges(report.checkpoint / "export" / "bridge.safetensors")
    own = {f"joint.bridges.{name}": tensor for name, tensor in exported.stack.state_dict().items()}
    average = load_file(report.checkpoint / "average.safetensors")
    assert all(torch.equal(own[name], tensor) for name, tensor in average.items())
    assert exported.stack.points.video == (0, 1)


def test_every_step_takes_the_next_clips(small_run, tmp_path) -> None:
    """At rate 0 the logged losses are those of places 0–1, 2–3, 4–5 of the run."""
    config = small_run("pocket_bridges", "num_steps=3", "optimizer.lr=0", "optimizer.min_lr=0")
    train(config, tmp_path)
    bench = build_workbench(config, Path(config.models.root))
    batches = Batches(config, bench, Path(config.data.cache))
    with torch.no_grad():
        wanted = [float(bench.step(batches.at(2 * step, 2).tensors)["total"]) for step in range(3)]
    assert curve(tmp_path, "total")[:, 0].tolist() == pytest.approx(wanted, abs=1e-6)
    assert len(set(wanted)) == 3


def test_tuned_blocks_are_in_the_bridge_file(small_run, small_models_dir, tmp_path) -> None:
    config = small_run("pocket_bridges", "trainable=bridges,video_last:1,audio_blocks:0-1", "optimizer.ema_decay=0")
    report = train(config, tmp_path)
    loaded = load_bridges(report.checkpoint / "export" / "bridge.safetensors")
    assert {name.split(".")[1] for name in loaded.tower_weights["video"]} == {"2"}
    assert {name.split(".")[1] for name in loaded.tower_weights["audio"]} == {"0", "1"}
    bench = build_workbench(config, small_models_dir)
    tower = with_tuned_blocks(bench.video.tower, loaded.tower_weights["video"])
    weights = load_file(report.checkpoint / "weights.safetensors")
    name = "blocks.2.attn1.to_q.weight"
    assert torch.equal(tower.model.get_parameter(name), weights[f"joint.video.model.{name}"])
    assert not torch.equal(tower.model.get_parameter(name), bench.video.tower.model.get_parameter(name))


def test_codecs_and_towers_chain_by_overlays(small_run, small_models_dir, tmp_path) -> None:
    """Each run leaves what the next one lays over its models; the video codec's statistics are measured."""
    vae = train(small_run("pocket_wan_vae"), tmp_path / "vae")
    sound = train(small_run("pocket_oobleck", "trainable=audio_codec", "optimizer.ema_decay=0"), tmp_path / "sound")
    overlays = f"models.overlays={tmp_path / 'vae'},{tmp_path / 'sound'}"
    train(small_run("pocket_video", overlays), tmp_path / "video")
    train(small_run("pocket_audio", overlays), tmp_path / "audio")
    runs = tuple(tmp_path / name for name in ("vae", "sound", "video", "audio"))
    models = assemble(small_models_dir, runs, tmp_path / "models")
    config = json.loads((models / "wan/vae/config.json").read_text())
    base = json.loads((small_models_dir / "wan/vae/config.json").read_text())
    assert config["latents_std"] != base["latents_std"]
    bench = build_workbench(small_run("pocket_bridges"), models)
    learned = load_file(sound.checkpoint / "weights.safetensors")["vae.decoder.conv1.bias"]
    assert torch.equal(bench.audio.codec.vae.decoder.conv1.bias, learned)
    assert set(vae.losses) == {"total", "pixels", "edges", "kl"}
    assert set(sound.losses) == {"total", "stft", "waveform", "kl"}
    stock = build_workbench(small_run("pocket_bridges"), small_models_dir)
    for side in ("video", "audio"):
        old, new = (getattr(b, side).tower.model.proj_out.weight for b in (stock, bench))
        assert not torch.equal(old, new)
    with pytest.raises(MissingModelError, match="this is not a training run with a checkpoint"):
        assemble(small_models_dir, (tmp_path / "nowhere",), tmp_path / "other")


@pytest.mark.parametrize("order", [("decoder", "encoder"), ("encoder", "decoder")])
@pytest.mark.parametrize("modality", ["video", "audio"])
def test_halves_of_a_codec_are_laid_over_apart(small_run, small_models_dir, tmp_path, modality, order) -> None:
    """A run that trained one half does not bring back an older state of the other, nor move the latents."""
    codecs = {"video": ("pocket_wan_vae", "wan/vae"), "audio": ("pocket_oobleck", "stable_audio/vae")}
    recipe_name, place = codecs[modality]
    for half in order:
        train(small_run(recipe_name, f"trainable={modality}_{half}", "num_steps=3"), tmp_path / half)
    models = assemble(small_models_dir, tuple(tmp_path / half for half in order), tmp_path / "models")
    laid, base = (load_file(next((f / place).glob("*.safetensors"))) for f in (models, small_models_dir))
    for half in order:
        own = load_file(next(exported(tmp_path / half).rglob("*.safetensors")))
        mine = [name for name in own if name.startswith(half)]
        assert mine and all(torch.equal(laid[name], own[name]) for name in mine)
        assert any(not torch.equal(laid[name], base[name]) for name in mine)
    if modality == "video":
        configs = [json.loads((f / place / "config.json").read_text()) for f in (models, small_models_dir)]
        assert configs[0]["latents_mean"] == configs[1]["latents_mean"]
        assert configs[0]["latents_std"] == configs[1]["latents_std"]


def test_a_bridge_file_does_not_tell_where_it_was_trained(small_run, tmp_path) -> None:
    config = small_run("pocket_bridges", "num_steps=2")
    assert Path(config.models.root).is_absolute() and Path(config.data.cache).is_absolute()
    train(config, tmp_path / "run")
    notes = read_safetensors(exported(tmp_path / "run") / "bridge.safetensors")[1]
    told = json.loads(notes["training"])
    assert told["models"]["root"] == Path(config.models.root).name and told["num_steps"] == 2
    assert str(tmp_path.parent.parent) not in json.dumps(notes)


def test_a_loss_that_is_not_a_number_stops_the_run(small_run, tmp_path) -> None:
    """A rate that makes the weights explode: the message has step and clips, the last good checkpoint stays."""
    config = small_run(
        "pocket_bridges", "optimizer.lr=1e9", "optimizer.warmup_steps=2", "optimizer.max_grad_norm=0", "saving.every=1"
    )
    with pytest.raises(NonFiniteError) as error:
        train(config, tmp_path)
    message = str(error.value)
    step = len(read_log(tmp_path / "loss.jsonl")) + 1
    assert f"is NaN or infinite at step {step}:" in message
    assert "in a batch of ball-" in message
    last = latest_checkpoint(tmp_path)
    assert str(last) in message
    assert all(torch.isfinite(t).all() for t in load_checkpoint(last).weights.values())


def test_a_stop_writes_a_checkpoint_and_resume_goes_on(small_run, tmp_path) -> None:
    config, seen = small_run("pocket_bridges", "saving.every=100"), []

    def report(stage: str, done: int, total: int, preview: object = None) -> None:
        seen.extend([done] if stage == "train" else [])

    def check() -> None:
        if len(seen) == 2:
            raise Cancelled

    with pytest.raises(Cancelled, match="stopped by the user after step 2; continue with --resume") as error:
        train(config, tmp_path, progress=Progress(report, check))
    assert error.value.exit_code == 130
    assert latest_checkpoint(tmp_path).name == "step-0000002"
    with pytest.raises(InputError, match="the output folder already holds a run"):
        train(config, tmp_path)
    with pytest.raises(InputError, match=r"the run to resume had another configuration: got optimizer.lr: 0.01, 0.02"):
        train(config.override(["optimizer.lr=0.02"]), tmp_path, resume=True)
    assert train(config, tmp_path, resume=True).num_steps == 4
    with pytest.raises(MissingModelError, match="there is nothing to resume"):
        train(config, tmp_path / "empty", resume=True)


def test_only_the_last_checkpoints_stay(small_run, tmp_path) -> None:
    train(small_run("pocket_audio", "num_steps=5", "saving.every=1", "saving.keep=2"), tmp_path)
    assert [folder.name for folder in checkpoints(tmp_path)] == ["step-0000004", "step-0000005"]
    assert [p.name for p in (tmp_path / "checkpoints").iterdir() if p.name.startswith(".")] == []


def test_the_loss_picture_is_drawn(small_run, tmp_path) -> None:
    pytest.importorskip("matplotlib")
    from PIL import Image

    train(small_run("pocket_bridges", "saving.plot=true"), tmp_path)
    with Image.open(tmp_path / "loss.png") as picture:
        assert picture.size[0] > 500


def test_a_log_that_was_cut_short_is_read(tmp_path) -> None:
    log = tmp_path / "loss.jsonl"
    log.write_text('{"step": 1, "total": 2}\n{"step": 2, "total": 1}\n{"step": 3, "to')
    assert [row["step"] for row in read_log(log)] == [1, 2]
    cut_log(log, 1)
    assert log.read_text() == '{"step": 1, "total": 2}\n'


def launch(config: TrainConfig, output: Path, loader: Callable[..., subprocess.Popen], folder: Path) -> None:
    """Two processes through ``accelerate launch``; the configuration's device=cpu makes them talk over gloo."""
    script = folder / "two.py"
    code = loader("", stdout=subprocess.PIPE).args[2]  # the lines that load this checkout
    script.write_text(
        code + "import json\nfrom sounding_video.training.config import TrainConfig\n"
        "from sounding_video.training.trainer import train\n"
        "train(TrainConfig.from_dict(json.loads(sys.argv[1])), sys.argv[2])\n"
    )
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", str(script),
        json.dumps(config.as_dict()), str(output),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_are_one_with_the_doubled_batch(small_run, python_with_package, tmp_path) -> None:
    settings = ("num_steps=6", "optimizer.ema_decay=0.9", "trainable=bridges,video_first:1")
    one = small_run("pocket_bridges", *settings, "batch_size=4")
    train(one, tmp_path / "one")
    two = small_run("pocket_bridges", *settings, "batch_size=2", f"data.cache={tmp_path / 'cache'}")
    launch(two, tmp_path / "two", python_with_package, tmp_path)
    torch.testing.assert_close(curve(tmp_path / "two"), curve(tmp_path / "one"), rtol=0, atol=1e-4)
    accumulated = small_run("pocket_bridges", *settings, "batch_size=2", "accumulation=2")
    train(accumulated, tmp_path / "accumulated")
    torch.testing.assert_close(curve(tmp_path / "accumulated"), curve(tmp_path / "one"), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_two_processes_with_critics_are_one_with_the_doubled_batch(small_run, python_with_package, tmp_path) -> None:
    """Who has not the turn has no gradient to exchange."""
    settings = ("num_steps=4", "trainable=av_codec,critic", "objective.critic_channels=4", "optimizer.lr=1e-3")
    one = small_run("pocket_pav_dit_mdsa", *settings, "batch_size=4")
    train(one, tmp_path / "one")
    two = small_run("pocket_pav_dit_mdsa", *settings, "batch_size=2", f"data.cache={tmp_path / 'cache'}")
    launch(two, tmp_path / "two", python_with_package, tmp_path)
    torch.testing.assert_close(curve(tmp_path / "two", "total"), curve(tmp_path / "one", "total"), rtol=0, atol=1e-4)


def test_other_clips_than_at_the_start_are_refused(small_run, tmp_path) -> None:
    config = small_run("pocket_bridges")
    train(config, tmp_path)
    state = latest_checkpoint(tmp_path) / "state.json"
    values = json.loads(state.read_text())
    state.write_text(json.dumps({**values, "data": "0123"}))
    with pytest.raises(InputError, match=r"the clips are not those that the run began with: got data hash .*0123"):
        train(config, tmp_path, resume=True)


def test_matplotlib_is_asked_for_before_the_run_and_not_at_its_end(small_run, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match="pip install matplotlib"):
        train(small_run("pocket_bridges", "saving.plot=true"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["multi_gpu", "fsdp", "deepspeed_zero2"])
def test_launch_files_are_what_accelerate_reads(root: Path, name: str) -> None:
    """accelerate's own reader refuses keys that it does not know."""
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(root / "training" / "launch" / f"{name}.yaml"))
    assert config.num_processes == 4
    assert config.mixed_precision == "no"
