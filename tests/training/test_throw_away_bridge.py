"""One file more among the bridges, and nothing else: the node and the command list it, it begins, trains and runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from sounding_video.cli import main
from sounding_video.core.errors import InputError
from sounding_video.headless.runner import run_workflow
from sounding_video.models.bridges import kinds_that_hear
from sounding_video.models.weights.bridges import load_bridges
from sounding_video.models.weights.find import find_models
from sounding_video.nodes.loaders import LoadBridge
from sounding_video.training.assembly import build_workbench, exported
from sounding_video.training.trainer import train

START = ("bridges.rope=clock", "bridges.gate_bias=1", "bridges.moment_bias=2", "bridges.settings=waist=8")


@pytest.fixture
def trained(throw_away_kind, small_run, tmp_path) -> Path:
    """A bridge file of the kind after one step."""
    at_once = ("num_steps=1", "optimizer.warmup_steps=0", "optimizer.weight_decay=0", "optimizer.ema_decay=0")
    train(small_run("pocket_bridges", f"bridges.kind={throw_away_kind}", *START, *at_once), tmp_path / "run")
    return exported(tmp_path / "run") / "bridge.safetensors"


def test_it_begins_as_the_run_says_and_learns(throw_away_kind, small_run, trained) -> None:
    config = small_run("pocket_bridges", f"bridges.kind={throw_away_kind}", *START)
    new = build_workbench(config, Path(config.models.root)).step.joint.bridges
    stack = load_bridges(trained).stack
    assert stack.kind == throw_away_kind and stack.config == new.config
    assert (stack.config.waist, stack.config.rope) == (8, "clock")
    assert new[0].gate.item() == pytest.approx(1.1)
    assert new[0].moment.item() == pytest.approx(2 * 4 / 15)
    assert (new.hears("audio"), new.hears("video")) == (True, False)
    assert throw_away_kind in kinds_that_hear("audio") and throw_away_kind not in kinds_that_hear("video")
    moved = [name for name, tensor in stack.state_dict().items() if not torch.equal(tensor, new.state_dict()[name])]
    assert moved == ["0.up.weight", "0.up.bias", "1.up.weight", "1.up.bias"], "a zero layer lets nothing past it yet"


def test_the_node_and_the_command_know_it(throw_away_kind, trained, small_models_dir, tmp_path, graph, capsys) -> None:
    options = {port.id: port.options.get("options") for port in LoadBridge.GET_SCHEMA().inputs}
    assert throw_away_kind in options["fusion"]
    models = shutil.copytree(small_models_dir, tmp_path / "models")
    shutil.copy(trained, models / "bridge.safetensors")
    assert find_models(models).bridge == models / "bridge.safetensors", "its header says that it is a bridge"
    graph["3"]["inputs"]["fusion"] = throw_away_kind
    report = run_workflow(graph, models_dir=models, output_dir=tmp_path / "out", device="cpu", embed_metadata=False)
    assert report.files[0].stat().st_size
    said = ("--models", models, "--frames", 5, "--size", "32x32", "--steps", 2, "--fusion", throw_away_kind, "--json")
    assert main([str(word) for word in ("generate", "a ball", "-o", tmp_path / "clip.mp4", *said)]) == 0
    capsys.readouterr()
    assert main(["convert", str(trained), "-o", str(tmp_path / "again.safetensors"), "--json"]) == 0
    noted = json.loads(capsys.readouterr().out)["metadata"]
    assert (noted["fusion"], json.loads(noted["config"])["waist"]) == (throw_away_kind, 8)


def test_another_kind_for_its_file_is_refused(throw_away_kind, trained, tmp_path, capsys) -> None:
    assert main(["convert", str(trained), "-o", str(tmp_path / "x.safetensors"), "--fusion", "full"]) == 2
    assert f"got full for a file that is {throw_away_kind}; expected {throw_away_kind}" in capsys.readouterr().err


def test_what_it_does_not_know_is_refused(throw_away_kind, small_run) -> None:
    config = small_run("pocket_bridges", f"bridges.kind={throw_away_kind}", "bridges.settings=depth=3")
    with pytest.raises(InputError, match="no setting of this bridge kind: got 'depth=3'; expected waist=6"):
        build_workbench(config, Path(config.models.root))
