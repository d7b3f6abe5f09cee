"""What a model was made for: the note in its folder, wherever that lies, and what a note may not do."""

from __future__ import annotations

import json
import shutil

import pytest
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import CorruptWeightsError
from sounding_video.models.own import NOTE, PUBLISHED, OwnSettings, joint_settings, own_settings, read_note
from sounding_video.models.weights.find import find_models, pocket_folder
from sounding_video.models.weights.load import is_trained, load_stable_audio, load_wan, text_length_of
from sounding_video.world.scenes import SCENES

KNOWN = tuple((scene.known_as, scene.told_by) for scene in map(SCENES.get, SCENES.names()))
POCKET = OwnSettings(33, 15, 64, 64, 50, 3.0, 3.0, 1.0, 1.0, 3.0, "", "", "short", True, KNOWN)


@pytest.fixture
def copied(tmp_path):
    """A copy of the pocket folder below a models folder, as somebody would put it there."""
    return shutil.copytree(pocket_folder(), tmp_path / "models" / "sounding_video" / "my pocket")


def test_a_copy_is_sampled_as_the_pocket_model_wherever_it_lies(copied):
    for root in (copied, copied.parent):
        found = find_models(root)
        assert found.video == copied / "wan"
        assert own_settings(found.video) == own_settings(found.audio) == POCKET
    placement = resolve_placement(device="cpu")
    video, audio = load_wan(found.video, placement, free_text=True), load_stable_audio(found.audio, placement)
    assert video.own == audio.own == POCKET and video.trained


def test_a_link_to_the_folder_or_to_a_tower_is_the_folder(tmp_path):
    (tmp_path / "linked").symlink_to(pocket_folder(), target_is_directory=True)
    (tmp_path / "wan").symlink_to(pocket_folder() / "wan", target_is_directory=True)
    assert own_settings(tmp_path / "linked" / "wan") == own_settings(tmp_path / "wan") == POCKET


def test_a_note_is_not_about_what_lies_beside_its_towers(copied, small_models_dir):
    """The pocket's files put flat into a folder of models must not turn a real Wan there into a small model."""
    other = copied / "Wan2.1-T2V-1.3B-Diffusers"
    other.symlink_to(small_models_dir / "wan", target_is_directory=True)
    assert own_settings(other) == PUBLISHED and text_length_of(other) == 1024 and is_trained(other)
    assert own_settings(copied / "wan") == POCKET


def test_no_note_and_an_older_one(copied, small_models_dir):
    assert own_settings(small_models_dir / "wan") == PUBLISHED and not PUBLISHED.is_noted
    note = read_note(copied / "wan")
    for later in ("video_negative", "audio_negative", "captions"):
        del note[later]
    (copied / NOTE).write_text(json.dumps(note))
    assert own_settings(copied / "wan") == POCKET, "a small model of before knows no negatives either"
    (copied / NOTE).write_text(json.dumps({"trained": False}))
    assert own_settings(copied / "wan") == PUBLISHED


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"size": "large"}', '{"fps": -1}', '{"frames": null}', '{"size": [64]}']
)
def test_a_note_that_cannot_be_read_is_a_sentence_that_names_it(copied, text):
    (copied / NOTE).write_text(text)
    with pytest.raises(CorruptWeightsError, match=r"my pocket/pocket\.json .*Mend or remove the note"):
        own_settings(copied / "wan")


def test_a_pair_takes_the_sound_from_the_audio_tower():
    assert joint_settings(POCKET, POCKET) == POCKET and joint_settings(None, None) == PUBLISHED
    mixed = joint_settings(PUBLISHED, POCKET)
    assert (mixed.width, mixed.video_guidance_scale, mixed.audio_guidance_scale) == (832, 6.0, 3.0)
    assert (mixed.audio_modality_scale, mixed.audio_negative, mixed.is_noted) == (3.0, "", True)
    assert joint_settings(None, POCKET).num_frames == 33


def test_the_pocket_model_says_which_scenes_it_knows():
    assert own_settings(pocket_folder() / "wan").knows == KNOWN and len(KNOWN) == 10
    assert PUBLISHED.knows == ()


@pytest.mark.parametrize("knows", [["a ball"], {"a ball": "ball"}, "balls"])
def test_scenes_in_another_form_are_refused(tmp_path, knows):
    (tmp_path / "wan").mkdir()
    (tmp_path / "pocket.json").write_text(json.dumps({"size": 64, "knows": knows}))
    with pytest.raises(CorruptWeightsError, match="cannot be read"):
        own_settings(tmp_path / "wan")
