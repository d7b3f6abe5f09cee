"""What bridge files say they were trained for: which of several is taken, how it is sampled, and what is warned of."""

from __future__ import annotations

import shutil

import pytest
import small_models
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import CorruptWeightsError
from sounding_video.models.bridge_use import BridgeUse, given_level, misused, settings_for
from sounding_video.models.loading import load_models
from sounding_video.models.own import PUBLISHED
from sounding_video.models.weights.bridges import load_bridges, use_of
from sounding_video.models.weights.convert import convert_bridges
from sounding_video.models.weights.find import find_models

NOTES = {
    "joint": {"task": "joint"},
    "v2a": {"task": "v2a", "given_video_time": "0.04"},
    "a2v": {"task": "a2v", "given_audio_time": "0.1855", "least_audio_time": "0.1855"},
    "both": {"task": "both", "given_video_time": "0.04", "given_audio_time": "0.156"},
}
MADE = ("joint", "v2a", "a2v")


def use(name: str) -> BridgeUse:
    return BridgeUse.read(NOTES[name])


@pytest.fixture(scope="module")
def several(small_models_dir, tmp_path_factory):
    """A model folder with a bridge file for everything, the special ones first by name."""
    root = shutil.copytree(small_models_dir, tmp_path_factory.mktemp("several") / "models")
    (root / "bridge.safetensors").unlink()
    small_models.write_bridge(root / "z_plain.safetensors")
    (root / "bridges").mkdir()
    for name in ("v2a", "a2v", "both"):
        small_models.write_bridge(root / "bridges" / f"{name}.safetensors", "full", notes=NOTES[name])
    return root


@pytest.mark.parametrize(
    ("made", "name", "told"),
    [
        ("joint", "z_plain.safetensors", ""),
        ("v2a", "bridges/v2a.safetensors", ", trained for the sound of a given picture"),
        ("a2v", "bridges/a2v.safetensors", ", trained for the picture of a given sound"),
    ],
)
def test_of_several_the_one_for_what_is_made_is_taken_and_that_is_said(several, made, name, told):
    found = find_models(several, made=made)
    assert found.bridge == several / name == found.bridges[0] and len(found.bridges) == 4
    assert found.bridge_note.startswith(f"the bridge is {several / name}{told}; --bridge chooses another: ")
    assert all(str(path) in found.bridge_note for path in found.bridges)
    model = load_models(several, placement=resolve_placement(device="cpu"), made=made)
    assert (model.use and model.use.task) == (None if made == "joint" else made)


@pytest.mark.parametrize(
    ("there", "made", "wanted"),
    [
        (("both", "plain"), "v2a", "both"),
        (("both", "plain"), "joint", "plain"),
        (("a2v", "plain"), "v2a", "plain"),
        (("v2a", "a2v"), "joint", "v2a"),
        (("a2v", "joint"), "joint", "joint"),
        (("a2v",), "v2a", "a2v"),
        (("v2a", "both"), "v2a", "v2a"),
        (("both", "v2a"), "v2a", "v2a"),
    ],
)
def test_what_comes_nearest_is_taken_where_none_was_trained_for_it(small_models_dir, tmp_path, there, made, wanted):
    root = tmp_path / "models"
    for tower in ("wan", "stable_audio"):
        (root / tower).parent.mkdir(exist_ok=True)
        (root / tower).symlink_to(small_models_dir / tower, target_is_directory=True)
    for number, name in enumerate(there):
        small_models.write_bridge(root / f"{number}_{name}.safetensors", notes=NOTES.get(name))
    assert find_models(root, made=made).bridge.stem.endswith(wanted)


def test_a_half_download_is_never_taken_before_a_whole_file(several, tmp_path):
    root = shutil.copytree(several, tmp_path / "models")
    cut = (root / "bridges" / "v2a.safetensors").read_bytes()[:-500]
    (root / "bridges" / "v2a.safetensors").write_bytes(cut)
    assert find_models(root, made="v2a").bridge == root / "bridges" / "both.safetensors"


def test_the_file_says_it_in_its_summary_and_keeps_it_when_converted(several, tmp_path):
    loaded = load_bridges(several / "bridges" / "both.safetensors")
    assert loaded.use == BridgeUse("both", 0.04, 0.156)
    told = "(both, picture given at 0.04, sound given at 0.156)"
    assert loaded.summary().endswith(f"; for the sound of a given picture and the picture of a given sound {told}")
    done = convert_bridges(several / "bridges" / "both.safetensors", tmp_path / "again.safetensors")
    assert use_of(done.path) == loaded.use
    plain = load_bridges(several / "z_plain.safetensors")
    assert plain.use is None and "; for" not in plain.summary()


