"""The commands with a small random PAV-DiT: text to a clip, sound for a picture, a picture for a sound."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from small_models import write_pav_dit_folder
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.media.mux import write_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_pav_dit_folder(tmp_path_factory.mktemp("models") / "planes")


@pytest.fixture
def given(tmp_path):
    """A clip as the small model makes them: 24×16, 8 frames at 8 fps."""
    sound = AudioClip(0.3 * torch.randn(2, 48_000, generator=torch.Generator().manual_seed(0)), 48_000)
    picture = VideoClip(torch.rand(8, 16, 24, 3, generator=torch.Generator().manual_seed(0)), Fraction(8))
    write_clip(AVClip(picture), tmp_path / "silent.mp4")
    write_clip(AVClip(None, sound), tmp_path / "sound.wav")
    return tmp_path


def test_a_text_becomes_a_clip_of_the_model_s_own_extent(command, folder, tmp_path):
    ask = ("a dog", "--no-expand", "--models", folder, "-o", tmp_path / "clip.mp4", "--json")
    outcome = command("generate", *ask)
    assert outcome.code == 0, outcome.err
    said = outcome.json
    assert (said["num_frames"], said["width"], said["height"], said["sample_rate"]) == (8, 24, 16, 8000)
    # 3600 Hz, which no container knows, became 8000.
    assert said["model"] == "planes (PAV-DiT); UNTRAINED weights" and said["bridges"] is None
    wrong = command("generate", *ask[:4], "-o", tmp_path / "no.mp4", "--frames", 9)
    assert wrong.code == 2 and "expected 8 frames of 24×16" in wrong.err and not (tmp_path / "no.mp4").exists()


def test_sound_for_a_picture_and_a_picture_for_a_sound(command, folder, given):
    rest = ("a dog", "--no-expand", "--models", folder, "--json")
    for name, source in (("sound", "silent.mp4"), ("picture", "sound.wav")):
        made = given / f"{name}.mp4"
        outcome = command(name, given / source, *rest, "-o", made)
        assert outcome.code == 0, outcome.err
        assert made.exists()


def test_it_is_listed_and_planned(command, folder):
    [row] = [
        row for row in command("models", "--models", folder.parent, "--json").json["found"] if row["kind"] == "pav_dit"
    ]
    assert (row["name"], row["path"]) == ("planes", str(folder))
    ask = ("--frames", 8, "--width", 24, "--height", 16, "--memory", "4GB", "--json")
    outcome = command("doctor", "--plan", "--models", folder, *ask)
    assert outcome.code == 0, outcome.err
    assert set(outcome.json["weights_bytes"]) == {"transformer", "text", "autoencoder"}
