"""Weighted captions: ComfyUI's formula on our encoders, and a plain caption that no weight has touched."""

from __future__ import annotations

import pytest
import torch
from sounding_video.core.device import resolve_placement
from sounding_video.core.dialect import WeightedText, read
from sounding_video.core.types import Captions
from sounding_video.models.conditioning import ConditioningCache
from sounding_video.models.weights.load import load_stable_audio, load_wan
from sounding_video.pipeline import encode_captions, told_of_captions

NEGATIVES = Captions("", "")


@pytest.fixture(scope="module")
def placement():
    return resolve_placement(device="cpu", dtype="float32", offload="none")


@pytest.fixture(scope="module")
def parts(small_models_dir, placement):
    return load_wan(small_models_dir / "wan", placement), load_stable_audio(
        small_models_dir / "stable_audio", placement
    )


@pytest.fixture(params=["video", "audio"])
def encoder(request, parts):
    return parts[request.param == "audio"].text


def test_a_weight_of_one_is_the_plain_caption(encoder):
    assert torch.equal(encoder.encode([read("a (red:1.0) ball").text]), encoder.encode(["a red ball"]))


def test_every_token_moves_away_from_the_empty_text(encoder):
    text = WeightedText((("a red", 1.3), (" ball", 1.0), (" on wood", 0.5)))
    unweighted = WeightedText(tuple((piece, 1.0) for piece, _ in text.parts))
    plain, empty = encoder.encode([unweighted])[0], encoder.encode([""])[0]
    counts = [
        len(encoder.tokenizer(encoder.clean(piece), add_special_tokens=False).input_ids) for piece, _ in text.parts
    ]
    weights = torch.ones(len(plain), 1)
    weights[: counts[0]] = 1.3
    weights[counts[0] + counts[1] : sum(counts)] = 0.5
    expected = (plain - empty) * weights + empty
    got = encoder.encode([text])[0]
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-5)
    assert not torch.allclose(got, plain, atol=1e-3)
    assert torch.equal(got[sum(counts) + 1 :], torch.zeros_like(got[sum(counts) + 1 :])), "padding stays zero"


def test_plain_and_weighted_texts_go_together(encoder):
    weighted = read("a (red:1.4) ball").text
    together = encoder.encode(["rain", weighted])
    torch.testing.assert_close(together[0], encoder.encode(["rain"])[0], rtol=0, atol=0)
    torch.testing.assert_close(together[1], encoder.encode([weighted])[0], rtol=0, atol=0)


def test_a_weighted_text_that_is_too_long_keeps_its_end_token(encoder, caplog):
    text = WeightedText((("thunder " * 400, 1.2),))
    assert encoder.encode([text]).shape == encoder.encode(["rain"]).shape
    assert "are lost" in caplog.text


def encoded(parts, placement, video, audio):
    captions = Captions(video, audio)
    return encode_captions(
        *parts, captions, negatives=NEGATIVES, seconds=1.0, placement=placement, cache=ConditioningCache()
    )


def test_captions_are_encoded_with_their_weights(parts, placement):
    plain = encoded(parts, placement, "a red ball bounces", "a dull thud")
    weighted = encoded(parts, placement, "a (red:1.3) ball bounces", "a (dull:0.7) thud")
    for one, other in ((plain.video, weighted.video), (plain.audio, weighted.audio)):
        assert not torch.equal(one.positive, other.positive)
        assert torch.equal(one.negative, other.negative)


def test_markup_never_reaches_an_encoder_as_text(parts, placement):
    plain = encoded(parts, placement, "a red ball (small)", "a thud")
    marked = encoded(parts, placement, r"<lora:x:1> a [red] ball \(small\)", "a {thud|bang}")
    assert torch.equal(plain.video.positive, encoded(parts, placement, "a red ball (small)", "a thud").video.positive)
    assert torch.equal(marked.video.positive, parts[0].text.encode(["a red ball (small)"]))
    assert torch.equal(marked.audio.positive, plain.audio.positive)


def test_what_was_done_to_captions_is_told():
    told = told_of_captions(Captions("a (red:1.3) ball", "a [thud]"), Captions("(blurred:1.4)", ""))
    assert [note.partition(":")[0] for note in told] == ["video caption", "audio caption", "video negative"]
    assert told_of_captions(Captions("a ball", "a thud"), NEGATIVES) == []
