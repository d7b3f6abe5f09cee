"""The bundled scene classifiers: accurate on the world's test split, small, and honest about what is missing."""

from __future__ import annotations

import math

import librosa
import pytest
import torch
from evaluation_clips import RATE, make_av, make_picture, make_sound
from safetensors import safe_open
from safetensors.torch import save_file
from sounding_video.core.clock import Timeline
from sounding_video.core.errors import CorruptWeightsError, IncompatibleWeightsError, InputError, MissingModelError
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.evaluation.classifier import (
    FOLDER,
    SAMPLE_RATE,
    WINDOW,
    SceneClassifier,
    SceneNet,
    load_classifier,
    mel_filters,
    picture_features,
    sound_features,
)
from sounding_video.evaluation.metrics import METRICS
from sounding_video.evaluation.sample import Sample, Truth
from sounding_video.world.scenes import SCENES
from sounding_video.world.synth import make_clip

MODALITIES = ("picture", "sound")


@pytest.fixture(scope="module")
def test_clips():
    """Three clips of each scene, of the test split, in sizes between those of training."""
    timeline = Timeline(33, 15, 80, 80)
    return [make_clip(scene, 9000 + k, timeline=timeline, split="test") for scene in SCENES for k in range(3)]


@pytest.mark.parametrize("modality", MODALITIES)
def test_bundled_classifiers_know_the_world(modality, test_clips):
    metric = METRICS.get(f"scene_accuracy_{modality}")()
    measured = [metric.measure(Sample(clip.clip, Truth(scene=clip.scene))) for clip in test_clips]
    summary = metric.summarise(measured)
    assert summary["correct"] >= 0.9 and summary["probability"] > 0.85
    assert summary["classifier_test_accuracy"] >= 0.97


@pytest.mark.parametrize("modality", MODALITIES)
def test_scenes_exchanged_are_noticed(modality, test_clips):
    """The law that the metric can fail: no clip is taken for the scene after it."""
    metric, scenes = METRICS.get(f"scene_accuracy_{modality}")(), SCENES.names()
    wrong = [Truth(scene=scenes[(scenes.index(clip.scene) + 1) % len(scenes)]) for clip in test_clips]
    measured = [metric.measure(Sample(clip.clip, truth)) for clip, truth in zip(test_clips, wrong, strict=True)]
    assert metric.summarise(measured)["correct"] <= 0.1


@pytest.mark.parametrize("modality", MODALITIES)
def test_the_files_are_small_and_say_what_they_are(modality):
    path = FOLDER / f"{modality}.safetensors"
    assert path.stat().st_size < 1_000_000
    with safe_open(path, "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
        assert float(file.metadata()["test_accuracy"]) <= 1 and int(file.metadata()["num_test_clips"]) >= 200
    assert load_classifier(modality).scenes == tuple(SCENES.names())


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_blank_clip_shows_no_scene(modality):
    metric = METRICS.get(f"scene_accuracy_{modality}")()
    clip = AVClip(VideoClip(torch.full((3, 16, 16, 3), 0.5), 15), AudioClip(torch.zeros(1, 9000), RATE))
    measured = metric.measure(Sample(clip, Truth(scene="rain")))
    assert measured.values == {"correct": 0.0, "probability": 0.0} and measured.details["named"] is None


@pytest.mark.parametrize("modality", MODALITIES)
def test_without_a_scene_there_is_nothing_to_compare(modality):
    metric, clip = METRICS.get(f"scene_accuracy_{modality}")(), make_av([0.5], [0.5])
    assert set(metric.measure(Sample(clip)).reasons.values()) == {"the manifest names no scene"}
    with pytest.raises(InputError, match="the classifier does not know this scene: got 'opera'; expected one of anvil"):
        metric.measure(Sample(clip, Truth(scene="opera")))


def test_missing_files_name_the_command(tmp_path):
    with pytest.raises(MissingModelError) as caught:
        load_classifier("sound", tmp_path)
    assert "the sound classifier is not there" in str(caught.value)
    assert "python benchmarks/train_classifiers.py --train" in str(caught.value)


def test_a_damaged_or_foreign_file_is_refused(tmp_path):
    whole = (FOLDER / "sound.safetensors").read_bytes()
    (tmp_path / "sound.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptWeightsError, match="the weight file is cut short"):
        load_classifier("sound", tmp_path)
    (tmp_path / "picture.safetensors").write_bytes(whole)
    with pytest.raises(IncompatibleWeightsError, match="the file is not this classifier"):
        load_classifier("picture", tmp_path)
    save_file({"weight": torch.zeros(1)}, tmp_path / "sound.safetensors")
    with pytest.raises(IncompatibleWeightsError, match="the file is not this classifier"):
        load_classifier("sound", tmp_path)


@pytest.mark.parametrize("modality", MODALITIES)
def test_saved_and_loaded_names_the_same(modality, tmp_path):
    torch.manual_seed(0)
    made = SceneClassifier(SceneNet(modality, 3).eval(), ("one", "two", "three"), 0.5, 7)
    made.save(tmp_path / f"{modality}.safetensors")
    read = load_classifier(modality, tmp_path)
    assert (read.scenes, read.test_accuracy, read.num_test_clips) == (made.scenes, 0.5, 7)
    media = make_picture([0.5]) if modality == "picture" else make_sound([0.5])
    before, after = made.classify(media), read.classify(media)
    assert sum(after.values()) == pytest.approx(1)
    assert after == pytest.approx(before, abs=2e-3)


def test_mel_filters_equal_librosas():
    expected = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=WINDOW, n_mels=64, htk=True, norm=None)
    assert torch.allclose(mel_filters(), torch.from_numpy(expected), atol=1e-4)


def test_sound_features_do_not_depend_on_level_or_rate():
    tone = torch.sin(torch.arange(44_100) * (2 * math.pi * 440 / 44_100))[None]
    loud, quiet = sound_features(AudioClip(tone, 44_100)), sound_features(AudioClip(tone / 50, 44_100))
    assert torch.allclose(loud, quiet, atol=0.02) and loud.max() == 1 and loud.min() >= 0
    half = torch.sin(torch.arange(22_050) * (2 * math.pi * 440 / 22_050))[None]
    band = loud[0, :, 40].argmax()
    assert sound_features(AudioClip(half, 22_050))[0, :, 40].argmax() == band
    assert mel_filters()[band, round(440 / SAMPLE_RATE * WINDOW)] > 0.3


def test_picture_features_show_the_change():
    features = picture_features(make_picture([0.5], num_frames=12))
    assert features.shape == (12, 6, 48, 48)
    assert features[0, 3:].abs().max() == 0 and features[5, 3:].abs().max() == 0
    assert features[7, 3:].abs().max() > 0.3
    assert torch.equal(features[7, 3:], features[7, :3] - features[6, :3])
