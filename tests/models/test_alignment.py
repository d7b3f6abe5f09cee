"""SAVA's masks, folding and sizes: laws 1, 2 and 9 of its reference, and its counts of parameters."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from sounding_video.core.clock import LatentGeometry, Timeline
from sounding_video.core.errors import InputError
from sounding_video.core.pair import MODALITIES, Pair
from sounding_video.models.alignment.folding import (
    fold_audio,
    fold_video,
    middles,
    moments,
    sound_spans,
    unfold_audio,
    unfold_video,
)
from sounding_video.models.alignment.masks import MASKS
from sounding_video.models.alignment.selective import Alignment, AlignmentConfig, Selection

WAN = AlignmentConfig(video_text_width=4096, audio_text_width=768)
POCKET = AlignmentConfig(width=64, hidden=128, grid=4, video_text_width=128, audio_text_width=128)
GEOMETRY = LatentGeometry()


def count(*modules) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        (WAN, (787_456, 459_776, 1_574_912, 459_648, 787_968, 4_069_760, 443_904, 2_367_488, 4_058_624)),
        (POCKET, (41_152, 57_536, 49_536, 57_856, 41_344, 247_424, 16_640, 16_640, 131_968)),
    ],
    ids=["wan", "pocket"],
)
def test_parameters_are_as_counted_in_the_reference(config: AlignmentConfig, wanted: tuple[int, ...]) -> None:
    with torch.device("meta"):
        alignment = Alignment(config)
        selection = Selection(alignment)
    masks = count(selection.video_mask, selection.audio_mask)
    tokens = [count(alignment.reader_for(side)) - config.text_widths[side] for side in ("audio", "video")]  # no nulls
    decoders = (selection.audio_decoder, selection.video_decoder)
    first = count(alignment.video, alignment.audio) + masks + count(*decoders)
    kept = count(alignment.video, alignment.audio) + sum(tokens)
    counted = (count(alignment.video), count(alignment.audio), masks, *map(count, decoders), first, *tokens, kept)
    assert counted == wanted


def fresh(mask: str, mask_input: str = "both") -> Selection:
    torch.manual_seed(0)
    return Selection(Alignment(AlignmentConfig(width=8, hidden=6, grid=2)), mask=mask, mask_input=mask_input)


def shared(batch: int = 3) -> Pair[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return Pair(*(torch.randn(batch, 5, 8, generator=generator) for _ in MODALITIES))


@pytest.mark.parametrize("mask_input", ["own", "both"])
@pytest.mark.parametrize("side", MODALITIES)
def test_law_1_a_fresh_module_keeps_everything(side: str, mask_input: str) -> None:
    adapted = shared()
    for name, training in (("hard", True), ("hard", False), ("bernoulli", False)):
        selection = fresh(name, mask_input).train(training)
        mask = selection.mask(selection.probabilities(side, adapted))
        assert torch.equal(mask * adapted[side], adapted[side])
    selection = fresh("soft", mask_input)
    mask = selection.mask(selection.probabilities(side, adapted))
    torch.testing.assert_close(mask * adapted[side], torch.sigmoid(torch.tensor(2.0)) * adapted[side])
    drawn = fresh("bernoulli", mask_input)
    assert float(drawn.mask(drawn.probabilities(side, adapted)).detach().mean()) == pytest.approx(0.88, abs=0.1)


@pytest.mark.parametrize("kind", MASKS.names())
def test_masks_without_an_input_are_ones_for_every_kind(kind: str) -> None:
    selection, adapted = fresh(kind, "none"), shared()
    assert not hasattr(selection, "video_mask")
    assert torch.equal(selection.mask(selection.probabilities("video", adapted)), torch.ones(3, 5, 8))


@pytest.mark.parametrize("kind", ["hard", "bernoulli"])
def test_law_2_masks_are_zeros_and_ones_and_pass_the_gradient_of_p(kind: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(4, 6, 50, dtype=torch.float64, requires_grad=True)
    mask = MASKS.get(kind)().drawn(torch.sigmoid(logits))
    assert set(mask.detach().unique().tolist()) == {0.0, 1.0}
    upstream = torch.randn(mask.shape, dtype=torch.float64)
    (upstream * mask).sum().backward()
    p = torch.sigmoid(logits.detach())
    assert torch.equal(logits.grad, upstream * (1 - p) * p)
    assert bool((logits.grad[mask == 0] != 0).all()), "also where it is closed"
    single = MASKS.get(kind)().drawn(torch.sigmoid(logits.float()))
    assert set(single.detach().unique().tolist()) == {0.0, 1.0}, "to the bit also in single precision"


def test_bernoulli_is_drawn_from_the_generator_of_the_step() -> None:
    p = torch.full((64,), 0.5)
    draw = MASKS.get("bernoulli")().drawn
    torch.manual_seed(3)
    first, second = draw(p), draw(p)
    torch.manual_seed(3)
    assert torch.equal(draw(p), first) and not torch.equal(first, second)


def test_soft_latents_are_read_at_one_length() -> None:
    """Else the decoder undoes the scale, and every weight shrinks without end."""
    kind, latents = MASKS.get("soft")(), torch.randn(2, 3, 8)
    torch.testing.assert_close(kind.shown(0.2 * latents), kind.shown(0.9 * latents), rtol=1e-4, atol=1e-4)
    assert torch.equal(kind.shown(torch.zeros(2, 8)), torch.zeros(2, 8))


SHAPES = [(9, 8, 8, 47, 1), (9, 8, 8, 47, 4), (9, 5, 7, 47, 9), (21, 30, 52, 116, 1), (1, 4, 4, 1, 1),
          (4, 3, 2, 2, 3), (7, 4, 4, 3, 1), (5, 4, 4, 26, 100)]  # fmt: skip


@pytest.mark.parametrize(("frames", "height", "width", "length", "segment"), SHAPES)
def test_law_9_any_shape_folds_and_constants_stay_constants(frames, height, width, length, segment) -> None:
    video, audio = torch.full((2, 3, frames, height, width), 1.5), torch.full((2, 5, length), -0.25)
    sizes = {"num_frames": frames, "positions": 6, "segment": segment, "geometry": GEOMETRY}
    number = -(-frames // segment)
    made = fold_video(video, grid=4, segment=segment), fold_audio(audio, **sizes)
    assert [tuple(each.shape) for each in made] == [(2, number, 48), (2, number, 30)]
    for each, constant in zip(made, (1.5, -0.25), strict=True):
        torch.testing.assert_close(each, torch.full_like(each, constant))
    assert middles(frames, segment, GEOMETRY).shape == (number,)


@pytest.mark.parametrize(("frames", "length", "segment"), [(9, 47, 1), (9, 47, 4), (21, 116, 1), (13, 70, 3)])
def test_law_9_a_change_inside_a_moment_moves_its_vector_only(frames: int, length: int, segment: int) -> None:
    generator = torch.Generator().manual_seed(0)
    video = torch.randn(1, 3, frames, 6, 6, generator=generator)
    audio = torch.randn(1, 5, length, generator=generator)
    sizes = {"num_frames": frames, "positions": 6, "segment": segment, "geometry": GEOMETRY}
    folded = fold_video(video, grid=4, segment=segment), fold_audio(audio, **sizes)
    spans = sound_spans(frames, length, segment, GEOMETRY)
    assert [a for a, _ in spans[1:]] == [b for _, b in spans[:-1]] and (spans[0][0], spans[-1][1]) == (0, length)
    for number, (start, behind) in enumerate(moments(frames, segment)):
        changed = video.clone()
        changed[:, :, behind - 1] += 1
        moved = (fold_video(changed, grid=4, segment=segment) != folded[0]).flatten(2).any(2)[0]
        assert moved.nonzero().flatten().tolist() == [number] and start < behind
        changed = audio.clone()
        changed[..., spans[number][1] - 1] += 1
        moved = (fold_audio(changed, **sizes) != folded[1]).flatten(2).any(2)[0]
        assert moved.nonzero().flatten().tolist() == [number]


@pytest.mark.parametrize(("frames", "height", "width", "length", "segment"), SHAPES)
def test_law_9_what_is_constant_in_each_moment_comes_back(frames, height, width, length, segment) -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = {"num_frames": frames, "positions": 6, "segment": segment, "geometry": GEOMETRY}
    number = -(-frames // segment)
    of_moment = torch.randn(2, 3, number, generator=generator).repeat_interleave(segment, 2)[:, :, :frames]
    video = of_moment[..., None, None].expand(-1, -1, -1, height, width)
    back = unfold_video(
        fold_video(video, grid=4, segment=segment), grid=4, segment=segment, shape=(frames, height, width)
    )
    torch.testing.assert_close(back, video)
    spans = sound_spans(frames, length, segment, GEOMETRY)
    if length < number:  # one latent serves several moments
        return
    audio = torch.cat([torch.randn(2, 5, 1, generator=generator).expand(-1, -1, b - a) for a, b in spans], 2)
    torch.testing.assert_close(unfold_audio(fold_audio(audio, **sizes), num_latents=length, **sizes), audio)


def test_moments_lie_where_the_frames_are() -> None:
    """Wan's first latent is one frame: the sound of the second latent is not that of a ninth of the clip."""
    timeline = Timeline(33, 15, 64, 64)
    edges = [float(edge / timeline.seconds) for edge in timeline.times.video.edges(9)]
    wanted = [(a + b) / 2 for a, b in pairwise(edges)]
    assert middles(9, 1, GEOMETRY).tolist() == pytest.approx(wanted)
    spans = sound_spans(9, 47, 1, GEOMETRY)
    for (start, behind), a, b in zip(spans, edges[:-1], edges[1:], strict=True):
        assert abs(start - 47 * a) <= 0.5 and abs(behind - 47 * b) <= 0.5 + (start == 0)
    even = middles(9, 1, LatentGeometry(temporal_stride=1)).tolist()
    assert even == pytest.approx([(n + 0.5) / 9 for n in range(9)])


