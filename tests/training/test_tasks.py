"""Training tasks: laws over all of them, and one file more among them that nothing else has to know of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sounding_video.cli import main
from sounding_video.core.errors import InputError
from sounding_video.core.pair import MODALITIES
from sounding_video.models.compiled import regions
from sounding_video.models.weights.bridges import load_bridges, use_of
from sounding_video.models.weights.find import find_models
from sounding_video.training.assembly import assemble, build_workbench, exported
from sounding_video.training.log import read_log
from sounding_video.training.recipes import RECIPES, recipe
from sounding_video.training.tasks import TRAINING_TASKS
from sounding_video.training.trainer import train
from training_runs import RECIPE_OF, bench_of, command_line

ALL = pytest.mark.parametrize("task", TRAINING_TASKS)


@ALL
def test_a_task_loads_the_sides_it_names_and_no_others(small_run, task: str) -> None:
    bench, batch = bench_of(small_run(RECIPE_OF[task]))
    sides = TRAINING_TASKS.get(task).sides
    assert sides and set(sides) <= set(MODALITIES)
    assert set(bench.sides.present) == set(sides)
    alone = {"video_codec": {"video"}, "audio_codec": {"audio"}}.get(task, set())
    assert alone <= {name for name, side in bench.sides.present.items() if side.tower is None and side.text is None}
    losses = bench.step(batch.tensors)
    assert all(torch.isfinite(loss) for loss in losses.values()) and losses["total"].requires_grad


@ALL
def test_every_part_of_a_task_can_be_trained_alone(small_run, small_models_dir, task: str) -> None:
    """As its example writes it, but for numbers that a small model does not have."""
    bench, _ = bench_of(small_run(RECIPE_OF[task]))
    for name, part in bench.task.parts(bench.step).items():
        asked = part.example.replace(":5", ":2").replace(":3-4", ":0-1")
        bridge = f"bridges.start={small_models_dir / 'bridge.safetensors'}"
        config = small_run(RECIPE_OF[task], f"trainable={asked}", bridge)
        alone, batch = bench_of(config)
        assert asked.partition(":")[0] == name and alone.parameters
        alone.step(batch.tensors)["total"].backward()
        assert [key for key, parameter in alone.parameters.items() if parameter.grad is None] == []


@ALL
def test_what_a_task_exports_is_laid_over_the_model_it_came_from(small_run, small_models_dir, tmp_path, task) -> None:
    train(config := small_run(RECIPE_OF[task], "num_steps=1"), tmp_path / "run")
    models = assemble(config.models.root, (tmp_path / "run",), tmp_path / "models")
    written = sorted(path for path in exported(tmp_path / "run").rglob("*") if path.suffix == ".safetensors")
    assert written
    for path in written:
        place = path.relative_to(exported(tmp_path / "run"))
        if place.name == "bridge.safetensors":  # bridges for something else stand beside the model's own
            own = find_models(models, made={"v2a": "v2a", "a2v": "a2v", "both": "v2a"}.get(use_of(path).task, "joint"))
            place = own.bridge.relative_to(models)
        laid = load_file(models / place)
        assert all(torch.equal(laid[name], tensor) for name, tensor in load_file(path).items() if name in laid)


@ALL
def test_saving_does_not_touch_the_numbers(small_run, tmp_path, task: str) -> None:
    """What a codec's latents are like is measured for what is written, not for the run that goes on."""
    bench = build_workbench(config := small_run(RECIPE_OF[task]), Path(config.models.root))
    part = next(iter(bench.task.parts(bench.step)))
    curves = []
    settings = ("num_steps=2", "optimizer.warmup_steps=0", "objective.code_noise=0.5", f"trainable={part}")
    for every in (1, 2):
        train(small_run(RECIPE_OF[task], *settings, f"saving.every={every}"), tmp_path / f"{every}")
        curves.append([row["total"] for row in read_log(tmp_path / f"{every}" / "loss.jsonl")])
    assert curves[0] == curves[1]


@ALL
def test_a_part_of_another_task_is_refused_with_its_own(small_run, task: str) -> None:
    with pytest.raises(InputError, match="a trainable part is not in this task: got 'text'; expected") as error:
        build_workbench(config := small_run(RECIPE_OF[task], "trainable=text"), Path(config.models.root))
    assert any(word in str(error.value) for word in ("video", "audio", "transformer", "av_codec", "alignment"))


