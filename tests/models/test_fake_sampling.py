"""Sampling of the published models on a card that is not there: sound for a given picture, guided, in every offload."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fake_card import AUDIO_SHAPE, ON_CARD, VIDEO_SHAPE, fake_card, on_card, published
from sounding_video.core.pair import Pair
from sounding_video.core.types import Conditioning, ModalityConditioning
from sounding_video.models.codecs.oobleck import OobleckCodec
from sounding_video.models.joined import JoinedModel
from sounding_video.models.parts import AudioParts, VideoParts
from sounding_video.models.plan.needs import Needs, Workload
from sounding_video.models.plan.published import SHAPES
from sounding_video.pipeline import sample_latents
from sounding_video.sampling.given import Given
from sounding_video.sampling.options import SamplingOptions

LIKE = {"dtype": torch.bfloat16, "device": "cpu"}


def conditioning() -> Conditioning:
    """As the encoders give it."""
    return Conditioning(
        ModalityConditioning(torch.empty(1, 1024, 4096, **LIKE), torch.empty(1, 1024, 4096, **LIKE)),
        ModalityConditioning(
            torch.empty(1, 128, 768, **LIKE), torch.empty(1, 128, 768, **LIKE), torch.empty(1, 1, 1536, **LIKE)
        ),
    )


def loaded(shape: str, offload: str) -> JoinedModel:
    """The published models as they are after loading: all weights in main memory."""
    outline, placement = published(shape), replace(ON_CARD, offload=offload)
    joint = on_card(outline.joint, "cpu")
    parts = {"text": None, "placement": placement, "name": shape}
    video = VideoParts(joint.video, outline.video_codec, **parts)
    return JoinedModel(joint, video, AudioParts(joint.audio, OobleckCodec(outline.audio_vae), **parts), placement, "")


# The others stream layers by accelerate's and diffusers' hooks, which fake tensors do not pass.
WHOLE_MODELS = ("model", "none")


@pytest.mark.parametrize(
    ("shape", "offload"),
    [
        pytest.param(shape, mode, marks=() if (shape, mode) == (SHAPES[0], "model") else pytest.mark.slow)
        for shape in SHAPES
        for mode in WHOLE_MODELS
    ],
)
def test_sound_for_a_given_picture(shape: str, offload: str) -> None:
    outline = published(shape)
    with fake_card() as card:
        model = loaded(shape, offload)
        made = sample_latents(
            model,
            conditioning(),
            video_shape=VIDEO_SHAPE,
            audio_shape=AUDIO_SHAPE,
            options=SamplingOptions(num_steps=1),
            given=Pair(video=Given(torch.empty(VIDEO_SHAPE))),
        )
        left = card.now
    assert (made.audio.shape, made.audio.dtype, made.audio.device.type) == (AUDIO_SHAPE, torch.float32, "cpu")
    assert made.video.shape == VIDEO_SHAPE
    needs = Needs(replace(outline, video_text=None, audio_text=None), Workload(VIDEO_SHAPE, AUDIO_SHAPE, decoded=()))
    weights = needs.weights_on_device("sample", "model", prefetch=True)
    assert weights + needs.activations("sample") == pytest.approx(card.peak, rel=0.02)
    assert left == pytest.approx(weights if offload == "none" else 0, abs=0.01 * weights)
