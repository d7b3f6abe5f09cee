"""LoRA as a trainable part: it begins as nothing, learns beside frozen layers, and stock readers get the same model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sounding_video.cli import main
from sounding_video.core.errors import Cancelled, IncompatibleWeightsError, InputError
from sounding_video.core.progress import Progress
from sounding_video.core.types import Modality
from sounding_video.models.bridges import BRIDGES
from sounding_video.models.joint import JointModel
from sounding_video.models.lora.apply import with_lora
from sounding_video.models.lora.files import read_lora
from sounding_video.models.weights.bridges import save_bridges
from sounding_video.training.assembly import assemble, build_workbench, exported
from sounding_video.training.checkpoint import load_checkpoint
from sounding_video.training.config import TrainConfig
from sounding_video.training.lora import LoraSetting, loras_of
from sounding_video.training.tasks import TRAINING_TASKS
from sounding_video.training.tasks._conditioned import ConditionedTask
from sounding_video.training.tasks._denoising import DenoisingTask
from sounding_video.training.trainer import train
from training_runs import RECIPE_OF, bench_of

AT_ONCE = ("num_steps=3", "saving.every=3", "optimizer.warmup_steps=0", "optimizer.ema_decay=0")
# A LoRA that reads the other side's tokens is none for the tower alone: test_conditioned.py.
WITH_LORA = [
    task
    for task in RECIPE_OF
    if issubclass(TRAINING_TASKS.get(task), DenoisingTask) and not issubclass(TRAINING_TASKS.get(task), ConditionedTask)
]
EVERY = pytest.mark.parametrize("task", WITH_LORA)
Run = Callable[..., TrainConfig]


def run_of(small_run: Run, task: str, *overrides: str) -> TrainConfig:
    """A small run of a task, with the small model's bridges."""
    config = small_run(RECIPE_OF[task])
    return config.override([f"bridges.start={Path(config.models.root) / 'bridge.safetensors'}", *overrides])


def loras_in(small_run: Run, task: str) -> list[str]:
    """The parts of a task that are LoRAs."""
    bench = build_workbench(config := run_of(small_run, task), Path(config.models.root))
    return [name for name in bench.task.parts(bench.step) if name.endswith("_lora")]


