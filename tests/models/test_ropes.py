"""Laws of positions, over every registered kind, and what ``clock`` promises."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from sounding_video.core.clock import WAN_STABLE_AUDIO, ClipTimes, LatentGeometry, StepTimes, Timeline
from sounding_video.core.errors import InputError
from sounding_video.models.rope import bridge_rope, flat_rope, on_clock, rotary_frequencies
from sounding_video.models.ropes import ROPES
from sounding_video.models.ropes.clock import clock_positions
from sounding_video.models.ropes.token_clock import token_clock_positions
from sounding_video.models.towers.base import TokenGrid

VIDEO, AUDIO = TokenGrid(9, 4), TokenGrid(47, num_prefix=1)
TIMES = Timeline(33, 15, 64, 64).times
CLIPS = [Timeline(33, 15, 64, 64), Timeline(), Timeline(1, 24, 16, 16), Timeline(81, Fraction(30000, 1001), 832, 480)]


def grids_of(timeline: Timeline, tokens_per_step: int = 3) -> tuple[TokenGrid, TokenGrid]:
    num_video, num_audio = timeline.video_latent_shape[1], timeline.audio_latent_shape[1]
    grids = TokenGrid(num_video, tokens_per_step), TokenGrid(num_audio, num_prefix=1)
    return on_clock(*grids, timeline.times)


@pytest.mark.parametrize("width", [8, 32])
@pytest.mark.parametrize("kind", ROPES)
def test_every_kind_has_a_row_of_turns_for_every_token(kind, width) -> None:
    for grids in ((VIDEO, AUDIO), (TokenGrid(1), TokenGrid(1)), (TokenGrid(2, 1, 2), TokenGrid(5, 2, 3))):
        for grid, (cos, sin) in zip(grids, bridge_rope(kind, width, *grids), strict=True):
            assert cos.shape == sin.shape == (grid.num_tokens, width)
            assert cos.dtype == sin.dtype == torch.float32
            torch.testing.assert_close(cos**2 + sin**2, torch.ones_like(cos))
            assert torch.equal(cos[:, ::2], cos[:, 1::2]) and torch.equal(sin[:, ::2], sin[:, 1::2])


@pytest.mark.parametrize("kind", ROPES)
def test_a_window_of_a_longer_clip_is_as_any_clip(kind) -> None:
    here = bridge_rope(kind, 32, *on_clock(VIDEO, AUDIO, TIMES))
    later = bridge_rope(kind, 32, *on_clock(VIDEO, AUDIO, TIMES.shifted(Fraction(1234567, 44_100))))
    assert all(torch.equal(a, b) for one, two in zip(here, later, strict=True) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("kind", ROPES)
def test_patches_of_one_frame_have_one_position_where_heads_can_look_at_a_moment(kind) -> None:
    grids = on_clock(VIDEO, AUDIO, TIMES)
    if ROPES.get(kind)().moments(3, *grids) is not None:
        (cos, _), _ = bridge_rope(kind, 32, *grids)
        assert all(torch.equal(frame, frame[:1].expand_as(frame)) for frame in cos.unflatten(0, (9, 4)))


@pytest.mark.parametrize("timeline", CLIPS, ids=lambda clip: f"{clip.num_frames}@{clip.fps.numerator}")
@pytest.mark.parametrize("width", [32, 128])
def test_the_audio_table_of_the_clock_is_the_official_one(width, timeline) -> None:
    video, audio = grids_of(timeline)
    assert torch.equal(clock_positions(audio, audio), torch.arange(audio.num_tokens, dtype=torch.float32))
    table = bridge_rope("clock", width, video, audio)[1]
    for mine, official in zip(table, bridge_rope("official", width, video, audio)[1], strict=True):
        assert torch.equal(mine, official)


@pytest.mark.parametrize("timeline", CLIPS, ids=lambda clip: f"{clip.num_frames}@{clip.fps.numerator}")
def test_video_tokens_of_the_clock_stand_at_their_seconds_times_the_audio_latents_a_second(timeline) -> None:
    """Both towers' positions, less the shift that both have."""
    video, audio = grids_of(timeline)
    rate = Fraction(44_100, 2048)
    for grid in (video, audio):
        positions = clock_positions(grid, audio)[grid.num_prefix :] - 0.5
        wanted = [
            float((begin + end) / 2 * rate) for begin, end in pairwise(grid.edges) for _ in range(grid.tokens_per_step)
        ]
        torch.testing.assert_close(positions, torch.tensor(wanted), rtol=1e-6, atol=1e-5)
    assert float(clock_positions(video, audio)[0]) == pytest.approx(float(rate / timeline.fps / 2) + 0.5)


