"""*Load PAV-DiT* and the nodes behind it: text to a clip, one side for the other, one side alone, previews."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from PIL import Image
from small_models import pav_dit_graph, write_pav_dit_folder
from sounding_video.core.clock import Timeline
from sounding_video.core.errors import InputError, MissingModelError
from sounding_video.core.progress import Progress
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.headless.runner import run_workflow
from sounding_video.models.families.pav_dit import KERNELS, PavDit
from sounding_video.nodes.conditioning import EmptyAVLatent, EncodeCaptions
from sounding_video.nodes.decode import DecodeAV
from sounding_video.nodes.encode import EncodeClip
from sounding_video.nodes.given import GIVEN_BY
from sounding_video.nodes.host import standalone
from sounding_video.nodes.host.folders import list_models
from sounding_video.nodes.loaders import JoinTowers
from sounding_video.nodes.own import FROM_MODEL
from sounding_video.nodes.pav_dit import ATTENTIONS, OFFLOADS, LoadPavDit
from sounding_video.nodes.sampling import JointSampler
from sounding_video.previews import EVERY, preview_maps

ASK = {"dtype": "float32", "attention": "auto", "offload": "none"}
TEXTS = {"video_caption": "a dog", "audio_caption": "a bark", "video_negative": "", "audio_negative": ""}
SAMPLING = {"steps": 2, "video_guidance_scale": 3.0, "audio_guidance_scale": 3.0, "seed": 0, "schedule": "lockstep"}
SAMPLING |= {"flow_sigmas": "diffusers-0.36", "guidance_batching": "auto", "preview": False}
LENGTH = 6 + 12 + 8


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of models that is not the model itself."""
    folder = tmp_path_factory.mktemp("models")
    write_pav_dit_folder(folder / "planes")
    write_pav_dit_folder(folder / "below" / "trained", trained=True)
    return folder


@pytest.fixture
def loaded(models):
    with standalone.session(standalone.Session((models,), device="cpu")):
        yield LoadPavDit.execute("planes", **ASK)


def empty(loaded, **extent):
    asked = {"width": 832, "height": 480, "num_frames": 81, "fps": 15.0, "batch_size": 1, "defaults": FROM_MODEL}
    _, _, _, video, audio = loaded.args
    return EmptyAVLatent.execute(**{**asked, **extent}, video_codec=video, audio_codec=audio).args


def encoded(loaded, **leave_out):
    ask = {"video_text_encoder": loaded.args[1], "audio_text_encoder": loaded.args[2], "seconds": 1.0, **TEXTS}
    return EncodeCaptions.execute(**{**ask, **leave_out}).args[0]


def test_folders_are_listed_and_a_missing_one_is_refused(models):
    with standalone.session(standalone.Session((models,), device="cpu")):
        assert list_models("pav_dit") == ["below/trained", "planes"]
        assert LoadPavDit.validate_inputs("planes") is True and LoadPavDit.validate_inputs(None) is True
        said = LoadPavDit.validate_inputs("pocket")
        assert "no PAV-DiT model of that name was found: got 'pocket'; expected one of below/trained, planes" in said
        with pytest.raises(MissingModelError, match="no PAV-DiT model of that name was found: got 'gone'"):
            LoadPavDit.execute("gone", **ASK)
    with standalone.session(standalone.Session((models / "absent",), device="cpu")):
        assert list_models("pav_dit") == []
        for name in ("planes", *LoadPavDit.define_schema().inputs[0].options["options"]):
            assert "expected a folder with transformer, autoencoder" in LoadPavDit.validate_inputs(name)


def test_its_choices_are_what_the_family_offers(loaded):
    assert set(OFFLOADS) == set(PavDit.offers.offloads) and set(ATTENTIONS) == set(KERNELS)
    assert loaded.ui["sounding_video_report"] == ["planes (PAV-DiT); UNTRAINED weights"]
    assert loaded.ui["sounding_video_plan"][0]["fits"]


def test_from_captions_to_a_clip(loaded):
    video, audio, fps, seconds, _ = empty(loaded)
    assert (video["samples"].shape, audio["samples"].shape) == ((1, 4, 1, 1, LENGTH), (1, 4, LENGTH))
    assert (fps, seconds) == (8.0, 1.0)
    made = JointSampler.execute(
        loaded.args[0], encoded(loaded), video_latent=video, audio_latent=audio, **SAMPLING
    ).args
    codecs = {"video_codec": loaded.args[3], "audio_codec": loaded.args[4]}
    images, sound = DecodeAV.execute(
        fps=fps, tiling="auto", **codecs, video_samples=made[0], audio_samples=made[1]
    ).args
    assert images[0].shape == (8, 16, 24, 3) and sound[0]["waveform"].shape == (1, 2, 3600)
    assert sound[0]["sample_rate"] == 3600


