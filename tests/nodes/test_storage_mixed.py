"""fp8 on one loader and native on the other: through Join Towers, the captions and the sampler; other mixes say why."""

from __future__ import annotations

import pytest
import torch
from sounding_video.core.errors import InputError
from sounding_video.models.conditioning import REMEMBERED
from sounding_video.models.joined import _common_placement
from sounding_video.nodes.conditioning import EmptyAVLatent, EncodeCaptions
from sounding_video.nodes.host import standalone
from sounding_video.nodes.loaders import FREE_TEXT, JoinTowers, LoadBridge, LoadStableAudioTower, LoadWanTower
from sounding_video.nodes.sampling import JointSampler

FP8 = torch.float8_e4m3fn


@pytest.fixture
def load(small_models_dir):
    def load(video_storage, audio_storage, **different):
        ask = {"dtype": "auto", "attention": "auto", "offload": "auto", "text_encoder": FREE_TEXT}
        return (
            LoadWanTower.execute("wan", **ask, storage=video_storage).args[0],
            LoadStableAudioTower.execute("stable_audio", **{**ask, **different}, storage=audio_storage).args[0],
        )

    with standalone.session(standalone.Session((small_models_dir,), device="cpu")):
        yield load


def sampled(video, audio):
    REMEMBERED.clear()
    model = JoinTowers.execute(video, audio, LoadBridge.execute("bridge.safetensors", "from file").args[0]).args[0]
    texts = {"video_caption": "a dog", "audio_caption": "a bark", "video_negative": "", "audio_negative": ""}
    encoded = EncodeCaptions.execute(video_text_encoder=video, audio_text_encoder=audio, seconds=0.6, **texts).args[0]
    extent = {"width": 32, "height": 32, "num_frames": 9, "fps": 15.0, "batch_size": 1}
    latents = EmptyAVLatent.execute(video_codec=video, audio_codec=audio, **extent).args
    rest = {"video_guidance_scale": 6.0, "audio_guidance_scale": 6.0, "schedule": "lockstep", "seed": 1, "steps": 2}
    rest |= {"flow_sigmas": "diffusers-0.36", "guidance_batching": "auto", "preview": False}
    made = JointSampler.execute(model, encoded, video_latent=latents[0], audio_latent=latents[1], **rest).args
    return model, made[0]["samples"], made[1]["samples"]


@pytest.mark.parametrize("storages", [("fp8", "native"), ("native", "fp8")])
def test_one_side_in_fp8_samples_close_to_none(load, storages):
    _, video, audio = sampled(*load("native", "native"))
    model, mixed_video, mixed_audio = sampled(*load(*storages))
    kept = [
        any(weight.dtype == FP8 for weight in tower.parameters()) for tower in (model.joint.video, model.joint.audio)
    ]
    assert kept == [storage == "fp8" for storage in storages]
    assert not any(weight.dtype == FP8 for weight in model.joint.bridges.parameters())
    for exact, mixed in ((video, mixed_video), (audio, mixed_audio)):
        assert not torch.equal(exact, mixed)
        assert float((exact - mixed).norm() / exact.norm()) < 0.2


def test_a_caption_of_a_rounded_encoder_is_not_taken_for_an_exact_one(load):
    names = {storage: {parts.text.fingerprint for parts in load(storage, storage)} for storage in ("native", "fp8")}
    assert names["native"].isdisjoint(names["fp8"])


def test_other_differences_are_named_and_nothing_else(load):
    with pytest.raises(InputError, match=r"loaded differently: got dtype torch.float32 and torch.bfloat16; expected"):
        JoinTowers.execute(*load("native", "native", dtype="bfloat16"))
    placement = load("native", "native")[0].placement
    from dataclasses import replace

    with pytest.raises(InputError, match=r"got storage int8 and fp8; expected .* the same storage or fp8 with native"):
        _common_placement([replace(placement, storage="int8"), replace(placement, storage="fp8")])
    assert _common_placement([placement]) == placement
