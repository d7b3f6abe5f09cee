"""A bridge file of Fusion Blocks beside the bundled model: every command takes it."""

from __future__ import annotations

import shutil

import pytest
import torch
from sounding_video.media.probe import read_clip
from sounding_video.models.bridges import BRIDGES
from sounding_video.models.joint import BridgePoints, BridgeStack
from sounding_video.models.weights.bridges import load_bridges, save_bridges
from sounding_video.models.weights.find import pocket_folder

QUICK = ("--steps", 1, "--video-cfg", 1, "--audio-cfg", 1, "--no-expand")
TEXT = "a hand knocks on a wooden door"


@pytest.fixture(scope="module")
def pocket(tmp_path_factory):
    """The bundled model with three blocks of AVLINK 5's pocket size, which are no identity."""
    root = shutil.copytree(pocket_folder(), tmp_path_factory.mktemp("pocket") / "models")
    towers = load_bridges(root / "bridge.safetensors").stack.config
    for file in root.glob("bridge*.safetensors"):
        file.unlink()
    config = BRIDGES.get("fusion_block").Config(
        towers.video_width, towers.audio_width, 192, 192, 6, towers.video_time_width, towers.audio_time_width,
        time_rank=64,
    )  # fmt: skip
    torch.manual_seed(0)
    stack = BridgeStack("fusion_block", config, BridgePoints((1, 3, 5), (1, 3, 5)))
    for parameter in stack.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    save_bridges(root / "bridge.safetensors", stack, dtype=torch.bfloat16)
    assert (root / "bridge.safetensors").stat().st_size < 6e6
    return root


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    from sounding_video.cli import main

    folder = tmp_path_factory.mktemp("own")
    assert main(["synth", "-o", str(folder), "-n", "1", "--seed", "5", "--quiet"]) == 0
    return next(folder.glob("*.mp4"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sound", ("--given-how", "fixed", "--unconditional", "alone", "--audio-cfg", 5, "--audio-modality-cfg", 1)),
        ("picture", ("--given-how", "fixed", "--video-cfg", 2)),
    ],
)
def test_what_is_given_stays_and_the_other_side_is_made(name, words, command, pocket, clip, tmp_path) -> None:
    outcome = command(name, clip, TEXT, "-o", tmp_path / "out.mp4", "--models", pocket, *QUICK, *words)
    assert outcome.code == 0, outcome.err
    old, new = read_clip(clip), read_clip(tmp_path / "out.mp4")
    if name == "sound":
        assert torch.equal(old.video.frames, new.video.frames)
    assert old.audio.waveform.shape == new.audio.waveform.shape
    assert bool(new.audio.waveform.isfinite().all())


def test_both_sides_are_made_together_and_the_bridges_are_named(command, pocket, tmp_path) -> None:
    made = command("generate", TEXT, "-o", tmp_path / "out.mp4", "--models", pocket, *QUICK)
    assert made.code == 0, made.err
    assert "3 fusion_block bridges (kind from keys) after video blocks [1, 3, 5]" in made.out
    assert (tmp_path / "out.mp4").stat().st_size


def test_lists_plans_and_copies_know_the_kind(command, pocket, tmp_path) -> None:
    assert "bridge" in command("models", "--models", pocket).out
    assert command("doctor", "--plan", "--models", pocket, "--json").code == 0
    copied = command("convert", pocket / "bridge.safetensors", "-o", tmp_path / "again.safetensors", "--json")
    assert copied.json["metadata"]["fusion"] == "fusion_block"
    refused = command("generate", TEXT, "-o", tmp_path / "x.mp4", "--models", pocket, "--fusion", "full", *QUICK)
    assert refused.code == 2 and "got full for a file that is fusion_block" in refused.err
    refused = command("generate", TEXT, "-o", tmp_path / "x.mp4", "--models", pocket, "--rope", "clock", *QUICK)
    assert refused.code == 2 and "token_clock, which its metadata says" in refused.err