def test_an_unknown_task_is_refused_with_the_choices() -> None:
    with pytest.raises(InputError, match=f"unknown task: got 'mine'; expected one of {', '.join(TRAINING_TASKS)}"):
        recipe("pocket_bridges", ["task=mine"])


def test_one_file_more_is_listed_trains_resumes_and_exports(
    throw_away_task, small_run, small_models_dir, tmp_path, capsys
) -> None:
    assert main(["train", "--list", "--json"]) == 0
    assert throw_away_task in json.loads(capsys.readouterr().out)["tasks"]
    run = tmp_path / "run"
    config = small_run(
        "pocket_bridges", f"task={throw_away_task}", "bridges.kind=dual_cross", "num_steps=3", "saving.every=1",
        "saving.keep=3", "trainable=bridges,audio_tower,video_lora:2::blocks.0", "optimizer.warmup_steps=0",
    )  # fmt: skip
    assert main([*command_line(config), "--output", str(run), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["losses"]) == {"total", "audio"}
    assert report["losses"]["total"] == pytest.approx(report["losses"]["audio"] / 2)
    export, whole = exported(run), read_log(run / "loss.jsonl")
    assert load_bridges(export / "bridge.safetensors").stack.kind == "dual_cross"
    written = {path.relative_to(export): path.read_bytes() for path in export.rglob("*") if path.is_file()}
    assert {path.parts[0] for path in written} == {"bridge.safetensors", "stable_audio", "video_lora", "given.txt"}
    shutil.rmtree(run / "checkpoints" / "step-0000003")
    assert main([*command_line(config), "--output", str(run), "--resume", "--json"]) == 0
    assert [row["total"] for row in read_log(run / "loss.jsonl")] == [row["total"] for row in whole]
    assert {path: (exported(run) / path).read_bytes() for path in written} == written
    models = assemble(small_models_dir, (run,), tmp_path / "models")
    said = ("--models", models, "--frames", 5, "--size", "32x32", "--steps", 2, "--json")
    assert main([str(word) for word in ("generate", "a ball", "-o", tmp_path / "clip.mp4", *said)]) == 0


def test_a_task_decides_times_dropouts_parts_and_what_counts(throw_away_task, small_run) -> None:
    """As a side that is given needs it."""
    config = small_run("pocket_bridges", f"task={throw_away_task}", "trainable=audio_head")
    bench, batch = bench_of(config)
    assert {name.rpartition(".")[0] for name in bench.parameters} == {"joint.audio.model.proj_out"}
    assert batch.tensors["t"].tolist() == pytest.approx([0.04, 0.04])
    assert len(set(batch.tensors["audio_t"].tolist())) == 2
    empty = build_workbench(config, Path(config.models.root)).video.text.encode([""])[0]
    assert all(torch.equal(text, empty) for text in batch.tensors["video_text"])
    _, joint = bench_of(small_run("pocket_bridges"))
    assert torch.equal(batch.tensors["audio_latents"], joint.tensors["audio_latents"]) and batch.names == joint.names


def test_a_recipe_is_one_file_too(small_run, tmp_path, monkeypatch, capsys) -> None:
    from sounding_video.training import recipes

    (tmp_path / "throw_away.py").write_text(
        "from dataclasses import replace\nfrom . import RECIPES\nfrom .pocket_audio import pocket_audio\n\n"
        "@RECIPES.register('throw_away')\ndef throw_away():\n    'Nobody needs it.'\n"
        "    return replace(pocket_audio(), recipe='throw_away', seed=5)\n"
    )
    monkeypatch.setattr(recipes, "__path__", [*recipes.__path__, str(tmp_path)])
    try:
        assert main(["train", "--list", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["recipes"]["throw_away"] == "Nobody needs it."
        assert small_run("throw_away").seed == 5
    finally:
        RECIPES._entries.pop("throw_away", None)


@pytest.mark.parametrize("compiled", [True, False])
def test_towers_and_bridges_are_compiled_by_region_where_that_is_asked_for(small_run, small_models_dir, compiled):
    """The regions that sampling compiles; nothing is compiled before the first step."""
    config = small_run("pocket_bridges", f"models.compile={str(compiled).lower()}")
    found = regions(build_workbench(config, small_models_dir).step.joint)
    assert len(found) > 6 and all((region._compiled_call_impl is not None) == compiled for region in found)