def test_the_clock_turns_a_query_and_a_key_of_one_moment_alike() -> None:
    """The angle between a video and an audio token depends on the seconds between their middles alone."""
    video, audio = on_clock(TokenGrid(9), AUDIO, TIMES)
    (cos_v, sin_v), (cos_a, sin_a) = bridge_rope("clock", 32, video, audio)
    middles = [[float((begin + end) / 2) for begin, end in pairwise(grid.edges)] for grid in (video, audio)]
    turn = torch.atan2(
        sin_v[:, None] * cos_a[1:] - cos_v[:, None] * sin_a[1:], cos_v[:, None] * cos_a[1:] + sin_v[:, None] * sin_a[1:]
    )
    apart = (torch.tensor(middles[0])[:, None] - torch.tensor(middles[1])) * 44_100 / 2048
    wanted = apart[..., None] * rotary_frequencies(32).repeat_interleave(2)
    off = torch.remainder(turn - wanted + torch.pi, 2 * torch.pi) - torch.pi
    assert float(off.abs().max()) < 1e-4


@pytest.mark.parametrize(("frames", "counts"), [(33, (9, 47)), (81, (21, 116))])
def test_positions_from_counts_are_within_12_ms(frames, counts) -> None:
    bare = TokenGrid(counts[0]), TokenGrid(counts[1], num_prefix=1)
    guessed, exact = (on_clock(*bare, times) for times in (None, Timeline(frames, 15, 64, 64).times))
    apart = clock_positions(*guessed) - clock_positions(*exact)
    assert 0 < float(apart.abs().max()) * 2048 / 44_100 < 0.012


def test_times_that_are_known_are_kept_and_given_ones_win() -> None:
    known = on_clock(VIDEO, AUDIO, TIMES)
    assert on_clock(*known) == known
    other = LatentGeometry(audio_hop=1024).times(24)
    assert [grid.times for grid in on_clock(*known, other)] == [other.video, other.audio]
    assert on_clock(VIDEO, AUDIO)[0].times == WAN_STABLE_AUDIO.times_from_counts(9, 47).video
    with pytest.raises(InputError, match="it is not known when these tokens sound or show"):
        _ = VIDEO.edges


def test_a_tower_that_joins_latents_along_time_keeps_their_seconds() -> None:
    """Two latent frames a token: its seconds are theirs; the sound in tokens of four latents is the unit of four."""
    pairs = replace(VIDEO, num_steps=5, latents_per_step=2)
    video, audio = on_clock(pairs, TokenGrid(12, latents_per_step=4), TIMES)
    assert [edge * 15 for edge in video.edges] == [0, 5, 13, 21, 29, 37]
    assert torch.equal(clock_positions(audio, audio), torch.arange(12, dtype=torch.float32))
    middle = (Fraction(5, 15) + Fraction(13, 15)) / 2
    assert float(clock_positions(video, audio)[4]) == pytest.approx(float(middle * 44_100 / 8192) - 0.5)


def test_a_sound_that_begins_later_moves_the_picture_ahead() -> None:
    """A window whose first audio latent begins 10 ms after its first frame."""
    late = ClipTimes(TIMES.video, TIMES.audio.shifted(Fraction(1, 100)))
    together, apart = (clock_positions(*on_clock(VIDEO, AUDIO, times)) for times in (TIMES, late))
    torch.testing.assert_close(together - apart, torch.full_like(apart, 441 / 2048), rtol=1e-4, atol=1e-5)


def test_an_uneven_first_step_of_the_sound_counts_too() -> None:
    steps = StepTimes(Fraction(1, 20), first=Fraction(1, 40))
    _, audio = on_clock(VIDEO, TokenGrid(3), ClipTimes(TIMES.video, steps))
    assert clock_positions(audio, audio).tolist() == [-0.25, 0.5, 1.5]


def test_the_old_kinds_keep_their_numbers() -> None:
    """Bit for bit, with and without times: written out as they were when the bundled bridges were trained."""
    for grids in ((VIDEO, AUDIO), on_clock(VIDEO, AUDIO, TIMES)):
        official, aligned = (bridge_rope(kind, 32, *grids) for kind in ("official", "time_aligned"))
        for grid, flat, table in zip(grids, official, aligned, strict=True):
            published = get_1d_rotary_pos_embed(32, grid.num_tokens, use_real=True, repeat_interleave_real=True)
            steps = torch.arange(grid.num_steps, dtype=torch.float32) * (116.0 / grid.num_steps)
            positions = torch.cat([torch.zeros(grid.num_prefix), steps.repeat_interleave(grid.tokens_per_step)])
            frequencies = 1.0 / 10_000.0 ** (torch.arange(0, 32, 2, dtype=torch.float32) / 32)
            angles = torch.outer(positions, frequencies).repeat_interleave(2, dim=1)
            for mine, wanted in zip((*flat, *table), (*published, angles.cos(), angles.sin()), strict=True):
                assert torch.equal(mine, wanted)
    assert all(torch.equal(a, b) for a, b in zip(flat_rope(32, 7), flat_rope(32, torch.arange(7)), strict=True))


# What AVLINK 1.6 says of the pocket's and the published clip, from counts alone.
AVLINK_CLIPS = [(33, (9, 47)), (81, (21, 116))]