def test_another_programs_task_is_left_alone_and_a_time_that_is_none_is_refused(tmp_path):
    path = small_models.write_bridge(tmp_path / "other.safetensors", notes={"task": "t2v", "given_video_time": "x"})
    assert load_bridges(path).use is None
    for text in ("x", "nan", "1.5", "-0.1", ""):
        path = small_models.write_bridge(tmp_path / "b.safetensors", notes={"task": "v2a", "given_video_time": text})
        with pytest.raises(CorruptWeightsError, match="given_video_time is no time"):
            load_bridges(path)
        assert use_of(path) is None, "lists do not stumble over it"


def test_av_links_way_to_sample_follows_from_the_file_for_what_it_was_trained_for():
    sound = settings_for(PUBLISHED, use("v2a"), "v2a")
    asked = (sound.num_steps, sound.solver, sound.schedule, sound.flow_shift, sound.unconditional, sound.given_how)
    assert asked == (64, "euler", "flow", 1.0, "alone", "fixed")
    assert (sound.audio_guidance_scale, sound.video_guidance_scale) == (5.0, PUBLISHED.video_guidance_scale)
    assert (sound.audio_modality_scale, sound.video_modality_scale) == (1.0, 1.0), "alone contains them"
    picture = settings_for(PUBLISHED, use("both"), "a2v")
    assert (picture.video_guidance_scale, picture.audio_guidance_scale) == (5.0, PUBLISHED.audio_guidance_scale)


def test_an_audio_tower_that_never_saw_less_noise_is_not_asked_there():
    own = settings_for(PUBLISHED, use("a2v"), "a2v")
    assert (own.schedule, own.flow_shift, own.solver) == ("lockstep", PUBLISHED.flow_shift, "euler")


@pytest.mark.parametrize(("name", "made"), [("joint", "v2a"), ("v2a", "joint"), ("v2a", "a2v"), ("a2v", "v2a"),
                                            ("both", "joint"), ("joint", "joint")])  # fmt: skip
def test_for_anything_else_the_towers_own_way_stays(name, made):
    assert settings_for(PUBLISHED, use(name), made) == PUBLISHED == settings_for(PUBLISHED, None, made)


def test_the_level_is_the_users_then_the_bridges_then_av_links():
    assert given_level(use("v2a"), "video", 0.3) == 0.3
    assert given_level(use("v2a"), "video", None) == 0.04
    assert given_level(use("v2a"), "audio", None) is None
    assert given_level(None, "video", None) is None


@pytest.mark.parametrize(
    ("name", "made", "shown", "sentence"),
    [
        ("v2a", "joint", {}, "trained for the sound of a given picture (v2a, picture given at 0.04), and are used for "
         "picture and sound made together"),
        ("v2a", "a2v", {"how": "fixed", "level": 0.1}, "are used for the picture of a given sound"),
        ("both", "joint", {}, "are used for picture and sound made together"),
        ("joint", "v2a", {"how": "fixed"}, "used for the sound of a given picture, given at one level of noise"),
        ("v2a", "v2a", {"how": "replace"}, "the picture is given by replace, but these bridges were trained with it at "
         "one level of noise (fixed)"),
        ("v2a", "v2a", {"how": "fixed", "level": 0.3}, "the picture is given at 0.3, but these bridges were trained "
         "with it at 0.04"),
        ("a2v", "a2v", {"how": "fixed", "level": 0.0}, "the sound is given at 0, but these bridges were trained with "
         "it at 0.1855"),
    ],
)  # fmt: skip
def test_another_use_is_warned_of_in_a_sentence(name, made, shown, sentence):
    assert sentence in misused(use(name), made, **shown)


@pytest.mark.parametrize(
    ("name", "made", "shown"),
    [
        ("v2a", "v2a", {"how": "fixed", "level": 0.04}),
        ("v2a", "v2a", {"how": "fixed", "level": None}),
        ("v2a", "v2a", {"how": "fixed", "level": 0.06}),
        ("both", "a2v", {"how": "fixed", "level": 0.156}),
        ("joint", "joint", {}),
        ("joint", "v2a", {"how": "replace"}),
    ],
)
def test_what_they_were_trained_for_is_not(name, made, shown):
    assert misused(use(name), made, **shown) == ""
    assert misused(None, made, **shown) == ""


def test_bridges_that_saw_every_level_take_any():
    wide = BridgeUse.read(NOTES["v2a"] | {"given_draw": "uniform"})
    assert misused(wide, "v2a", how="fixed", level=0.6) == ""
    assert "given at any level of noise" in wide.words
