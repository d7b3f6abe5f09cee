"""New bridges that begin with open gates and one moment in mind are still the identity, and really look there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sounding_video.core.errors import InputError
from sounding_video.models.bridge_start import look_at_one_moment, open_gates
from sounding_video.models.bridges import BRIDGES
from sounding_video.models.bridges.base import BridgeConfig, BridgeInputs
from sounding_video.models.towers.base import TokenGrid

VIDEO_GRID, AUDIO_GRID = TokenGrid(9, 4), TokenGrid(48, num_prefix=1)
CONFIG = BridgeConfig(
    video_width=48,
    audio_width=32,
    qk_width=192,
    v_width=192,
    num_heads=6,
    video_time_width=48,
    audio_time_width=32,
    rope="time_aligned",
)
ATTENTION_KINDS = [name for name in BRIDGES.names() if name != "additive"]


@pytest.fixture
def given(make_bridge_inputs) -> BridgeInputs:
    return make_bridge_inputs(CONFIG, VIDEO_GRID, AUDIO_GRID, batch=1)


@pytest.mark.parametrize("kind", ATTENTION_KINDS)
def test_the_identity_stays_the_identity(kind, given) -> None:
    bridge = BRIDGES.get(kind)(CONFIG)
    open_gates(bridge, 1.0)
    look_at_one_moment(bridge, 3.0, VIDEO_GRID.num_steps)
    video, audio = bridge(given)
    assert torch.equal(video, given.video) and torch.equal(audio, given.audio)


def test_open_gates_are_about_one_and_nothing_else_moves(given) -> None:
    bridge = BRIDGES.get("dual_cross")(CONFIG)
    before = bridge.adaln_modulation_1(given.video_time).chunk(6, dim=1)
    open_gates(bridge, 1.0)
    after = bridge.adaln_modulation_1(given.video_time).chunk(6, dim=1)
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        torch.testing.assert_close(new - old, torch.full_like(old, float(index in (2, 5))))


def test_heads_look_at_what_happens_at_the_same_time(given) -> None:
    """Attention weights of every audio token over video frames, and of every frame over the sound, by its own table."""
    torch.manual_seed(0)
    bridge = BRIDGES.get("dual_cross")(CONFIG)
    weights = {}

    def kernel(query, key, value, *, scale=None):
        logits = torch.einsum("bqnd,bknd->bnqk", query, key) / query.shape[-1] ** 0.5
        weights[query.shape[1]] = logits.softmax(-1)[0].detach()
        return value.new_zeros(*query.shape[:3], value.shape[-1])

    bridge.attn.kernel = kernel

    def hits() -> tuple[float, float]:
        bridge(given)
        from_video = weights[AUDIO_GRID.num_tokens][:, 1:].unflatten(-1, (9, 4)).sum(-1)
        from_audio = weights[VIDEO_GRID.num_tokens][..., 1:].unflatten(1, (9, 4)).mean(2)
        moments = (torch.arange(48) / 48 * 9).long()
        seen = torch.stack([from_video[:, i, moments[i]] for i in range(48)])
        heard = torch.stack([from_audio[:, j][:, moments == j].sum(-1) for j in range(9)])
        return float(seen.mean()), float(heard.mean())

    anywhere = hits()
    assert max(anywhere) < 0.3
    look_at_one_moment(bridge, 3.0, VIDEO_GRID.num_steps)
    assert min(hits()) > 0.6


@pytest.mark.parametrize(
    ("kind", "rope", "start"),
    [
        ("additive", "time_aligned", lambda bridge: open_gates(bridge, 1.0)),
        ("additive", "time_aligned", lambda bridge: look_at_one_moment(bridge, 3.0, 9)),
        ("dual_cross", "official", lambda bridge: look_at_one_moment(bridge, 3.0, 9)),
    ],
)
def test_what_cannot_be_done_is_refused(kind, rope, start) -> None:
    with pytest.raises(InputError, match=r"AdditiveBridge|rope official"):
        start(BRIDGES.get(kind)(replace(CONFIG, rope=rope)))