def predictions(joint: JointModel, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Of whatever towers the model has."""
    t, video, audio = batch["t"], None, None
    if joint.video is not None:
        video = Modality(batch["video_latents"], 1000 * t, batch["video_text"])
    if joint.audio is not None:
        audio = Modality(batch["audio_latents"], t, batch["audio_text"], batch["duration"])
    with torch.no_grad():
        return [prediction for prediction in joint.eval()(video, audio) if prediction is not None]


def trained(config: TrainConfig, checkpoint: Path) -> JointModel:
    """The model as training left it."""
    bench = build_workbench(config, Path(config.models.root))
    weights = load_checkpoint(checkpoint).weights
    assert set(weights) == set(bench.parameters)
    with torch.no_grad():
        for name, parameter in bench.parameters.items():
            parameter.copy_(weights[name])
    return bench.step.joint


@EVERY
def test_a_new_lora_is_the_model_as_it_was_and_all_of_it_learns(small_run, task) -> None:
    """Also with gradient checkpoints and in pure bfloat16."""
    lora = [f"{name}:4:8" for name in loras_in(small_run, task)]
    plain, batch = bench_of(run_of(small_run, task))
    bench, _ = bench_of(run_of(small_run, task, f"trainable={','.join(lora)}"))
    with torch.no_grad():
        assert torch.equal(bench.step(batch.tensors)["total"], plain.step(batch.tensors)["total"])
    assert all(name.endswith(("down_0", "up_0")) for name in bench.parameters)
    for settings in (("models.gradient_checkpointing=true",), ("precision=pure-bf16",)):
        bench, _ = bench_of(run_of(small_run, task, f"trainable={','.join(lora)}", *settings))
        with torch.no_grad():
            for parameter in bench.parameters.values():
                parameter.add_(0.05)  # behind zeros nothing learns yet
        bench.step(batch.tensors)["total"].backward()
        assert [name for name, p in bench.parameters.items() if p.grad is None or not p.grad.any()] == []
        assert [
            name for name, p in bench.step.named_parameters() if name not in bench.parameters and p.grad is not None
        ] == []


@pytest.mark.parametrize(("task", "alpha"), [("joint", ""), *((task, ":7") for task in WITH_LORA)])
def test_our_loader_reads_what_was_trained(small_run, task, tmp_path, alpha: str) -> None:
    names = loras_in(small_run, task)
    config = run_of(small_run, task, f"trainable={','.join(f'{name}:4{alpha}' for name in names)}", *AT_ONCE)
    checkpoint = train(config, tmp_path / "run").checkpoint
    export = exported(tmp_path / "run")
    assert sorted(path.name for path in export.iterdir()) == sorted(names)
    plain, batch = bench_of(run_of(small_run, task))
    joint = plain.step.joint
    for name in names:
        # Under another name, away from the configuration beside it, as in ComfyUI's folder.
        file = shutil.copy(export / name / "adapter_model.safetensors", tmp_path / f"my {name}.safetensors")
        joint, report = with_lora(joint, read_lora(file))
        assert report.unmatched == () and report.matched
    wanted, before = (
        predictions(trained(config, checkpoint), batch.tensors),
        predictions(plain.step.joint, batch.tensors),
    )
    for mine, theirs, old in zip(predictions(joint, batch.tensors), wanted, before, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
        assert float((theirs - old).abs().max()) > 1e-3


@pytest.mark.parametrize("alpha", ["", ":7"])
def test_peft_and_diffusers_read_it_with_their_own_loaders(small_run, small_models_dir, tmp_path, alpha: str) -> None:
    peft = pytest.importorskip("peft")
    from diffusers import WanTransformer3DModel

    config = run_of(small_run, "video", f"trainable=video_lora:4{alpha}", *AT_ONCE)
    checkpoint = train(config, tmp_path / "run").checkpoint
    adapter = exported(tmp_path / "run") / "video_lora"
    batch = bench_of(config)[1].tensors
    inputs = (batch["video_latents"], 1000 * batch["t"], batch["video_text"])
    model = trained(config, checkpoint).eval().video.model
    with torch.no_grad():
        wanted = model(*inputs, return_dict=False)[0]

    def made() -> WanTransformer3DModel:
        return WanTransformer3DModel.from_pretrained(small_models_dir / "wan" / "transformer")

    theirs = {"peft": peft.PeftModel.from_pretrained(made(), adapter)}
    theirs["diffusers, alpha from the header"] = made()
    theirs["diffusers, alpha from the header"].load_lora_adapter(
        str(adapter), weight_name="adapter_model.safetensors", prefix="base_model.model"
    )
    theirs["peft, by hand"] = made()
    peft.inject_adapter_in_model(peft.LoraConfig.from_pretrained(adapter), theirs["peft, by hand"])
    left = peft.set_peft_model_state_dict(theirs["peft, by hand"], load_file(adapter / "adapter_model.safetensors"))
    assert left.unexpected_keys == []
    for who, other in theirs.items():
        with torch.no_grad():
            out = other.eval()(*inputs, return_dict=False)[0]
        torch.testing.assert_close(out, wanted, rtol=1e-5, atol=1e-6, msg=who)


@EVERY
def test_a_stopped_run_goes_on_exactly(small_run, task, tmp_path) -> None:
    parts = ",".join(f"{name}:4" for name in loras_in(small_run, task))
    config = run_of(small_run, task, f"trainable={parts}", "num_steps=4", "optimizer.ema_decay=0.9", "accumulation=2")
    whole, done = train(config, tmp_path / "whole"), []

    def stop() -> None:
        if len(done) == 2:
            raise Cancelled

    def note(stage: str, *_: object) -> None:
        done.extend([stage] if stage == "train" else [])

    with pytest.raises(Cancelled):
        train(config, tmp_path / "stopped", progress=Progress(note, stop))
    again = train(config, tmp_path / "stopped", resume=True)
    states = [load_checkpoint(report.checkpoint) for report in (whole, again)]
    for part in ("weights", "average", "optimizer"):
        first, second = (getattr(state, part) for state in states)
        assert first and all(torch.equal(first[name], second[name]) for name in first)
    files = [sorted(exported(tmp_path / run).rglob("*.safetensors")) for run in ("whole", "stopped")]
    for mine, other in zip(*files, strict=True):
        assert mine.read_bytes() == other.read_bytes()


def test_the_average_is_what_is_written(small_run, tmp_path) -> None:
    config = run_of(small_run, "audio", "trainable=audio_lora:2", "num_steps=3", "optimizer.ema_decay=0.9")
    average = load_checkpoint(train(config, tmp_path).checkpoint).average
    written = load_file(exported(tmp_path) / "audio_lora" / "adapter_model.safetensors")
    assert len(written) == len(average)
    for name, tensor in written.items():
        own = name.removeprefix("base_model.model.").replace("lora_A.weight", "down_0").replace("lora_B.weight", "up_0")
        assert torch.equal(tensor, average[f"joint.audio.model.{own}"])


@pytest.mark.parametrize("kind", BRIDGES)
def test_it_stands_beside_whatever_a_kind_of_bridge_uses(small_run, tmp_path, kind: str) -> None:
    """Layers that a one-way kind only has for the file's sake get none."""
    new = build_workbench(config := small_run("pocket_bridges", f"bridges.kind={kind}"), Path(config.models.root))
    save_bridges(tmp_path / "start.safetensors", new.step.joint.bridges)
    run = small_run("pocket_bridges", f"bridges.start={tmp_path / 'start.safetensors'}", "trainable=bridges_lora:2")
    bench, batch = bench_of(run)
    with torch.no_grad():
        for parameter in bench.step.joint.bridges.parameters():  # new bridges are zeros at their ends
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    bench.step(batch.tensors)["total"].backward()
    assert bench.parameters
    assert [name for name, p in bench.parameters.items() if p.grad is None or not p.grad.any()] == []


def test_layers_are_chosen_by_words_of_their_names(small_run) -> None:
    def chosen(part: str) -> set[str]:
        return set(loras_of(bench_of(run_of(small_run, "video", f"trainable={part}"))[0].step.joint.video.model))

    every = chosen("video_lora:2")
    assert {name.split(".")[0] for name in every} == {"blocks"} and any(".ffn." in name for name in every)
    assert chosen("video_lora:2:2:to_q+to_v") == {name for name in every if name.endswith(("to_q", "to_v"))}
    assert chosen("video_lora:2::attn1.to_out") == {name for name in every if name.endswith("attn1.to_out.0")}
    assert chosen("video_lora:2::blocks.1") == {name for name in every if name.startswith("blocks.1.")}
    assert chosen("video_lora:2::blocks.[02].*.to_k") == {
        name for name in every if name.endswith("to_k") and name[7] in "02"
    }
    assert LoraSetting.read("8:4").scale == 0.5 and LoraSetting.read("8").scale == 1


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        *((part, f"as it should be: got '{part}'; expected video_lora:16") for part in (
            "video_lora", "video_lora:0", "video_lora:-2", "video_lora:x", "video_lora:4:0", "video_lora:4:nan",
            "video_lora:4:inf", "video_lora:4:4:to_q:5", "video_lora:4::to_q+", "video_lora:1.5",
        )),
        ("video_lora:1000000000", "than any layer that it stands beside: got video_lora of rank 1000000000; expected"),
        ("bridges,audio_lora:99999", "than any layer that it stands beside: got audio_lora of rank 99999; expected"),
        ("video_lora:4::to_w", "got video_lora with to_w; expected words of their names, such as attn1, attn2, blocks"),
        ("video_lora:4::to_q+to_w", "got video_lora with to_w; expected words of their names"),
        ("video_lora:4::to_q,video_lora:2::to_v", "a LoRA is named twice: got video_lora"),
        ("video_lora:4,video_last:1", "a layer is to learn both as a whole and by a LoRA beside it: got joint.video"),
        ("video_tower,video_lora:4", "expected one of both for each layer"),
        ("bridges_lora:4", "a LoRA needs bridges to stand beside"),
        ("bridges,bridges_lora:4", "a LoRA needs bridges to stand beside"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(small_run, parts: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        build_workbench(config := small_run("pocket_bridges", f"trainable={parts}"), Path(config.models.root))
    assert sentence in str(error.value)


def test_blocks_learn_as_a_whole_beside_a_lora_on_others(small_run, tmp_path) -> None:
    """The folder of the tower has its stock names, and both together are what was trained."""
    config = run_of(small_run, "video", "trainable=video_last:1,video_lora:4::blocks.0+blocks.1", *AT_ONCE)
    checkpoint = train(config, tmp_path / "run").checkpoint
    models = assemble(config.models.root, (tmp_path / "run",), tmp_path / "models")
    stock = load_file(next((Path(config.models.root) / "wan/transformer").glob("*.safetensors")))
    laid = load_file(next((models / "wan/transformer").glob("*.safetensors")))
    assert set(laid) == set(stock)
    changed = {name for name in laid if not torch.equal(laid[name], stock[name])}
    assert {name.split(".")[1] for name in changed} == {"0", "1", "2"}
    batch = bench_of(config)[1]
    merged = build_workbench(small_run("pocket_video"), models).step.joint
    wanted = predictions(trained(config, checkpoint), batch.tensors)
    torch.testing.assert_close(predictions(merged, batch.tensors), wanted, rtol=1e-5, atol=1e-5)


def test_loras_of_towers_are_laid_over_a_model_and_those_of_bridges_are_not(small_run, tmp_path) -> None:
    config = run_of(small_run, "joint", "trainable=video_lora:4:2,audio_lora:2", *AT_ONCE)
    checkpoint = train(config, tmp_path / "run").checkpoint
    models = assemble(config.models.root, (tmp_path / "run",), tmp_path / "models")
    assert (models / "bridge.safetensors").is_file(), "the bridges were not trained, so the folder's own stay"
    batch = bench_of(config)[1]
    merged = build_workbench(run_of(small_run, "joint"), models).step.joint
    wanted = predictions(trained(config, checkpoint), batch.tensors)
    torch.testing.assert_close(predictions(merged, batch.tensors), wanted, rtol=1e-5, atol=1e-5)
    train(run_of(small_run, "joint", "trainable=bridges_lora:2", *AT_ONCE), tmp_path / "bridges")
    with pytest.raises(InputError, match=r"which bridges it belongs to is not known there.*--lora .*bridges_lora"):
        assemble(config.models.root, (tmp_path / "bridges",), tmp_path / "other")
    adapter = exported(tmp_path / "run") / "video_lora"
    adapter.rename(adapter.with_name("audio_lora_of_another"))
    adapter.with_name("audio_lora").rename(adapter)
    with pytest.raises(IncompatibleWeightsError, match="an earlier run's LoRA does not fit the model it is laid over"):
        assemble(config.models.root, (tmp_path / "run",), tmp_path / "other")


def test_a_whole_tower_of_a_joint_run_is_a_model_folder(small_run, tmp_path) -> None:
    parts = "bridges,audio_tower,video_last:1,video_lora:2::blocks.0"
    config = small_run("pocket_bridges", f"trainable={parts}", *AT_ONCE)
    checkpoint = train(config, tmp_path / "run").checkpoint
    export = exported(tmp_path / "run")
    written = load_file(next((export / "stable_audio/transformer").glob("*.safetensors")))
    weights = load_checkpoint(checkpoint).weights
    assert all(torch.equal(tensor, weights[f"joint.audio.model.{name}"]) for name, tensor in written.items())
    assert not (export / "wan").exists()
    header = load_file(export / "bridge.safetensors")
    assert {name.split(".")[1] for name in header if name.startswith("blocks.")} == {"2"}
    assert not any(name.startswith("transformer_blocks.") for name in header)
    models = assemble(config.models.root, (tmp_path / "run",), tmp_path / "models")
    loaded = build_workbench(small_run("pocket_audio"), models).step.joint.audio.model.state_dict()
    assert all(torch.equal(tensor, written[name]) for name, tensor in loaded.items())


def test_generate_takes_the_folder(small_run, small_models_dir, tmp_path, capsys) -> None:
    config = small_run("pocket_video", "trainable=video_lora:4", *AT_ONCE)
    train(config, tmp_path / "run")
    adapter = exported(tmp_path / "run") / "video_lora"
    said = ("--models", small_models_dir, "--frames", 5, "--size", "32x32", "--steps", 2, "--lora", adapter, "--json")
    assert main([str(word) for word in ("generate", "a ball", "-o", tmp_path / "clip.mp4", *said)]) == 0
    assert "adapter_model.safetensors" in json.dumps(json.loads(capsys.readouterr().out))
