"""The nodes of SAVA: an alignment is listed and loaded, and what a sampler of one side is told of the other one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from small_models import cascade_graph, write_alignment
from sounding_video.core.errors import IncompatibleWeightsError, InputError, MissingModelError
from sounding_video.core.pair import MODALITIES
from sounding_video.headless.runner import run_workflow
from sounding_video.media.probe import probe
from sounding_video.nodes.alignment import ConditionOnPicture, ConditionOnSound, LoadAlignment
from sounding_video.nodes.conditioning import EncodeCaptions
from sounding_video.nodes.host import folders, standalone
from sounding_video.nodes.host.folders import list_models
from sounding_video.nodes.loaders import JoinTowers, LoadStableAudioTower, LoadWanTower
from sounding_video.nodes.sampling import JointSampler

SAMPLING = {"steps": 2, "video_guidance_scale": 2.0, "audio_guidance_scale": 2.0, "seed": 0, "schedule": "lockstep"}
SAMPLING |= {"flow_sigmas": "diffusers-0.36", "guidance_batching": "auto", "preview": False}
PLACE = {"dtype": "float32", "attention": "auto", "offload": "none"}


@pytest.fixture(scope="module")
def models(small_models_dir: Path, tmp_path_factory) -> Path:
    folder = shutil.copytree(small_models_dir, tmp_path_factory.mktemp("sava") / "models")
    write_alignment(folder / "both.safetensors", reads=MODALITIES)
    write_alignment(folder / "first.safetensors", trained=False)
    return folder


@pytest.fixture(scope="module")
def loaded(models):
    """Model, captions and alignment."""
    with standalone.session(standalone.Session((models,), device="cpu")):
        video = LoadWanTower.execute("wan", **PLACE).args[0]
        audio = LoadStableAudioTower.execute("stable_audio", **PLACE).args[0]
        texts = {"video_caption": "a ball", "audio_caption": "a knock", "video_negative": "", "audio_negative": ""}
        told = EncodeCaptions.execute(video_text_encoder=video, audio_text_encoder=audio, seconds=0.6, **texts).args[0]
        model = JoinTowers.execute(video, audio).args[0]
        return model, told, LoadAlignment.execute("both.safetensors").args[0]


def latent(side: str) -> dict:
    shape = {"video": (1, 4, 3, 4, 4), "audio": (1, 6, 300)}[side]
    return {"samples": torch.randn(shape, generator=torch.Generator().manual_seed(1)), "fps": 15.0}


def test_files_are_listed_and_what_they_say_is_shown(models) -> None:
    with standalone.session(standalone.Session((models,), device="cpu")):
        assert list_models("alignment") == ["pocket", "both.safetensors", "first.safetensors"]
        assert list_models("bridge") == ["pocket", "bridge.safetensors", *list_models("bridge")[2:]]
        assert "both.safetensors" not in list_models("bridge")
        assert LoadAlignment.validate_inputs("both.safetensors") is True
        assert "no alignment of that name was found: got 'other'" in LoadAlignment.validate_inputs("other")
        assert "64 dimensions" in LoadAlignment.execute("pocket").args[1]
        made = LoadAlignment.execute("first.safetensors")
        assert "8 dimensions, kept 6 of the picture and 5 of the sound" in made.args[1]
        assert "random weights" in made.args[1] and made.ui
        with pytest.raises(MissingModelError, match="no alignment of that name was found: got 'gone'"):
            LoadAlignment.execute("gone")
    with standalone.session(standalone.Session((models / "absent",), device="cpu")):
        assert list_models("alignment") == ["pocket"]
        assert "got 'x'; expected one of pocket." in LoadAlignment.validate_inputs("x")


def test_an_alignment_beside_the_bundled_model_is_called_pocket(models, tmp_path, monkeypatch) -> None:
    assert folders.list_models("alignment")[0] == "pocket"
    bundle = shutil.copytree(folders.pocket_folder(), tmp_path / "pocket", copy_function=os.link)
    (bundle / "alignment.safetensors").unlink()
    monkeypatch.setattr(folders, "pocket_folder", lambda: bundle)
    with standalone.session(standalone.Session((models,), device="cpu")):
        assert list_models("alignment") == ["both.safetensors", "first.safetensors"]
        assert "no alignment of that name was found: got 'pocket'" in LoadAlignment.validate_inputs("pocket")
    with standalone.session(standalone.Session((models / "absent",), device="cpu")):
        assert list_models("alignment") == []
        assert "expected an alignment file, as sounding-video train writes it" in LoadAlignment.validate_inputs("x")


def test_what_is_told_frame_by_frame_is_reported_so(loaded, tmp_path) -> None:
    model, captions, _ = loaded
    write_alignment(tmp_path / "frames.safetensors", reads=MODALITIES, frames=("video",))
    with standalone.session(standalone.Session((tmp_path,), device="cpu")):
        alignment = LoadAlignment.execute("frames.safetensors").args[0]
    out = ConditionOnSound.execute(model, captions, alignment, latent("audio"), strength=1.0)
    alone, longer, report = out.args
    assert "3 moments of the sound, told frame by frame, at strength 1" in report
    assert longer.video.positive is captions.video.positive
    sampled = JointSampler.execute(alone, longer, video_latent=latent("video"), **SAMPLING).args[0]["samples"]
    plain = JointSampler.execute(alone, captions, video_latent=latent("video"), **SAMPLING).args[0]["samples"]
    assert not torch.equal(sampled, plain)


@pytest.mark.parametrize(("node", "given", "made"), [(ConditionOnPicture, "video", "audio"),
                                                     (ConditionOnSound, "audio", "video")])  # fmt: skip
def test_the_other_side_is_told_and_its_tower_alone_comes_out(loaded, node, given: str, made: str) -> None:
    model, told, alignment = loaded
    out = node.execute(model, told, alignment, latent(given), strength=1.0)
    alone, longer, report = out.args
    assert alone.makes(made) and not alone.makes(given) and not model.loras
    before, after = getattr(told, made), getattr(longer, made)
    assert after.positive.shape[1] == before.positive.shape[1] + 3
    assert f"3 tokens of the {'picture' if given == 'video' else 'sound'} at strength 1" in report
    assert "2 layers of the" in report
    sampled = JointSampler.execute(alone, longer, **{f"{made}_latent": latent(made)}, **SAMPLING).args
    plain = JointSampler.execute(alone, told, **{f"{made}_latent": latent(made)}, **SAMPLING).args
    index = MODALITIES.index(made)
    assert sampled[1 - index] is None
    assert not torch.equal(sampled[index]["samples"], plain[index]["samples"])


def test_the_length_of_the_picture_to_be_made_counts(loaded) -> None:
    model, told, alignment = loaded
    longer = {"samples": torch.zeros(1, 4, 5, 4, 4)}
    made = ConditionOnSound.execute(model, told, alignment, latent("audio"), strength=0.5, video_latent=longer).args[1]
    assert made.video.positive.shape[1] == told.video.positive.shape[1] + 5


def test_what_cannot_be_is_refused_with_what_to_do(loaded, models) -> None:
    model, told, alignment = loaded
    for samples, sentence in (
        (latent("audio"), "video_latent holds no video latent"),
        ({"samples": torch.zeros(1, 4, 3, 4, 4)}, "the video latent is empty, so it tells nothing"),
        ({"samples": torch.ones(1, 16, 3, 4, 4)}, "the video latent is of another model: got 16 channels; expected 4"),
    ):
        with pytest.raises(InputError, match=sentence):
            ConditionOnPicture.execute(model, told, alignment, samples, strength=1.0)
    with standalone.session(standalone.Session((models,), device="cpu")):
        first = LoadAlignment.execute("first.safetensors").args[0]
    with pytest.raises(IncompatibleWeightsError, match="no audio tower has learned to read this alignment"):
        ConditionOnPicture.execute(model, told, first, latent("video"), strength=1.0)
    with pytest.raises(InputError, match="there is no video tower in the joint model, whose codec"):
        ConditionOnPicture.execute(model.alone("audio"), told, alignment, latent("video"), strength=1.0)
    with pytest.raises(InputError, match="there is no audio tower in this model"):
        ConditionOnPicture.execute(model.alone("video"), told, alignment, latent("video"), strength=1.0)


def test_a_cascade_runs_as_a_workflow(graph, models, tmp_path) -> None:
    report = run_workflow(cascade_graph(graph), models_dir=models, output_dir=tmp_path, device="cpu")
    (file,) = report.files
    assert probe(file).num_frames == 9 and probe(file).num_samples