def test_a_sound_alone_is_as_long_as_in_training() -> None:
    pocket = AlignmentConfig()
    for frames in (17, 33, 49, 81):
        timeline = Timeline(frames, 15, 64, 64)
        assert pocket.frames_of(timeline.audio_latent_shape[1]) == timeline.video_latent_shape[1]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"width": 0}, "width of an alignment is out of range: got 0; expected 1 to 65536"),
        ({"grid": -1}, "grid of an alignment is out of range"),
        ({"segment": 1 << 20}, "segment of an alignment is out of range"),
        ({"hidden": 2.5}, "hidden of an alignment is no whole number: got 2.5"),
        ({"positions": True}, "positions of an alignment is no whole number: got True"),
        ({"sound_rate": float("nan")}, "sound_rate of an alignment is out of range"),
        ({"audio_text_width": "128"}, "audio_text_width of an alignment is no whole number"),
    ],
)
def test_sizes_that_cannot_be_are_refused(change: dict, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        AlignmentConfig(**change)
    assert sentence in str(error.value)


def test_latents_of_another_codec_are_refused() -> None:
    alignment = Alignment(AlignmentConfig(width=8, hidden=6, grid=2))
    with pytest.raises(InputError, match="pictures of another codec: got 48 channels; expected 16"):
        alignment.fold("video", torch.zeros(1, 48, 2, 4, 4))
    with pytest.raises(InputError, match="sounds of another codec: got 8 channels; expected 64"):
        alignment.fold("audio", torch.zeros(1, 8, 5))


def test_words_that_are_no_mask_are_refused() -> None:
    with pytest.raises(InputError, match="unknown mask: got 'gumbel'; expected one of bernoulli, hard, soft"):
        fresh("gumbel")
    with pytest.raises(InputError, match="unknown mask input: got 'all'; expected one of none, own, both"):
        fresh("soft", "all")