@pytest.mark.parametrize("side", ["video", "audio"])
def test_one_side_alone(loaded, side):
    latents = dict(zip(("video", "audio"), empty(loaded)[:2], strict=True))
    other = {"video": "audio", "audio": "video"}[side]
    conditioning = encoded(loaded, **{f"{other}_text_encoder": None})
    made = JointSampler.execute(loaded.args[0], conditioning, **{f"{side}_latent": latents[side]}, **SAMPLING).args[
        ("video", "audio").index(side)
    ]
    assert made["samples"].shape == latents[side]["samples"].shape and made["samples"].isfinite().all()


@pytest.mark.parametrize("task", GIVEN_BY)
def test_what_is_given_stays_and_the_other_side_is_made_for_it(loaded, task):
    generator = torch.Generator().manual_seed(0)
    codecs = {"video_codec": loaded.args[3], "audio_codec": loaded.args[4]}
    given = EncodeClip.execute(
        images=torch.rand(8, 16, 24, 3, generator=generator),
        audio={"waveform": 0.3 * torch.randn(1, 2, 3600, generator=generator), "sample_rate": 3600}, fps=8.0,
        start=0.0, after_the_end="hold and silence", batch_size=1, tiling="auto", defaults=FROM_MODEL, width=832,
        height=480, num_frames=81, model_fps=15.0, **codecs,
    ).args  # fmt: skip
    made = JointSampler.execute(
        loaded.args[0], encoded(loaded), video_latent=given[0], audio_latent=given[1], task=task, **SAMPLING
    ).args
    kept = ("video", "audio").index(GIVEN_BY[task])
    assert torch.equal(made[kept]["samples"], given[kept]["samples"])
    assert not torch.equal(made[1 - kept]["samples"], given[1 - kept]["samples"])


def test_what_belongs_to_towers_is_refused(loaded):
    with pytest.raises(InputError, match="there is no tower to join"):
        JoinTowers.execute(loaded.args[1], loaded.args[2])


def test_latents_are_shown_by_decoding_them_at_every_fifth_step(loaded):
    model, seen = loaded.args[0], []

    def report(stage, done, total, preview=None):
        if preview is not None:
            seen.append((done, preview()))

    watched = preview_maps(model).watch(Progress(report))
    latents = model.encode(_clip(), _timeline(model))
    for done in range(1, 13):
        watched.step("sample", done, 12, lambda: latents)
    assert [done for done, _ in seen] == [EVERY, 2 * EVERY, 12]
    shown = seen[0][1]
    assert shown.frames.shape == (8, 16, 24, 3) and shown.frames.dtype == torch.uint8
    assert shown.spectrogram.shape == (8, 4 * 9) and float(shown.spectrogram.max()) == 1 and shown.seconds == 1.0
    truth = model.decode(latents, fps=8).video.frames
    assert (shown.frames.float() / 255 - truth).abs().max() < 0.005
    assert isinstance(shown.sheet().picture, Image.Image)
    silent = preview_maps(model).render(type(latents)(latents.video))
    assert silent.spectrogram is None and silent.frames is not None


def test_a_preview_that_would_hold_the_sampler_up_is_left_out(loaded, monkeypatch):
    model = loaded.args[0]
    monkeypatch.setattr("sounding_video.previews.quick_or_seconds", lambda operations, placement: operations / 1)
    assert preview_maps(model).render(model.encode(_clip(), _timeline(model))) is None


def test_a_workflow_file_with_it_runs(models, tmp_path):
    report = run_workflow(pav_dit_graph(), models_dir=models, output_dir=tmp_path, device="cpu", embed_metadata=False)
    assert len(report.files) == 3 and all(file.stat().st_size for file in report.files)


def _clip():
    generator = torch.Generator().manual_seed(0)
    picture = VideoClip(torch.rand(8, 16, 24, 3, generator=generator), Fraction(8))
    return AVClip(picture, AudioClip(0.3 * torch.randn(2, 3600, generator=generator), 3600))


def _timeline(model):
    own = model.own
    return Timeline(own.num_frames, own.fps, own.width, own.height, model.geometry)