@pytest.mark.parametrize(("frames", "counts"), AVLINK_CLIPS)
def test_avlink_law_3_token_clock_from_counts_is_the_formula(frames, counts) -> None:
    """In float64: the middles of latent frames, and audio latents spread over them; tables within 1e-5."""
    num_video, num_audio = counts
    video, audio = TokenGrid(num_video, 3), TokenGrid(num_audio, num_prefix=1)
    grids = on_clock(video, audio)
    at = [0.0, *((n + 0.5) * (num_video - 0.75) / (num_audio + 0.5) for n in range(num_audio))]
    frames_at = [place for k in range(num_video) for place in 3 * [0.125 if k == 0 else k - 0.25]]
    assert at[-1] < num_video
    for grid, wanted, table in zip(grids, (frames_at, at), bridge_rope("token_clock", 32, video, audio), strict=True):
        assert token_clock_positions(grid, *grids).tolist() == pytest.approx(wanted, abs=1e-12)
        for column in range(32):
            frequency = 10_000.0 ** (-(column // 2) / 16)
            for half, turn in zip(table, (math.cos, math.sin), strict=True):
                assert half[:, column].tolist() == pytest.approx([turn(p * frequency) for p in wanted], abs=1e-5)


@pytest.mark.parametrize(("frames", "counts"), AVLINK_CLIPS)
def test_avlink_law_3_token_clock_from_counts_is_within_12_ms_of_the_seconds(frames, counts) -> None:
    bare = TokenGrid(counts[0]), TokenGrid(counts[1], num_prefix=1)
    guessed, exact = (on_clock(*bare, times) for times in (None, Timeline(frames, 15, 64, 64).times))
    for grid, true in zip(guessed, exact, strict=True):
        apart = token_clock_positions(grid, *guessed) - token_clock_positions(true, *exact)
        assert float(apart.abs().max()) * 4 / 15 < 0.012
        seconds = [0.0] * true.num_prefix + [float((begin + end) / 2) for begin, end in pairwise(true.edges)]
        assert token_clock_positions(true, *exact).tolist() == pytest.approx([s * 15 / 4 for s in seconds], abs=1e-12)


def test_avlink_law_3_token_clock_gives_one_moment_one_angle() -> None:
    """Tokens of one frame share a row, audio rows stand between the frames', a token without a time does not turn."""
    video, audio = on_clock(VIDEO, AUDIO, TIMES)
    (cos_v, sin_v), (cos_a, sin_a) = bridge_rope("token_clock", 32, video, audio)
    assert all(torch.equal(frame, frame[:1].expand_as(frame)) for frame in cos_v.unflatten(0, (9, 4)))
    assert torch.equal(cos_a[0], torch.ones(32)) and torch.equal(sin_a[0], torch.zeros(32))
    # A sound whose latents last as long as frames do stands where the frames stand.
    steps = StepTimes(TIMES.video.step, first=TIMES.video.first)
    pair = on_clock(TokenGrid(9), TokenGrid(9, num_prefix=1), ClipTimes(TIMES.video, steps))
    (cos_v, sin_v), (cos_a, sin_a) = bridge_rope("token_clock", 32, *pair)
    assert torch.equal(cos_a[1:], cos_v) and torch.equal(sin_a[1:], sin_v)


def test_avlink_law_3_token_clock_twice_as_many_latents_stand_half_as_far_apart() -> None:
    spacings = []
    for num in (47, 94, 188):
        grids = on_clock(TokenGrid(9), TokenGrid(num, num_prefix=1))
        apart = token_clock_positions(grids[1], *grids)[1:].diff()
        torch.testing.assert_close(apart, apart[:1].expand_as(apart))
        spacings.append(float(apart[0]) * (num + 0.5))
    assert spacings == pytest.approx([8.25] * 3), "all of them fill the nine frames, of which the first is a quarter"


def test_token_clock_is_the_clock_in_latent_frames() -> None:
    """But for the shift that both towers have there, and for tokens without a time."""
    grids = on_clock(VIDEO, AUDIO, TIMES)
    for grid in grids:
        ticks = (clock_positions(grid, grids[1])[grid.num_prefix :].double() - 0.5) * 2048 / 44_100
        mine = token_clock_positions(grid, *grids)[grid.num_prefix :] * 4 / 15
        torch.testing.assert_close(mine, ticks, rtol=1e-6, atol=1e-6)


def test_token_clock_counts_in_the_tokens_of_a_tower_that_joins_frames() -> None:
    pairs = replace(VIDEO, num_steps=5, tokens_per_step=1, latents_per_step=2)
    video, audio = on_clock(pairs, AUDIO, TIMES)
    wanted = [begin / 2 + end / 2 for begin, end in pairwise([0, 5, 13, 21, 29, 37])]
    assert token_clock_positions(video, video, audio).tolist() == pytest.approx([frame / 8 for frame in wanted])


def test_an_unknown_kind_lists_the_choices() -> None:
    with pytest.raises(InputError, match="unknown bridge rope: got 'time'; expected one of clock, official"):
        bridge_rope("time", 32, VIDEO, AUDIO)
