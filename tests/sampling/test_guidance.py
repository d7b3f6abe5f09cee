"""Guidance: BridgeDiT eq. 9–10, one or two passes, batched equal to sequential."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sounding_video.core.errors import InputError
from sounding_video.core.pair import Pair
from sounding_video.core.types import Modality
from sounding_video.sampling.cache import build_cache
from sounding_video.sampling.given import Given
from sounding_video.sampling.guidance import BATCHING, MAX_BATCHED_POSITIONS, GuidedDenoiser, View, dual_guidance
from sounding_video.sampling.loop import sample
from sounding_video.sampling.schedule import build_schedule


def views(noise):
    return View(noise.video, torch.tensor([750])), View(noise.audio, torch.tensor([0.75]))


def by_hand(denoiser, conditioning, noise, which):
    """One plain pass with the positive or the negative texts."""
    (video, audio), text, sound = views(noise), conditioning.video, conditioning.audio
    return denoiser(
        Modality(video.latents, video.timestep, getattr(text, which)),
        Modality(audio.latents, audio.timestep, getattr(sound, which), sound.duration),
    )


@settings(max_examples=25, deadline=None)
@given(w_video=st.floats(0, 20), w_audio=st.floats(0, 20), batching=st.sampled_from(BATCHING))
def test_each_modality_follows_its_own_equation(mixing_class, conditioning, fixed_noise, w_video, w_audio, batching):
    denoiser, texts = mixing_class(), conditioning()
    guided = GuidedDenoiser(denoiser, texts, dual_guidance(w_video, w_audio, batching), num_positions=0)
    predictions = guided(*views(fixed_noise))
    positive = by_hand(denoiser, texts, fixed_noise, "positive")
    negative = by_hand(denoiser, texts, fixed_noise, "negative")
    for prediction, scale, c, u in zip(predictions, (w_video, w_audio), positive, negative, strict=True):
        expected = c if scale <= 1 else u + scale * (c - u)
        torch.testing.assert_close(prediction, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_batched_equals_sequential(mixing_class, conditioning, batch):
    generator = torch.Generator().manual_seed(0)
    video = View(torch.randn(batch, 4, 3, 6, 8, generator=generator), torch.tensor([500]))
    audio = View(torch.randn(batch, 6, 13, generator=generator), torch.tensor([0.5]))
    texts = conditioning(batch=batch)
    results = []
    for batching, passes, rows in (("batched", 1, 2 * batch), ("sequential", 2, batch)):
        denoiser = mixing_class()
        results.append(GuidedDenoiser(denoiser, texts, dual_guidance(6, 7, batching), num_positions=1)(video, audio))
        assert [len(call[0].latents) for call in denoiser.calls] == [rows] * passes
        assert [len(call[1].text) for call in denoiser.calls] == [rows] * passes
    for one, two in zip(*results, strict=True):
        assert one.shape[0] == batch
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


def test_unconditional_row_comes_first(mixing, conditioning, noise):
    texts = conditioning()
    GuidedDenoiser(mixing, texts, dual_guidance(batching="batched"), num_positions=1)(*views(noise))
    ((video, audio),) = mixing.calls
    assert torch.equal(video.text, torch.cat([texts.video.negative, texts.video.positive]))
    assert torch.equal(audio.text, torch.cat([texts.audio.negative, texts.audio.positive]))
    assert torch.equal(audio.duration, torch.cat([texts.audio.duration] * 2))
    assert torch.equal(video.latents[0], video.latents[1])
    assert video.timestep.shape == audio.timestep.shape == (1,)


@pytest.mark.parametrize("scales", [(1.0, 1.0), (0.0, 0.5)])
def test_both_off_is_one_conditional_pass(mixing, conditioning, noise, scales):
    texts = conditioning()
    predictions = GuidedDenoiser(mixing, texts, dual_guidance(*scales), num_positions=1)(*views(noise))
    assert len(mixing.calls) == 1
    for prediction, expected in zip(predictions, by_hand(mixing, texts, noise, "positive"), strict=True):
        assert torch.equal(prediction, expected)


def test_off_modality_needs_no_negative_and_keeps_its_text_in_both_rows(mixing, conditioning, noise):
    guided, plain = conditioning(audio=False), conditioning(negative=False)
    texts = type(guided)(guided.video, plain.audio)
    GuidedDenoiser(mixing, texts, dual_guidance(6, 1, "batched"), num_positions=1)(*views(noise))
    ((video, audio),) = mixing.calls
    assert not torch.equal(video.text[0], video.text[1])
    assert torch.equal(audio.text[0], audio.text[1])


@pytest.mark.parametrize(("name", "scales"), [("video", (6.0, 1.0)), ("audio", (1.0, 6.0))])
def test_missing_negative_is_refused(mixing, conditioning, name, scales):
    with pytest.raises(
        InputError, match=rf"{name} guidance needs a negative.*scale 6 and no negative.*set the scale to 1"
    ):
        GuidedDenoiser(mixing, conditioning(negative=False), dual_guidance(*scales), num_positions=1)


def test_missing_tower_is_named(conditioning, noise):
    guided = GuidedDenoiser(
        lambda video, audio: (None, audio.latents), conditioning(), dual_guidance(), num_positions=1
    )
    with pytest.raises(InputError, match=r"predicts no video but video noise is given.*Join a video tower"):
        guided(*views(noise))


@pytest.mark.parametrize(
    ("num_positions", "passes"), [(0, 1), (MAX_BATCHED_POSITIONS, 1), (MAX_BATCHED_POSITIONS + 1, 2), (131_040, 2)]
)
def test_auto_picks_by_size_and_says_so_once(mixing, conditioning, noise, caplog, num_positions, passes):
    with caplog.at_level(logging.INFO, logger="sounding_video.sampling.guidance"):
        guided = GuidedDenoiser(mixing, conditioning(), dual_guidance(), num_positions=num_positions)
        guided(*views(noise))
        guided(*views(noise))
    assert len(mixing.calls) == 2 * passes
    (record,) = caplog.records
    assert ("batched (" if passes == 1 else "sequential (") in record.getMessage()


def test_half_precision_predictions_are_combined_in_float32(conditioning, noise):
    def half(video, audio):
        return video.latents.half(), audio.latents.bfloat16()

    for prediction in GuidedDenoiser(half, conditioning(), dual_guidance(), num_positions=1)(*views(noise)):
        assert prediction.dtype == torch.float32


@settings(max_examples=25, deadline=None)
@given(
    m_video=st.floats(0, 9), m_audio=st.floats(0, 9), w_video=st.floats(0, 9), batching=st.sampled_from(BATCHING[1:])
)
def test_each_modality_is_pushed_from_what_it_is_alone(
    mixing_class, conditioning, fixed_noise, m_video, m_audio, w_video, batching
):
    """LTX-2: c + (w − 1)·(c − u) + (m − 1)·(c − s)."""
    denoiser, texts = mixing_class(), conditioning()
    guidance = dual_guidance(w_video, 3, batching, modality_scales=(m_video, m_audio))
    predictions = GuidedDenoiser(denoiser, texts, guidance, num_positions=0)(*views(fixed_noise))
    num_passes = {"batched": 1, "sequential": 2}[batching]
    assert len(denoiser.calls) == num_passes + (m_video > 1) + (m_audio > 1)

    positive = by_hand(denoiser, texts, fixed_noise, "positive")
    negative = by_hand(denoiser, texts, fixed_noise, "negative")
    (video, audio), text, sound = views(fixed_noise), texts.video, texts.audio
    alone = (
        denoiser(Modality(video.latents, video.timestep, text.positive), None)[0],
        denoiser(None, Modality(audio.latents, audio.timestep, sound.positive, sound.duration))[1],
    )
    scales = ((w_video, m_video), (3, m_audio))
    for prediction, (w, m), c, u, s in zip(predictions, scales, positive, negative, alone, strict=True):
        expected = c + max(w - 1, 0) * (c - u) + max(m - 1, 0) * (c - s)
        torch.testing.assert_close(prediction, expected, rtol=1e-5, atol=2e-5)


def test_modality_scales_alone_need_no_negative(mixing, conditioning, noise):
    guidance = dual_guidance(1, 1, modality_scales=(2, 2))
    GuidedDenoiser(mixing, conditioning(negative=False), guidance, num_positions=1)(*views(noise))
    assert [(video is None, audio is None) for video, audio in mixing.calls] == [
        (False, False),
        (False, True),
        (True, False),
    ]


def test_one_modality_has_nothing_to_be_pushed_from(mixing, conditioning, noise):
    guidance = dual_guidance(6, 6, "sequential", modality_scales=(4, 4))
    texts = conditioning(audio=False)
    pushed = GuidedDenoiser(mixing, texts, guidance, num_positions=1)(views(noise)[0], None)[0]
    assert len(mixing.calls) == 2
    plain = GuidedDenoiser(mixing, texts, dual_guidance(6, 6, "sequential"), num_positions=1)(views(noise)[0], None)[0]
    assert torch.equal(pushed, plain)


@pytest.mark.parametrize("scale", [-0.1, math.nan, math.inf])
def test_unusable_scales_are_refused(scale):
    with pytest.raises(InputError, match=r"the video guidance scale cannot be used.*a finite number from 0"):
        dual_guidance(video_scale=scale)
    with pytest.raises(InputError, match="the audio guidance scale cannot be used"):
        dual_guidance(audio_scale=scale)
    with pytest.raises(InputError, match="the video modality scale cannot be used"):
        dual_guidance(modality_scales=(scale, 1))
    with pytest.raises(InputError, match="the audio modality scale cannot be used"):
        dual_guidance(modality_scales=(1, scale))


def test_unknown_batching_lists_the_choices():
    with pytest.raises(InputError, match=r"unknown guidance batching: got 'both'.*auto, batched, sequential"):
        dual_guidance(batching="both")


# The last push, repeated


@pytest.mark.parametrize("kind", ["off", "fast"])
@pytest.mark.parametrize("side", ["none", "video", "audio"])
def test_law_repeated_pushes_are_the_same_batched_and_sequential(mixing_class, conditioning, fixed_noise, side, kind):
    """With all made, and with a given side; with a step cache too."""
    known = Pair(**{side: Given(getattr(fixed_noise, side) / 2)} if side != "none" else {})
    made, forwards = {}, {}
    for every in (1, 3):
        for batching in ("batched", "sequential"):
            denoiser = mixing_class()
            made[every, batching] = sample(
                denoiser,
                conditioning(),
                fixed_noise,
                schedule=build_schedule("lockstep", 12),
                guidance=dual_guidance(3, 4, batching, modality_scales=(1, 2), every=(every, every)),
                seed=3,
                given=known,
                cache=build_cache(kind),
            )
            forwards[every, batching] = sum(len(video.latents) for video, _ in denoiser.calls if video is not None)
    for name in ("video", "audio"):
        one, two = (getattr(made[3, batching], name) for batching in ("batched", "sequential"))
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)
        if name == side:
            assert torch.equal(one, getattr(fixed_noise, side) / 2)
        elif side != "audio":  # beside a sound that stays, this denoiser's push never changes
            assert not torch.allclose(one, getattr(made[1, "batched"], name), atol=1e-3)
    assert forwards[3, "batched"] == forwards[3, "sequential"] < forwards[1, "sequential"] == forwards[1, "batched"]
