"""What the nodes show of memory: whether a clip fits, and what a stage decided or had to do again."""

from __future__ import annotations

import json

import pytest
import torch
from sounding_video.core.residency import Moving, managed_by
from sounding_video.models.conditioning import REMEMBERED
from sounding_video.models.plan.needs import STAGES
from sounding_video.nodes import telling
from sounding_video.nodes.conditioning import EmptyAVLatent, EncodeCaptions
from sounding_video.nodes.decode import DecodeAV
from sounding_video.nodes.host import standalone
from sounding_video.nodes.loaders import FREE_TEXT, JoinTowers, LoadStableAudioTower, LoadWanTower
from sounding_video.nodes.sampling import JointSampler

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
TEXTS = {"video_caption": "a dog", "audio_caption": "a bark", "video_negative": "", "audio_negative": ""}


@pytest.fixture
def loaded(small_models_dir):
    """Both sides of the small models, on a CPU."""

    def load(offload, text_encoder="keep"):
        ask = {"dtype": "auto", "attention": "auto", "offload": offload, "text_encoder": text_encoder}
        return (
            LoadWanTower.execute("wan", **ask).args[0],
            LoadStableAudioTower.execute("stable_audio", **ask).args[0],
        )

    with standalone.session(standalone.Session((small_models_dir,), device="cpu")):
        yield load


@pytest.mark.parametrize("text_encoder", ["keep", FREE_TEXT])
def test_join_towers_shows_whether_a_clip_fits(loaded, text_encoder):
    video, audio = loaded("auto", text_encoder)
    [plan] = JoinTowers.execute(video, audio).ui["sounding_video_plan"]
    assert json.loads(json.dumps(plan)) == plan, "the page gets it as JSON"
    assert plan["clip"] == {"frames": 81, "width": 832, "height": 480}
    assert plan["sentence"].startswith("81 frames of 832×480: ")
    assert tuple(plan["stages"]) == STAGES and all(size > 0 for size in plan["stages"].values())
    assert plan["fits"] == (plan["required_bytes"] <= plan["free_bytes"])
    [alone] = JoinTowers.execute(audio_tower=audio).ui["sounding_video_plan"]
    assert tuple(alone["stages"]) == ("encode", "sample", "decode audio")


def conditioned(video, audio):
    return EncodeCaptions.execute(video_text_encoder=video, audio_text_encoder=audio, seconds=0.6, **TEXTS)


def test_encode_captions_says_which_weights_it_applied(loaded):
    video, _ = loaded("none")
    REMEMBERED.clear()
    texts = {**TEXTS, "video_caption": "a (red:1.3) ball <lora:x:1>"}
    shown = EncodeCaptions.execute(video_text_encoder=video, seconds=0.6, **texts).ui[telling.REPORT_KEY]
    assert "video caption: weights applied as ComfyUI does: “red” × 1.3." in shown
    assert any("<lora:x:1> loads nothing" in sentence for sentence in shown)


def sampled(model, conditioning, latents):
    options = {"seed": 1, "steps": 1, "video_guidance_scale": 6.0, "audio_guidance_scale": 6.0}
    rest = {"schedule": "lockstep", "flow_sigmas": "diffusers-0.36", "guidance_batching": "auto", "preview": False}
    given = dict(zip(("video_latent", "audio_latent"), latents, strict=True))
    return JointSampler.execute(model, conditioning, **given, **options, **rest)


def test_what_auto_picks_is_said_on_each_node(loaded):
    REMEMBERED.clear()
    video, audio = loaded("auto")
    model = JoinTowers.execute(video, audio).args[0]
    texts = conditioned(video, audio)
    extent = {"width": 32, "height": 32, "num_frames": 5, "fps": 15.0, "batch_size": 2}
    latents = EmptyAVLatent.execute(video_codec=video, audio_codec=audio, **extent).args[:2]
    made = sampled(model, texts.args[0], latents)
    samples = {"video_samples": made.args[0], "audio_samples": made.args[1]}
    decoded = DecodeAV.execute(fps=15.0, tiling="auto", video_codec=video, audio_codec=audio, **samples)
    said = [output.ui[telling.REPORT_KEY] for output in (texts, made, decoded)]
    stages = [[sentence.partition(":")[0] for sentence in sentences] for sentences in said]
    assert set(stages[0]) == {"encode"} and stages[1] == ["sample"]
    assert set(stages[2]) == {"decode video", "decode audio"}
    assert all("offload none, native float32 weights" in sentence for sentences in said for sentence in sentences)
    again = conditioned(video, audio)
    assert again.ui == {telling.REPORT_KEY: []}, "known captions need no plan, and old sentences go"


def test_a_second_attempt_is_said_on_the_node(loaded):
    video, audio = loaded("none")
    model = JoinTowers.execute(video, audio).args[0]
    texts = conditioned(video, audio)
    assert texts.ui == {telling.REPORT_KEY: []}
    extent = {"width": 32, "height": 32, "num_frames": 5, "fps": 15.0, "batch_size": 1}
    latents = EmptyAVLatent.execute(video_codec=video, audio_codec=audio, **extent).args[:2]

    def refuse_rows(_, args):
        if args[0].shape[0] > 1:
            raise FULL

    def refuse_width(_, args):
        if args[0].shape[-1] > 32:
            raise FULL

    handle = model.joint.video.blocks[1].register_forward_pre_hook(refuse_rows)
    [sentence] = sampled(model, texts.args[0], latents).ui[telling.REPORT_KEY]
    handle.remove()
    assert "sample ran out of memory; once more with" in sentence and "guidance sequential" in sentence
    large = {"samples": torch.zeros(1, 4, 2, 40, 40)}
    handle = video.codec.vae.decoder.register_forward_pre_hook(refuse_width)
    decoded = DecodeAV.execute(fps=15.0, tiling="auto", video_codec=video, video_samples=large)
    handle.remove()
    [sentence] = decoded.ui[telling.REPORT_KEY]
    assert "decode video ran out of memory" in sentence and "in tiles" in sentence


def test_a_sentence_is_said_once_however_often_it_was_noted(monkeypatch):
    from sounding_video.models.plan.fit import note

    monkeypatch.setattr(telling, "managed_memory", lambda: managed_by(Moving()))
    with telling.managed_stage() as shown:
        for sentence in ("one", "two", "one"):
            note(sentence)
    assert shown == {"sounding_video_report": ["one", "two"]}
