"""``sound``, ``picture`` and ``generate`` in a folder with a bridge file for each, and a file used otherwise."""

from __future__ import annotations

import shutil

import pytest
from sounding_video.cli import build_parser
from sounding_video.cli.console import Console
from sounding_video.cli.extent import settle_windows
from sounding_video.cli.generate import chosen_models, options_of
from sounding_video.models.weights.bridges import load_bridges, save_bridges
from sounding_video.models.weights.find import pocket_folder

QUICK = ("--steps", 1, "--no-expand")
NOTES = {"task": "v2a", "given_video_time": "0.1"}


@pytest.fixture(scope="module")
def pocket(tmp_path_factory):
    """The bundled model with its own bridges beside the same ones, said to be trained for a given picture."""
    root = shutil.copytree(pocket_folder(), tmp_path_factory.mktemp("pocket") / "models")
    for file in root.glob("bridge_*.safetensors"):
        file.unlink()
    save_bridges(root / "bridge_v2a.safetensors", load_bridges(root / "bridge.safetensors").stack, notes=NOTES)
    return root


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    from sounding_video.cli import main

    folder = tmp_path_factory.mktemp("own")
    assert main(["synth", "-o", str(folder), "-n", "1", "--seed", "5", "--quiet"]) == 0
    return next(folder.glob("*.mp4"))


def options(name, made, *words):
    """The sampling options of a command line."""
    text = ["a", "-o", "x.mp4"] if name == "generate" else ["x.wav", "-o", "x.mp4"]
    args = build_parser().parse_args([name, *text, *map(str, words)])
    if name == "generate":
        settle_windows(args, {})
    return options_of(args, chosen_models(args, Console(as_json=True, quiet=True, verbose=False), made), made)


def test_what_was_not_asked_for_is_as_the_bridges_were_trained(pocket):
    asked = options("sound", "v2a", "--models", pocket)
    told = (asked.num_steps, asked.solver, asked.schedule, asked.unconditional, asked.given_how)
    assert told == (64, "euler", "flow", "alone", "fixed")
    assert (asked.audio_guidance_scale, asked.audio_modality_scale, asked.given_time) == (5.0, 1.0, -1.0)


def test_what_was_asked_for_always_wins(pocket):
    words = ("--steps", 7, "--solver", "auto", "--unconditional", "texts", "--given-how", "replace", "--audio-cfg", 2,
             "--schedule", "lockstep", "--audio-modality-cfg", 3)  # fmt: skip
    asked = options("sound", "v2a", "--models", pocket, *words)
    told = (asked.num_steps, asked.solver, asked.schedule, asked.unconditional, asked.given_how)
    assert told == (7, "auto", "lockstep", "texts", "replace")
    assert (asked.audio_guidance_scale, asked.audio_modality_scale) == (2.0, 3.0)


@pytest.mark.parametrize(
    ("name", "made", "words"),
    [
        ("generate", "joint", ()),
        ("picture", "a2v", ()),
        ("sound", "v2a", ("--bridge", "none")),
        ("sound", "v2a", ("--bridge", pocket_folder() / "bridge.safetensors")),
    ],
)
def test_other_bridges_and_other_tasks_are_sampled_as_ever(pocket, name, made, words):
    asked = options(name, made, "--models", pocket, *words)
    assert (asked.num_steps, asked.solver, asked.unconditional, asked.given_how) == (50, "auto", "texts", "replace")
    assert (asked.audio_guidance_scale, asked.audio_modality_scale) == (3.0, 3.0)


def test_a_bridge_that_is_named_decides_too(pocket):
    asked = options("sound", "v2a", "--models", "pocket", "--bridge", pocket / "bridge_v2a.safetensors")
    assert (asked.num_steps, asked.given_how) == (64, "fixed")


def test_sound_takes_its_bridge_and_says_which(command, pocket, clip, tmp_path):
    outcome = command("sound", clip, "-o", tmp_path / "out.mp4", "--models", pocket, *QUICK)
    assert outcome.code == 0, outcome.err
    wanted = f"the bridge is {pocket / 'bridge_v2a.safetensors'}, trained for the sound of a given picture"
    assert wanted in outcome.err and "these bridges were trained" not in outcome.err


def test_another_level_and_another_task_are_warned_of_and_made(command, pocket, clip, tmp_path):
    usual = ("--models", pocket, "--bridge", pocket / "bridge_v2a.safetensors", *QUICK)
    told = command("sound", clip, "-o", tmp_path / "a.mp4", *usual, "--given-time", 0.5, "--json").json["clips"][0]
    assert any("the picture is given at 0.5" in sentence and "at 0.1" in sentence for sentence in told["told"])
    outcome = command("picture", clip, "-o", tmp_path / "b.mp4", *usual)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("(v2a, picture given at 0.1), and are used for the picture of a given sound") == 1
    size = ("--frames", 5, "--size", "32x32")
    outcome = command("generate", "a ball", "-o", tmp_path / "c.mp4", *usual, *size)
    assert outcome.code == 0 and outcome.err.count("are used for picture and sound made together") == 1, outcome.err
    outcome = command("generate", "a ball", "-o", tmp_path / "d.mp4", "--models", pocket, *QUICK, *size)
    assert outcome.code == 0 and "these bridges" not in outcome.err, outcome.err


def test_several_files_are_warned_of_once(command, pocket, clip, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(clip, tmp_path / "in" / name)
    words = ("--models", pocket, *QUICK, "--given-how", "replace")
    outcome = command("sound", tmp_path / "in", "-o", tmp_path / "out", *words)
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("the picture is given by replace") == 1


def test_the_list_of_models_says_what_a_bridge_is_for(command, pocket):
    outcome = command("models", "--models", pocket)
    assert outcome.code == 0, outcome.err
    assert ", for the sound of a given picture (v2a, picture given at 0.1): " in outcome.out
