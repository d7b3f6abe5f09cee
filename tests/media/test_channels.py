"""More than two channels: what each gives to left and right, and that it is told."""

from __future__ import annotations

import pytest
import torch
from sounding_video.core.errors import InputError
from sounding_video.media.channels import mix_down

HALF = 0.5**0.5
BOTH, LEFT, RIGHT, NONE = (HALF, HALF), (HALF, 0), (0, HALF), (0, 0)
FRONT = [(1, 0), (0, 1)]
BY_NUMBER = {
    3: [*FRONT, BOTH],
    4: [*FRONT, LEFT, RIGHT],
    5: [*FRONT, BOTH, LEFT, RIGHT],
    6: [*FRONT, BOTH, NONE, LEFT, RIGHT],
    7: [*FRONT, BOTH, NONE, (0.5, 0.5), LEFT, RIGHT],
    8: [*FRONT, BOTH, NONE, LEFT, RIGHT, LEFT, RIGHT],
    9: [*FRONT, LEFT, RIGHT, LEFT, RIGHT, LEFT, RIGHT, LEFT],
    12: [*FRONT, BOTH, NONE, LEFT, RIGHT, LEFT, RIGHT, LEFT, RIGHT, LEFT, RIGHT],
}
NAMED = {
    "FL FR FC LFE BC": [*FRONT, BOTH, NONE, (0.5, 0.5)],
    "FL FR BC": [*FRONT, (0.5, 0.5)],
    "FL FR FC LFE BL BR FLC FRC": [*FRONT, BOTH, NONE, LEFT, RIGHT, (1, 0), (0, 1)],
    "FC LFE FL FR": [BOTH, NONE, *FRONT],
    "AMBI0 AMBI1 AMBI2 AMBI3": [(0.5, 0.5), (0.5, -0.5), NONE, NONE],
    "FL FR TFL TFR TC LFE2": [*FRONT, LEFT, RIGHT, (0.5, 0.5), NONE],
    "NONE NONE NONE": BY_NUMBER[3],
}


@pytest.mark.parametrize(
    ("count", "channels", "weights"),
    [(count, "", weights) for count, weights in BY_NUMBER.items()]
    + [(len(names.split()), names, weights) for names, weights in NAMED.items()],
)
def test_each_channel_gives_what_the_recommendation_says(count, channels, weights):
    alone = torch.eye(count)  # channel i sounds at sample i only
    clip, note = mix_down(alone, 48_000, channels.split())
    assert torch.allclose(clip.waveform, torch.tensor(weights, dtype=torch.float32).T, atol=1e-7)
    assert (f"has {count} channels" in note, "sub-bass" in note) == (True, NONE in weights and "AMBI" not in channels)


@pytest.mark.parametrize("count", [1, 2])
def test_mono_and_stereo_stay_as_they_are(count):
    waveform = torch.randn(count, 100)
    clip, note = mix_down(waveform, 8000, ["FC", "LFE"][:count])
    assert clip.waveform is waveform and note == ""


def test_no_channel_is_refused():
    with pytest.raises(InputError, match="the sound has no channel"):
        mix_down(torch.zeros(0, 100), 8000)
