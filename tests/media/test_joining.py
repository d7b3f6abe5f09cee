"""Windows become one clip: shared parts once, no click where one goes over into the next."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from sounding_video.core.clock import Timeline, num_latents_of, windows
from sounding_video.core.errors import InputError
from sounding_video.core.types import AudioClip, VideoClip
from sounding_video.media.joining import join_latents, join_pictures, join_sound, known_end

TIMELINE = Timeline(33, Fraction(15), 64, 64)
HOP, RATE = TIMELINE.geometry.audio_hop, TIMELINE.geometry.sample_rate


def test_latents_of_windows_are_those_of_the_whole() -> None:
    plan = windows(TIMELINE, 9, 0.5)
    assert len(plan) > 3
    length = TIMELINE.audio_latent_shape[1]
    whole = torch.randn(2, 3, num_latents_of(TIMELINE, plan))
    parts = [whole[..., window.first_latent : window.first_latent + length] for window in plan]
    assert torch.equal(join_latents(parts, plan), whole)
    for before, part, window in zip(parts, parts[1:], plan[1:], strict=False):
        assert torch.equal(known_end(before, window), part[..., : window.known_latents])


def test_pictures_of_windows_are_those_of_the_whole() -> None:
    plan = windows(TIMELINE, 9, 0.5)
    whole = torch.rand(plan[-1].first_frame + 33, 2, 2, 3)
    parts = [VideoClip(whole[window.first_frame : window.first_frame + 33], TIMELINE.fps) for window in plan]
    assert torch.equal(join_pictures(parts, plan).frames, whole)


@pytest.mark.parametrize("crossfade", [0.0, 0.02, 5.0])
def test_a_tone_goes_on_through_the_seams(crossfade: float) -> None:
    """Each window is disturbed at its ends, as a decoder's are; the joined tone has no jump that the tone has not."""
    plan = windows(TIMELINE, 9, 0.5)
    samples = num_latents_of(TIMELINE, plan) * HOP
    tone = 0.5 * torch.sin(2 * torch.pi * 220 * torch.arange(samples) / RATE).expand(2, -1)
    parts = []
    for window in plan:
        first = window.first_latent * HOP
        part = tone[:, first : first + TIMELINE.audio_latent_shape[1] * HOP].clone()
        if window is not plan[0]:
            part[:, :HOP] = -part[:, :HOP]
        if window is not plan[-1]:
            part[:, -HOP:] = 0
        parts.append(AudioClip(part, RATE))
    joined = join_sound(parts, plan, crossfade_seconds=crossfade).waveform
    assert joined.shape == tone.shape
    jumps, own = joined.diff(dim=1).abs(), tone.diff(dim=1).abs()
    # A short change stays clear of the disturbed ends; the longest takes them in, faded.
    assert float(jumps.max()) <= (1.01 if crossfade < 1 else 1.2) * float(own.max())
    if crossfade < 1:
        torch.testing.assert_close(joined, tone.contiguous(), atol=1e-6, rtol=0)


def test_one_window_is_left_as_it_is_and_other_numbers_are_refused() -> None:
    plan = windows(TIMELINE, 2)
    sound = AudioClip(torch.rand(1, TIMELINE.audio_latent_shape[1] * HOP), RATE)
    assert torch.equal(join_sound([sound], plan).waveform, sound.waveform)
    with pytest.raises(InputError, match="not those of the plan"):
        join_sound([sound, sound], plan)
    with pytest.raises(InputError, match="not those of the plan"):
        join_latents([], [])
