"""New bridges that begin with open gates and one moment in mind are still the identity, and really look there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sounding_video.core.clock import Timeline
from sounding_video.core.errors import InputError
from sounding_video.models.bridges import BRIDGES
from sounding_video.models.bridges.base import BridgeInputs
from sounding_video.models.bridges.config import BridgeConfig
from sounding_video.models.rope import on_clock
from sounding_video.models.ropes import ROPES
from sounding_video.models.towers.base import TokenGrid

TIMES = Timeline(33, 15, 64, 64).times
VIDEO_GRID, AUDIO_GRID = on_clock(TokenGrid(9, 4), TokenGrid(48, num_prefix=1), TIMES)
GRIDS = (VIDEO_GRID, AUDIO_GRID)
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
COMMON_TIME = [name for name in ROPES if ROPES.get(name)().moments(2, *GRIDS) is not None]


def can_start(kind: str) -> bool:
    """Whether new bridges of a kind can begin with open gates and one moment in mind."""
    try:
        bridge = BRIDGES.get(kind)(replace(BRIDGES.get(kind).Config(), **vars(CONFIG)))
        bridge.open_gates(1.0)
        bridge.look_at_one_moment(3.0, *GRIDS)
    except InputError:
        return False
    return True


@pytest.fixture
def given(make_bridge_inputs) -> BridgeInputs:
    return make_bridge_inputs(CONFIG, VIDEO_GRID, AUDIO_GRID, batch=1)


@pytest.mark.parametrize("rope", COMMON_TIME)
@pytest.mark.parametrize("kind", BRIDGES)
def test_the_identity_stays_the_identity(kind, rope, make_bridge_inputs) -> None:
    if not can_start(kind):
        assert not issubclass(BRIDGES.get(kind), BRIDGES.get("dual_cross").__base__), "attention kinds all can"
        return
    config = replace(BRIDGES.get(kind).Config(), **{**vars(CONFIG), "rope": rope})
    given = make_bridge_inputs(config, *GRIDS, batch=1)
    bridge = BRIDGES.get(kind)(config)
    bridge.open_gates(1.0)
    bridge.look_at_one_moment(3.0, *GRIDS)
    video, audio = bridge(given)
    assert torch.equal(video, given.video) and torch.equal(audio, given.audio)


def test_open_gates_are_about_one_and_nothing_else_moves(given) -> None:
    bridge = BRIDGES.get("dual_cross")(CONFIG)
    before = bridge.adaln_modulation_1(given.video_time).chunk(6, dim=1)
    bridge.open_gates(1.0)
    after = bridge.adaln_modulation_1(given.video_time).chunk(6, dim=1)
    for index, (old, new) in enumerate(zip(before, after, strict=True)):
        torch.testing.assert_close(new - old, torch.full_like(old, float(index in (2, 5))))


@pytest.mark.parametrize("rope", COMMON_TIME)
@pytest.mark.parametrize("kind", [kind for kind in BRIDGES if can_start(kind)])
def test_heads_look_at_what_happens_at_the_same_time(kind, rope, make_bridge_inputs) -> None:
    """Attention weights of audio tokens over video frames, and of frames over the sound, whoever hears whom."""
    torch.manual_seed(0)
    config = replace(BRIDGES.get(kind).Config(), **{**vars(CONFIG), "rope": rope, "reading": "paper"})
    given = make_bridge_inputs(config, *GRIDS, batch=1)
    bridge = BRIDGES.get(kind)(config)
    weights = {}

    def kernel(query, key, value, *, scale=None):
        logits = torch.einsum("bqnd,bknd->bnqk", query, key)[0].detach() / query.shape[-1] ** 0.5
        for side, rows in parts(query.shape[1]).items():
            for other, columns in parts(key.shape[1]).items():
                weights[side, other] = logits[:, rows, columns].softmax(-1)
        return value.new_zeros(*query.shape[:3], value.shape[-1])

    bridge.attn.kernel = kernel
    moments = moments_of(rope)

    def hits() -> list[float]:
        bridge(given)
        shares = []
        if ("audio", "video") in weights:
            seen = weights["audio", "video"][:, 1:].unflatten(-1, (9, 4)).sum(-1)
            shares.append(torch.stack([seen[:, i, moments[i]] for i in range(48)]).mean())
        if ("video", "audio") in weights:
            heard = weights["video", "audio"][..., 1:].unflatten(1, (9, 4)).mean(2)
            shares.append(torch.stack([heard[:, j][:, moments == j].sum(-1) for j in range(1, 9)]).mean())
        return [float(share) for share in shares]

    anywhere = hits()
    assert len(anywhere) == len(bridge.listeners) and max(anywhere) < 0.3
    bridge.look_at_one_moment(firmness(rope), *GRIDS)
    assert min(hits()) > 0.6


def parts(num: int) -> dict[str, slice]:
    """Which of so many tokens are whose."""
    video, audio = (grid.num_tokens for grid in GRIDS)
    return {
        video: {"video": slice(video)},
        audio: {"audio": slice(audio)},
        video + audio: {"video": slice(video), "audio": slice(video, None)},
    }[num]


def firmness(rope: str) -> float:
    """The less positions turn within a latent frame, the firmer heads have to look: 3 where it is several positions."""
    latent_frame = 2 * float(ROPES.get(rope)().moments(2, *GRIDS).diff())
    return 3.0 * max(1.0, 2.5 / latent_frame)


def moments_of(rope: str) -> torch.Tensor:
    """The latent frame that shows what each audio latent sounds, ``(48,)``: evenly, or by the seconds of its middle."""
    if not ROPES.get(rope).in_seconds:
        return (torch.arange(48) / 48 * 9).long()
    edges = torch.tensor([float(edge) for edge in VIDEO_GRID.edges], dtype=torch.float64)
    middles = torch.tensor([float(edge) for edge in AUDIO_GRID.edges], dtype=torch.float64)[:-1] + 1024 / 44_100
    return (torch.bucketize(middles, edges, right=True) - 1).clamp_max(8)


@pytest.mark.parametrize("rope", COMMON_TIME)
def test_parts_of_a_latent_frame_lie_within_it(rope) -> None:
    """Six parts of a frame, seen from its tokens' position, on the axis of the table: in order and all inside."""
    places = ROPES.get(rope)().moments(6, *GRIDS)
    whole = ROPES.get(rope)().moments(1, *GRIDS)
    assert torch.allclose(places.mean(), whole[0], atol=1e-5) and (places.diff() > 0).all()
    one_more = ROPES.get(rope)().moments(7, *GRIDS)
    assert one_more[-1] - one_more[0] > places[-1] - places[0]


@pytest.mark.parametrize(
    ("kind", "rope", "start"),
    [
        ("additive", "time_aligned", lambda bridge: bridge.open_gates(1.0)),
        ("additive", "clock", lambda bridge: bridge.look_at_one_moment(3.0, *GRIDS)),
        *(("dual_cross", rope, lambda bridge: bridge.look_at_one_moment(3.0, *GRIDS)) for rope in ROPES
          if rope not in COMMON_TIME),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused(kind, rope, start) -> None:
    with pytest.raises(InputError, match=r"AdditiveBridge|rope official"):
        start(BRIDGES.get(kind)(replace(CONFIG, rope=rope)))
