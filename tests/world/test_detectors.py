"""The detectors against the world's exact events."""

from __future__ import annotations

import pytest
import torch
from sounding_video.core.clock import Timeline
from sounding_video.world.detectors import (
    correlation,
    count_matches,
    event_f1,
    picture_activity,
    picture_events,
    sound_activity,
    sound_events,
)
from sounding_video.world.scenes import SCENES
from sounding_video.world.synth import activity, make_clip

TIMELINE = Timeline(num_frames=33, fps=15, width=64, height=64)
TWO_FRAMES = 2 / 15


@pytest.mark.parametrize("scene", [name for name in SCENES if not SCENES.get(name).continuous])
def test_events_are_found_in_picture_and_sound(scene):
    seen, heard = [], []
    for seed in range(100, 106):
        made = make_clip(scene, seed, timeline=TIMELINE, split="test")
        seen.append(event_f1(picture_events(made.clip.video.frames, 15), made.events, TWO_FRAMES))
        heard.append(event_f1(sound_events(made.clip.audio.waveform, 44_100), made.events, TWO_FRAMES))
    assert sum(seen) / len(seen) >= 0.95
    assert sum(heard) / len(heard) >= 0.95


@pytest.mark.parametrize("scene", [name for name in SCENES if SCENES.get(name).continuous])
def test_activity_is_found_in_picture_and_sound(scene):
    for seed in range(100, 104):
        made = make_clip(scene, seed, timeline=TIMELINE, split="test")
        level = activity(made.parameters, 33)
        assert correlation(level, picture_activity(made.clip.video.frames)) > 0.85
        assert correlation(level, sound_activity(made.clip.audio.waveform, 33)) > 0.95
        assert picture_events(made.clip.video.frames, 15, scene) == ()
        assert sound_events(made.clip.audio.waveform, 44_100, scene) == ()


def test_detectors_work_at_other_rates():
    timeline = Timeline(num_frames=49, fps=24, width=96, height=64)
    made = make_clip("drum", 4, timeline=timeline)
    assert event_f1(picture_events(made.clip.video.frames, 24), made.events, 1 / 24) == 1
    every_other = made.clip.audio.waveform.reshape(2, -1, 2).mean(dim=2)
    assert event_f1(sound_events(every_other, 22_050), made.events, 0.03) == 1


def test_one_sound_on_another_picture_does_not_match():
    """The measure tells a clip's own sound from a stranger's."""
    clips = [make_clip("anvil", seed, timeline=TIMELINE) for seed in range(12)]
    seen = [picture_events(made.clip.video.frames, 15) for made in clips]
    heard = [sound_events(made.clip.audio.waveform, 44_100) for made in clips]
    own = sum(event_f1(a, b, TWO_FRAMES) for a, b in zip(heard, seen, strict=True)) / 12
    strange = sum(event_f1(a, b, TWO_FRAMES) for a, b in zip(heard[1:] + heard[:1], seen, strict=True)) / 12
    assert own > 0.95
    assert strange < 0.6


def test_nothing_is_found_where_nothing_happens():
    assert picture_events(torch.full((17, 64, 64, 3), 0.4), 15) == ()
    assert picture_events(torch.rand(2, 64, 64, 3), 15) == ()
    noise = 0.02 * torch.rand(17, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    assert picture_events(0.4 + noise, 15) == ()
    assert sound_events(torch.zeros(2, 44_100), 44_100) == ()
    assert sound_events(torch.zeros(1, 0), 44_100) == ()


def test_a_click_and_a_flash_are_found_where_they_are():
    waveform = torch.zeros(1, 44_100)
    waveform[:, 22_050:22_150] = 0.5
    assert sound_events(waveform, 44_100) == pytest.approx((0.5,), abs=0.012)
    frames = torch.full((21, 32, 48, 3), 0.2)
    frames[9:, :8, :8] = 0.9
    assert picture_events(frames, 15) == pytest.approx((9 / 15,))


@pytest.mark.parametrize(
    ("found", "truth", "matches", "f1"),
    [
        ([], [], 0, 1.0),
        ([1.0], [], 0, 0.0),
        ([], [1.0], 0, 0.0),
        ([1.0, 1.05], [1.0], 1, 2 / 3),
        ([1.1, 0.9], [1.0, 1.2], 2, 1.0),  # 0.9 for 1.0, 1.1 for 1.2: nearest first would lose one
        ([0.5], [0.61], 0, 0.0),
    ],
)
def test_matching(found, truth, matches, f1):
    assert count_matches(found, truth, 0.1) == matches
    assert event_f1(found, truth, 0.1) == pytest.approx(f1)


def test_correlation():
    assert correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1)
    assert correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert correlation([1, 1, 1], [3, 2, 1]) == 0
