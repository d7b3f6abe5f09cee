"""Codecs and text encoders of the published sizes on a card that is not there: each on one device, and as foretold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from fake_card import AUDIO_SHAPE, ON_CARD, VIDEO_SHAPE, CardBytes, fake_card, published
from sounding_video.core.clock import Timeline
from sounding_video.core.types import AudioClip, AVClip, JointLatents, VideoClip
from sounding_video.models.clip_encoding import encode_clip
from sounding_video.models.codecs.oobleck import OobleckCodec
from sounding_video.models.codecs.wan_vae import WanVAECodec
from sounding_video.models.plan.needs import Needs, Workload
from sounding_video.models.plan.published import SHAPES
from sounding_video.pipeline import decode_latents

TIMELINE = Timeline(81, Fraction(15), 832, 480)
NUM_SAMPLES = TIMELINE.num_samples
TILED = pytest.mark.parametrize("tiling", ["off", pytest.param("on", marks=pytest.mark.slow)])


@pytest.fixture
def needs() -> Needs:
    """Of the codecs and the text encoders."""
    outline = replace(published(SHAPES[0]), joint=None)
    return Needs(outline, Workload(VIDEO_SHAPE, AUDIO_SHAPE, encoded=("video", "audio")))


@pytest.fixture
def card(needs: Needs) -> Iterator[CardBytes]:
    with fake_card() as card, torch.no_grad():
        yield card


def video_codec() -> WanVAECodec:
    from diffusers import AutoencoderKLWan

    return WanVAECodec(AutoencoderKLWan().eval())


def audio_codec() -> OobleckCodec:
    from diffusers import AutoencoderOobleck

    return OobleckCodec(AutoencoderOobleck().eval())


@TILED
def test_encoding_the_published_picture(tiling: str, card: CardBytes, needs: Needs) -> None:
    clip = AVClip(VideoClip(torch.empty(81, 480, 832, 3), Fraction(15)), None)
    made = encode_clip(clip, TIMELINE, video_codec=video_codec(), audio_codec=None, placement=ON_CARD, tiling=tiling)
    assert (made.video.shape, made.video.dtype, made.video.device.type) == (VIDEO_SHAPE, torch.float32, "cpu")
    foretold = needs.weights()["video codec"] + needs.activations("encode video", tiling=tiling)
    assert foretold == pytest.approx(card.peak, rel=0.05)


def test_encoding_the_published_sound(card: CardBytes, needs: Needs) -> None:
    clip = AVClip(None, AudioClip(torch.empty(2, NUM_SAMPLES), 44100))
    made = encode_clip(clip, TIMELINE, video_codec=None, audio_codec=audio_codec(), placement=ON_CARD)
    assert (made.audio.shape, made.audio.dtype, made.audio.device.type) == (AUDIO_SHAPE, torch.float32, "cpu")
    foretold = needs.weights()["audio codec"] + needs.activations("encode audio")
    assert foretold == pytest.approx(card.peak, rel=0.05)


@TILED
def test_decoding_the_published_picture(tiling: str, card: CardBytes, needs: Needs) -> None:
    latents = JointLatents(torch.empty(VIDEO_SHAPE), None)
    made = decode_latents(
        latents, video_codec=video_codec(), audio_codec=None, fps=Fraction(15), placement=ON_CARD, tiling=tiling
    )
    assert (made.video.frames.shape, made.video.frames.dtype) == ((81, 480, 832, 3), torch.float32)
    foretold = needs.weights()["video codec"] + needs.activations("decode video", tiling=tiling)
    assert foretold == pytest.approx(card.peak, rel=0.05)


def test_decoding_the_published_sound(card: CardBytes, needs: Needs) -> None:
    latents = JointLatents(None, torch.empty(AUDIO_SHAPE))
    made = decode_latents(latents, video_codec=None, audio_codec=audio_codec(), fps=Fraction(15), placement=ON_CARD)
    assert (made.audio.waveform.shape, made.audio.waveform.dtype) == ((2, 116 * 2048), torch.float32)
    foretold = needs.weights()["audio codec"] + needs.activations("decode audio")
    assert foretold == pytest.approx(card.peak, rel=0.05)
