"""Captions to conditioning, against the stock Stable Audio pipeline where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import GeometryError, InputError, NonFiniteError
from sounding_video.core.types import ModalityConditioning
from sounding_video.models.conditioning import NUM_IN_MEMORY, ConditioningCache, encode_audio, encode_video
from sounding_video.models.text.t5 import T5TextEncoder
from sounding_video.models.text.umt5 import UMT5TextEncoder
from sounding_video.models.weights.load import load_stable_audio, load_wan


@pytest.fixture(scope="module")
def umt5(small_models_dir: Path) -> UMT5TextEncoder:
    return load_wan(small_models_dir / "wan", resolve_placement(device="cpu"), text_length=64).text


@pytest.fixture(scope="module")
def t5(small_models_dir: Path) -> T5TextEncoder:
    return load_stable_audio(small_models_dir / "stable_audio", resolve_placement(device="cpu")).text


def test_video(umt5):
    conditioning = encode_video(umt5, "a red ball", "blurred")
    assert isinstance(conditioning, ModalityConditioning)
    assert torch.equal(conditioning.positive, umt5.encode(["a red ball"]))
    assert torch.equal(conditioning.negative, umt5.encode(["blurred"]))
    assert conditioning.duration is None


def test_no_negative_turns_guidance_off_and_changes_nothing_else(umt5, t5):
    assert encode_video(umt5, "a red ball", None).negative is None
    without, with_one = encode_audio(t5, "a thud", None, seconds=2.2), encode_audio(t5, "a thud", "hiss", seconds=2.2)
    assert without.negative is None
    assert torch.equal(without.positive, with_one.positive)
    assert torch.equal(without.duration, with_one.duration)


def test_an_empty_negative_is_a_choice(umt5, t5):
    assert torch.equal(encode_video(umt5, "a red ball", "").negative, umt5.encode([""]))
    assert torch.equal(encode_audio(t5, "a thud", "", seconds=1).negative, t5.encode([""]))


def test_official_audio_reads_text_tokens_only(t5):
    conditioning = encode_audio(t5, "a thud", "hiss", seconds=5.4)
    assert torch.equal(conditioning.positive, t5.encode(["a thud"]))
    assert torch.equal(conditioning.negative, t5.encode(["hiss"]))
    assert torch.equal(conditioning.duration, t5.duration(0.0, 5.4))
    assert conditioning.duration.shape == (1, 1, 2 * conditioning.positive.shape[-1])


def test_duration_tokens_are_the_stock_reading(t5):
    official, stock = (encode_audio(t5, "a thud", "hiss", seconds=5.4, duration_tokens=flag) for flag in (False, True))
    tokens = t5.duration_tokens(0.0, 5.4)
    assert torch.equal(stock.positive, torch.cat([official.positive, tokens], dim=1))
    assert torch.equal(stock.negative, torch.cat([official.negative, tokens], dim=1))
    assert torch.equal(stock.duration, official.duration)
    # Stock Stable Audio's global states are the same two embeddings.
    assert torch.equal(stock.duration, tokens.flatten(1).unsqueeze(1))


def test_batches(umt5, t5):
    video = encode_video(umt5, ["a red ball", "a drum"], "blurred")
    assert video.positive.shape[0] == video.negative.shape[0] == 2
    assert torch.equal(video.negative[0], video.negative[1])
    audio = encode_audio(t5, ["a thud", "a roll"], ["hiss", ""], seconds=2.2)
    assert audio.duration.shape[0] == 2
    assert not torch.equal(audio.negative[0], audio.negative[1])
    assert encode_audio(t5, ["a thud", "a roll"], None, seconds=2.2, duration_tokens=True).positive.shape[1] == 34


@pytest.mark.parametrize("caption", ["", "  \n", [], ["a ball", " "]])
def test_an_empty_caption_is_refused(umt5, t5, caption):
    with pytest.raises(InputError, match=r"the video caption is empty.*Write what the clip should contain"):
        encode_video(umt5, caption, None)
    with pytest.raises(InputError, match="the audio caption is empty"):
        encode_audio(t5, caption, None, seconds=1)


def test_captions_must_pair_up(umt5):
    with pytest.raises(InputError, match="do not pair up: got 1 negative for 2 positive"):
        encode_video(umt5, ["a", "b"], ["c"])


@pytest.mark.parametrize(
    ("seconds", "error", "message"),
    [
        (float("nan"), NonFiniteError, "not a finite number: got nan s"),
        (float("inf"), NonFiniteError, "not a finite number: got inf s"),
        (-1.0, GeometryError, "outside what the audio model knows: got -1.0 s; expected 0 to 512 seconds"),
        (513.0, GeometryError, "outside what the audio model knows: got 513.0 s"),
    ],
)
def test_senseless_durations_are_refused(t5, seconds, error, message):
    with pytest.raises(error, match=message):
        encode_audio(t5, "a thud", None, seconds=seconds)


def test_a_long_running_process_remembers_no_more_than_the_newest():
    cache = ConditioningCache()
    for number in range(200):
        cache.put(ModalityConditioning(torch.zeros(1, 2, 3)), "caption", number)
    assert len(cache) == NUM_IN_MEMORY
    assert cache.get("caption", 199) is not None
    assert cache.get("caption", 0) is None
