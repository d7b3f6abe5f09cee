"""Law: joint sampling without bridges equals the stock WanPipeline and StableAudioPipeline run separately.

How the stock pipelines differ from the published joint system, and what is done about it here:

* Wan reads 512 text tokens (published: 1024) -> the text encoder is built with the stock length.
* Stable Audio appends two duration tokens to the text (published: text alone) -> ``duration_tokens=True``.
* Stable Audio denoises ``sample_size`` latents whatever the duration and crops the waveform after decoding -> latents
  of the wanted length are given; both pipelines take them unscaled and the audio one scales them itself.
* Stable Audio's SDE noise is seeded by ``generator.initial_seed()`` -> the same seed goes to the sampler.
* The flow spacing is the installed diffusers' own -> ``flow_sigmas`` is chosen to match.
"""

from __future__ import annotations

import diffusers
import pytest
import torch
from diffusers import (
    AutoencoderKLWan,
    AutoencoderOobleck,
    CosineDPMSolverMultistepScheduler,
    DPMSolverMultistepScheduler,
    StableAudioDiTModel,
    StableAudioPipeline,
    StableAudioProjectionModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from packaging.version import Version
from sounding_video.core.types import Conditioning, JointLatents
from sounding_video.models.conditioning import encode_audio, encode_video
from sounding_video.models.joint import JointModel
from sounding_video.models.text.t5 import T5TextEncoder
from sounding_video.models.text.umt5 import STOCK_LENGTH, UMT5TextEncoder
from sounding_video.models.towers.stable_audio import StableAudioTower
from sounding_video.models.towers.wan import WanTower
from sounding_video.sampling.guidance import dual_guidance
from sounding_video.sampling.loop import sample
from sounding_video.sampling.noise import draw_noise
from sounding_video.sampling.schedule import build_schedule
from transformers import PreTrainedTokenizerFast, T5EncoderModel, UMT5EncoderModel

pytestmark = pytest.mark.filterwarnings("ignore:Should have t[ab]")

SEED, STEPS, SECONDS = 77, 6, 0.05
VIDEO_SCALE, AUDIO_SCALE = 4.0, 7.0
CAPTIONS = ("a dog barks in the yard", "a dog barks, wind")
NEGATIVES = ("blurred, static", "low quality")
INSTALLED = "diffusers-0.37" if Version(diffusers.__version__) >= Version("0.37.0") else "diffusers-0.36"


def stock_pipeline(pipeline_class, folder, **classes):
    pipeline = pipeline_class(**{name: part.from_pretrained(folder / name) for name, part in classes.items()})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module")
def wan(small_models_dir):
    return stock_pipeline(
        WanPipeline,
        small_models_dir / "wan",
        tokenizer=PreTrainedTokenizerFast,
        text_encoder=UMT5EncoderModel,
        vae=AutoencoderKLWan,
        transformer=WanTransformer3DModel,
        scheduler=UniPCMultistepScheduler,
    )


@pytest.fixture(scope="module")
def stable_audio(small_models_dir):
    return stock_pipeline(
        StableAudioPipeline,
        small_models_dir / "stable_audio",
        tokenizer=PreTrainedTokenizerFast,
        text_encoder=T5EncoderModel,
        projection_model=StableAudioProjectionModel,
        vae=AutoencoderOobleck,
        transformer=StableAudioDiTModel,
        scheduler=CosineDPMSolverMultistepScheduler,
    )


@pytest.fixture(scope="module")
def joint(wan, stable_audio):
    return JointModel(WanTower(wan.transformer), StableAudioTower(stable_audio.transformer)).eval()


@pytest.fixture(scope="module")
def texts(wan, stable_audio):
    video = UMT5TextEncoder(wan.tokenizer, wan.text_encoder, STOCK_LENGTH)
    audio = T5TextEncoder(stable_audio.tokenizer, stable_audio.text_encoder, stable_audio.projection_model)
    return Conditioning(
        encode_video(video, CAPTIONS[0], NEGATIVES[0]),
        encode_audio(audio, CAPTIONS[1], NEGATIVES[1], seconds=SECONDS, duration_tokens=True),
    )


@pytest.fixture(scope="module")
def drawn():
    return draw_noise(SEED, video_shape=(1, 4, 3, 4, 6), audio_shape=(1, 6, 25))


def stock_video(pipeline, latents, scale):
    return pipeline(
        CAPTIONS[0],
        NEGATIVES[0],
        height=8 * latents.shape[3],
        width=8 * latents.shape[4],
        num_frames=4 * (latents.shape[2] - 1) + 1,
        num_inference_steps=STEPS,
        guidance_scale=scale,
        latents=latents,
        output_type="latent",
    ).frames


def stock_audio(pipeline, latents, scale):
    return pipeline(
        CAPTIONS[1],
        audio_end_in_s=SECONDS,
        num_inference_steps=STEPS,
        guidance_scale=scale,
        negative_prompt=NEGATIVES[1],
        generator=torch.Generator("cpu").manual_seed(SEED),
        latents=latents,
        output_type="latent",
    ).audios


def ours(joint, texts, noise, *, batching="auto", scales=(VIDEO_SCALE, AUDIO_SCALE), **points):
    schedule = build_schedule("lockstep", STEPS, **{"flow_sigmas": INSTALLED, **points})
    return sample(joint, texts, noise, schedule=schedule, guidance=dual_guidance(*scales, batching), seed=SEED)


def assert_equal(one, two):
    assert one.shape == two.shape
    assert float(two.std()) > 0.1
    assert float((one - two).abs().max()) <= 1e-5 * max(1.0, float(two.abs().max()))


@pytest.mark.parametrize("batching", ["batched", "sequential"])
def test_joint_sampling_without_bridges_equals_both_stock_pipelines(wan, stable_audio, joint, texts, drawn, batching):
    result = ours(joint, texts, drawn, batching=batching)
    assert_equal(result.video, stock_video(wan, drawn.video, VIDEO_SCALE))
    assert_equal(result.audio, stock_audio(stable_audio, drawn.audio, AUDIO_SCALE))


def test_without_guidance(wan, stable_audio, joint, texts, drawn):
    result = ours(joint, texts, drawn, scales=(1.0, 1.0))
    assert_equal(result.video, stock_video(wan, drawn.video, 1.0))
    assert_equal(result.audio, stock_audio(stable_audio, drawn.audio, 1.0))


def test_one_guided_modality_leaves_the_other_as_stock_without_guidance(wan, stable_audio, joint, texts, drawn):
    result = ours(joint, texts, drawn, scales=(VIDEO_SCALE, 1.0))
    assert_equal(result.video, stock_video(wan, drawn.video, VIDEO_SCALE))
    assert_equal(result.audio, stock_audio(stable_audio, drawn.audio, 1.0))


def test_each_tower_alone(wan, stable_audio, joint, texts, drawn):
    video = ours(JointModel(joint.video, None), texts, JointLatents(video=drawn.video))
    assert video.audio is None
    assert_equal(video.video, stock_video(wan, drawn.video, VIDEO_SCALE))
    audio = ours(JointModel(None, joint.audio), texts, JointLatents(audio=drawn.audio))
    assert audio.video is None
    assert_equal(audio.audio, stock_audio(stable_audio, drawn.audio, AUDIO_SCALE))


def test_video_alone_draws_what_the_stock_pipeline_draws(wan, joint, texts):
    noise = draw_noise(SEED, video_shape=(1, 4, 3, 4, 6))
    stock = wan(
        CAPTIONS[0],
        NEGATIVES[0],
        height=32,
        width=48,
        num_frames=9,
        num_inference_steps=STEPS,
        guidance_scale=VIDEO_SCALE,
        generator=torch.Generator("cpu").manual_seed(SEED),
        output_type="latent",
    ).frames
    assert_equal(ours(joint, texts, noise).video, stock)


def test_published_audio_conditioning_is_another_one(stable_audio, joint, texts, drawn):
    """The law above is not vacuous: without the duration tokens the sound differs from stock."""
    encoder = T5TextEncoder(stable_audio.tokenizer, stable_audio.text_encoder, stable_audio.projection_model)
    published = Conditioning(texts.video, encode_audio(encoder, CAPTIONS[1], NEGATIVES[1], seconds=SECONDS))
    result = ours(joint, published, drawn)
    assert float((result.audio - stock_audio(stable_audio, drawn.audio, AUDIO_SCALE)).abs().max()) > 1e-3


@pytest.mark.parametrize(("solver", "weights"), [("dpmpp_2m", "midpoint"), ("res_multistep", "heun")])
def test_the_picture_by_another_solver_is_the_stock_pipeline_s_with_that_scheduler(
    wan, joint, texts, drawn, monkeypatch, solver, weights
):
    flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    scheduler = DPMSolverMultistepScheduler(solver_type=weights, final_sigmas_type="zero", **flow)
    monkeypatch.setattr(wan, "scheduler", scheduler)
    # This scheduler's own points are spaced in the older way, whatever the version.
    result = ours(joint, texts, drawn, solver=solver, flow_sigmas="diffusers-0.36")
    assert_equal(result.video, stock_video(wan, drawn.video, VIDEO_SCALE))
    assert float((result.video - ours(joint, texts, drawn).video).abs().max()) > 1e-3
