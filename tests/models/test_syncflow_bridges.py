"""The laws of SyncFlow's bridges (shared/reference/SYNCFLOW.md, section 8, 1 to 7), on random weights."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from sounding_video.core.clock import WAN_STABLE_AUDIO
from sounding_video.core.errors import InputError
from sounding_video.models.attention import AttentionKernel, use_kernel
from sounding_video.models.bridges import BRIDGES, kinds_that_hear
from sounding_video.models.bridges.base import BridgeInputs
from sounding_video.models.bridges.config import BridgeConfig
from sounding_video.models.joint import BridgePoints, BridgeStack, JointModel, placement
from sounding_video.models.native import BridgedForwards
from sounding_video.models.rope import bridge_rope, on_clock
from sounding_video.models.ropes import ROPES
from sounding_video.models.towers.base import TokenGrid

KINDS = ("modality_adaptor", "video_features")
TIMES = WAN_STABLE_AUDIO.times(15)
FRAMES, PLACES = 3, 6
GRIDS = on_clock(TokenGrid(FRAMES, PLACES), TokenGrid(11, num_prefix=1), TIMES)
# C_v, C_a, K, T_a, heads: Wan 1.3B, Wan 14B and the pocket model; parameters of a bridge (reference, 7.4).
WIDTHS = {"1.3B": (1536, 1536, 1536, 1536, 12), "14B": (5120, 1536, 1536, 1536, 12), "pocket": (192, 128, 192, 128, 6)}
COUNTS = {
    "modality_adaptor": {"1.3B": 23_611_392, "14B": 51_147_264, "pocket": 288_832},
    "video_features": {"1.3B": 11_804_160, "14B": 28_322_816, "pocket": 148_352},
}


@pytest.fixture
def timed(bridge_config) -> BridgeConfig:
    return replace(bridge_config, rope="time_aligned")


@pytest.fixture
def made(timed, random_stack, make_bridge_inputs):
    """``made(kind, rope, grids)``: a block with random weights, and inputs for it."""

    def make(kind: str, rope: str = "time_aligned", grids=GRIDS) -> tuple[torch.nn.Module, BridgeInputs]:
        config = replace(timed, rope=rope)
        return random_stack(kind, config)[0], make_bridge_inputs(config, *grids)

    return make


@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("kind", KINDS)
def test_syncflow_law_1_a_new_bridge_is_the_identity_and_the_picture_is_the_same_object(kind, rope, made) -> None:
    trained, given = made(kind, rope)
    new = BRIDGES.get(kind)(trained.config)
    assert new(given)[0] is given.video and torch.equal(new(given)[1], given.audio)
    assert trained(given)[0] is given.video and not torch.equal(trained(given)[1], given.audio)
    assert kind in kinds_that_hear("audio") and kind not in kinds_that_hear("video")


@pytest.mark.parametrize("kind", KINDS)
def test_syncflow_law_2_fresh_bridges_none_and_the_stock_forwards_are_equal(
    kind, timed, wan_tower, audio_tower, inputs
) -> None:
    stack = BridgeStack(kind, timed, BridgePoints((0, 1, 2), (0, 1, 2)))
    results = [JointModel(wan_tower, audio_tower, bridges)(**inputs) for bridges in (stack, None)]
    results.append((wan_tower(inputs["video"]), audio_tower(inputs["audio"])))
    for made in zip(*results, strict=True):
        assert torch.equal(made[0], made[1]) and torch.equal(made[1], made[2])


@pytest.mark.parametrize("kind", KINDS)
def test_syncflow_law_3_the_picture_does_not_depend_on_the_sound(
    kind, timed, wan_tower, audio_tower, inputs, random_stack
) -> None:
    """By gradients of the joint model, for any weights; the other way it does as soon as the output is not zero."""

    def reached(stack: BridgeStack) -> tuple[bool, bool]:
        given = {name: m.latents.clone().requires_grad_(True) for name, m in inputs.items()}
        seen = {name: replace(m, latents=given[name]) for name, m in inputs.items()}
        video, audio = JointModel(wan_tower, audio_tower, stack)(**seen)
        of_video = torch.autograd.grad(video.sum(), given["audio"], allow_unused=True)[0]
        of_audio = torch.autograd.grad(audio.square().sum(), given["video"], allow_unused=True)[0]
        assert of_video is None, "no path at all"
        return of_audio is not None and bool(of_audio.any())

    new = BridgeStack(kind, timed, BridgePoints((0, 1), (0, 1)))
    assert not reached(new)
    torch.nn.init.normal_(new[1].cross.o_proj.weight)
    assert reached(new)
    assert reached(random_stack(kind, timed))


@pytest.mark.parametrize("kind", KINDS)
def test_syncflow_law_4_first_the_output_layer_learns_then_everything(kind, made) -> None:
    """Exactly zero elsewhere, and not None: the trainer's check for starved tensors passes.

    A bias of keys without positions is the same for all of them, and softmax takes it out: along time it never learns.
    """
    trained, given = made(kind)
    bridge = BRIDGES.get(kind)(trained.config)
    optimizer = torch.optim.SGD(bridge.parameters(), lr=0.1)

    def learning() -> set[str]:
        bridge.zero_grad(set_to_none=True)
        (bridge(given)[1] - 1).square().mean().backward()
        assert all(parameter.grad is not None for parameter in bridge.parameters())
        largest = {name: float(parameter.grad.abs().max()) for name, parameter in bridge.named_parameters()}
        assert all(size == 0 or size > 1e-7 for name, size in largest.items() if name != "along_time.k_proj.bias")
        return {name for name, size in largest.items() if size > 1e-7}

    assert learning() == {"cross.o_proj.weight", "cross.o_proj.bias"}
    optimizer.step()
    everything = {name for name, _ in bridge.named_parameters()}
    assert learning() == everything - {"along_time.k_proj.bias"}


def permuted(given: BridgeInputs, order: list[int], axis: int) -> BridgeInputs:
    """The picture's tokens with frames (1) or the places of every frame (2) in another order."""
    frames = given.video.unflatten(1, (FRAMES, PLACES)).index_select(axis, torch.tensor(order))
    return replace(given, video=frames.flatten(1, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_syncflow_law_5_places_have_no_order_and_frames_have(kind, made) -> None:
    """By the time axis; the flat index of ``official`` tells places apart too, as if they came one after the other."""
    for rope in ROPES:
        bridge, given = made(kind, rope)
        bridge.requires_grad_(False)
        sound = bridge(given)[1]
        places = (bridge(permuted(given, [4, 0, 5, 1, 3, 2], 2))[1] - sound).abs().max()
        frames = (bridge(permuted(given, [1, 0, 2], 1))[1] - sound).abs().max()
        assert (float(places) < 1e-6) == (rope != "official")
        assert float(frames) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 4])
@pytest.mark.parametrize("places", [1, 6])
@pytest.mark.parametrize("sounds", [1, 9])
def test_syncflow_law_6_any_size_is_accepted(kind, frames, places, sounds, made) -> None:
    bridge, given = made(kind, grids=(TokenGrid(frames, places), TokenGrid(sounds, num_prefix=1)))
    video, audio = bridge(given)
    assert video is given.video
    assert audio.shape == given.audio.shape and bool(torch.isfinite(audio).all())


@pytest.mark.parametrize("size", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_syncflow_law_6_parameters_are_as_counted(kind, size) -> None:
    video, audio, queries, time, heads = WIDTHS[size]
    config = BRIDGES.get(kind).Config(video, audio, queries, queries, heads, video, time)
    with torch.device("meta"):
        bridge = BRIDGES.get(kind)(config)
        eight = BridgeStack(kind, config, placement("layerwise_8"))
    parts: dict[str, int] = {}
    for name, parameter in bridge.named_parameters():
        part = name.split(".")[0]
        parts[part] = parts.get(part, 0) + parameter.numel()
    assert sum(parts.values()) == COUNTS[kind][size]
    assert sum(p.numel() for p in eight.parameters()) == 8 * COUNTS[kind][size]
    if kind == "modality_adaptor":
        assert parts == {
            "cross": 9_443_328 if size != "pocket" else 99_008,
            "audio_time_token": 2_360_832 if size != "pocket" else 16_512,
            "along_time": {"1.3B": 9_443_328, "14B": 31_467_008, "pocket": 148_224}[size],
            "norm": 2 * video,
            "to_audio": {"1.3B": 2_360_832, "14B": 7_865_856, "pocket": 24_704}[size],
        }


class Plain:
    """The formulas of SYNCFLOW.md, section 6, written out token by token and head by head in float64."""

    def __init__(self, weights: dict[str, torch.Tensor], heads: int, frames: int, places: int) -> None:
        self.w = {name: tensor.double() for name, tensor in weights.items()}
        self.heads, self.frames, self.places = heads, frames, places

    def affine(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    @staticmethod
    def centred(x: torch.Tensor) -> torch.Tensor:
        x = x - x.mean(-1, keepdim=True)
        return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()

    @staticmethod
    def turned(x: torch.Tensor, positions: list[float]) -> torch.Tensor:
        """Pairs of channels of ``(L, D)`` by position · 10000^(−2i/D)."""
        half = x.shape[-1] // 2
        angles = torch.tensor(
            [[place * 10_000 ** (-i / half) for i in range(half)] for place in positions], dtype=torch.float64
        )
        first, second = x[:, 0::2], x[:, 1::2]
        out = torch.empty_like(x)
        out[:, 0::2] = first * angles.cos() - second * angles.sin()
        out[:, 1::2] = first * angles.sin() + second * angles.cos()
        return out

    @staticmethod
    def softmax_of(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        scores = (q @ k.T / math.sqrt(q.shape[-1])).exp()
        return scores / scores.sum(-1, keepdim=True) @ v

    def split(self, x: torch.Tensor, head: int) -> torch.Tensor:
        width = x.shape[-1] // self.heads
        return x[:, head * width : (head + 1) * width]

    def adapted(self, f: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(f)
        for place in range(self.places):
            rows = [frame * self.places + place for frame in range(self.frames)]
            q, k, v = (self.affine(f"along_time.{letter}_proj", f[rows]) for letter in "qkv")
            merged = [self.softmax_of(*(self.split(x, head) for x in (q, k, v))) for head in range(self.heads)]
            out[rows] = f[rows] + self.affine("along_time.o_proj", torch.cat(merged, dim=-1))
        normal = self.centred(out) * self.w["norm.weight"] + self.w["norm.bias"]
        return self.affine("to_audio", normal)

    def heard(self, video: torch.Tensor, audio: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """Of one row: streams ``(L, C)``, the audio's time embedding ``(T,)``; positions evenly along time."""
        f = self.centred(video)
        y = self.adapted(f) if "to_audio.weight" in self.w else f
        source = torch.cat([y, self.affine("audio_time_token", self.centred(time))[None]])
        q = self.affine("cross.q_proj", self.centred(audio))
        k, v = (self.affine(f"cross.{letter}_proj", source) for letter in "kv")
        steps = audio.shape[0] - 1
        seen = [frame * 116 / self.frames for frame in range(self.frames) for _ in range(self.places)]
        sounding = [0.0, *(step * 116 / steps for step in range(steps))]
        merged = []
        for head in range(self.heads):
            keys = torch.cat([self.turned(self.split(k[:-1], head), seen), self.split(k[-1:], head)])
            queries = self.turned(self.split(q, head), sounding)
            merged.append(self.softmax_of(queries, keys, self.split(v, head)))
        return audio + self.affine("cross.o_proj", torch.cat(merged, dim=-1))


@pytest.mark.parametrize("kind", KINDS)
def test_syncflow_law_6_a_second_implementation_agrees(kind, made) -> None:
    bridge, given = made(kind)
    plain = Plain(bridge.state_dict(), bridge.config.num_heads, FRAMES, PLACES)
    mine = bridge(given)[1].double()
    theirs = [
        plain.heard(*row, given.audio_time[0].double())
        for row in zip(given.video.double(), given.audio.double(), strict=True)
    ]
    scale = float((mine - given.audio).abs().max())
    assert scale > 0.5, "the attention does something"
    torch.testing.assert_close(mine, torch.stack(theirs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_syncflow_law_7_only_the_direction_of_the_time_counts(kind, made) -> None:
    bridge, given = made(kind)
    sound = bridge(given)[1]
    for same in (100 * given.audio_time, given.audio_time + 7.0):
        torch.testing.assert_close(bridge(replace(given, audio_time=same))[1], sound, rtol=0, atol=1e-4)
    other = bridge(replace(given, audio_time=-given.audio_time))[1]
    assert float((other - sound).abs().max()) > 1e-2
    assert torch.equal(bridge(replace(given, video_time=5 - given.video_time))[1], sound)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_times_for_each_clip_or_one_for_all(kind, made) -> None:
    bridge, given = made(kind)
    each = replace(given, audio_time=given.audio_time.expand(2, -1).contiguous())
    torch.testing.assert_close(bridge(each)[1], bridge(given)[1], rtol=0, atol=1e-6)
    apart = replace(given, audio_time=torch.cat([given.audio_time, -given.audio_time]))
    torch.testing.assert_close(bridge(apart)[1][0], bridge(given)[1][0], rtol=0, atol=1e-6)
    assert not torch.allclose(bridge(apart)[1][1], bridge(given)[1][1], atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_it_refuses_to_guess_where_frames_begin(kind, made) -> None:
    bridge, given = made(kind)
    with pytest.raises(
        InputError, match=r"need to know where picture tokens lie in time: got .*Bridge without video_gr"
    ):
        bridge(replace(given, video_grid=None))


def test_tokens_of_the_picture_without_a_time_attend_to_nothing(made) -> None:
    """No tower of ours has them; one that comes with some runs, and they do not disturb the others' attention."""
    bridge, given = made("modality_adaptor")
    more = replace(given.video_grid, num_prefix=2)
    features = torch.randn(2, more.num_tokens, bridge.config.video_width)
    read = bridge.read(features, more)
    torch.testing.assert_close(read[:, 2:], bridge.read(features[:, 2:], given.video_grid))
    torch.testing.assert_close(read[:, :2], bridge.to_audio(bridge.norm(features[:, :2])))


@pytest.mark.parametrize("kind", KINDS)
def test_every_attention_takes_the_chosen_kernel(kind, made) -> None:
    bridge, given = made(kind)
    calls = []

    class Counted(AttentionKernel):
        def __call__(self, query, key, value, *, scale=None):
            calls.append(tuple(query.shape[:2]))
            return super().__call__(query, key, value, scale=scale)

    before = bridge(given)[1]
    use_kernel(bridge, Counted("sdpa"))
    torch.testing.assert_close(bridge(given)[1], before)
    along_time = [(2 * PLACES, FRAMES)] if kind == "modality_adaptor" else []
    assert calls == [*along_time, (2, 12)]


@pytest.mark.parametrize("rope", [rope for rope in ROPES if ROPES.get(rope)().moments(2, *GRIDS) is not None])
@pytest.mark.parametrize("kind", KINDS)
def test_new_heads_can_begin_by_looking_at_one_moment(kind, rope) -> None:
    """A third of the sound's weight, where all frames are alike, becomes most of it; and nothing else changes."""
    config = BridgeConfig(24, 32, 96, 96, 3, 24, 32, rope=rope)
    torch.manual_seed(0)
    bridge = BRIDGES.get(kind)(config)
    weights = {}

    def kernel(query, key, value, *, scale=None):
        if query.shape[1] == 49:
            logits = torch.einsum("bqnd,bknd->bnqk", query, key) / query.shape[-1] ** 0.5
            weights["now"] = logits.softmax(-1)[0, :, 1:].mean(0).detach()
        return value.new_zeros(*query.shape[:3], value.shape[-1])

    grids = on_clock(TokenGrid(9, 4), TokenGrid(48, num_prefix=1), TIMES)
    given = BridgeInputs(
        torch.randn(1, 36, 24), torch.randn(1, 49, 32), torch.randn(1, 24), torch.randn(1, 32),
        *bridge_rope(rope, config.head_width, *grids), *grids,
    )  # fmt: skip

    def on_its_frame() -> float:
        bridge(given)
        frames = weights["now"][:, :36].unflatten(1, (9, 4)).sum(-1)
        middles = (torch.tensor([float(edge) for edge in grids[1].edges]).unfold(0, 2, 1)).mean(-1)
        edges = torch.tensor([float(edge) for edge in grids[0].edges])
        right = (torch.bucketize(middles, edges, right=True) - 1).clamp_max(8)
        right = right if ROPES.get(rope).in_seconds else (torch.arange(48) / 48 * 9).long()
        return float(frames[torch.arange(48), right].mean())

    bridge.cross.kernel = kernel
    assert on_its_frame() < 0.3
    # Positions that turn less within a latent frame need a firmer look.
    latent_frame = 2 * float(ROPES.get(rope)().moments(2, *grids).diff())
    bridge.look_at_one_moment(3.0 * max(1.0, 2.5 / latent_frame), *grids)
    assert on_its_frame() > 0.5
    assert torch.equal(bridge(given)[1], given.audio)


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_new_bridge_cannot_begin_with_is_refused(kind, timed) -> None:
    bridge = BRIDGES.get(kind)(timed)
    with pytest.raises(InputError, match=r"gates of this bridge cannot be opened .*bridges.gate_bias=0"):
        bridge.open_gates(1.0)
    with pytest.raises(InputError, match=r"cannot begin by attending to one moment: got .*Bridge with rope official"):
        BRIDGES.get(kind)(replace(timed, rope="official")).look_at_one_moment(3.0, *GRIDS)


def test_placements_pair_every_layer_or_every_third_of_the_sound() -> None:
    every, eight = placement("layerwise"), placement("layerwise_8")
    assert every.audio == tuple(range(24))
    assert every.video == (0, 1, 2, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15, 16, 17, 19, 20, 21, 22, 24, 25, 26, 27, 29)
    assert (eight.audio, eight.video) == ((2, 5, 8, 11, 14, 17, 20, 23), (2, 6, 10, 14, 17, 21, 25, 29))
    assert set(zip(eight.video, eight.audio, strict=True)) < set(zip(every.video, every.audio, strict=True))
    for points in (every, eight):
        points.require_depth(30, 24)


@pytest.mark.parametrize("kind", KINDS)
def test_native_towers_give_the_same_and_their_picture_is_left_alone(
    kind, wan_tower, audio_tower, inputs, random_stack, timed
) -> None:
    """Between two forwards that are not ours; a picture of another type is not rounded to the bridges' and back."""
    stack = random_stack(kind, timed)
    expected = JointModel(wan_tower, audio_tower, stack)(**inputs)

    def forward(tower, points, turned=lambda hidden: hidden):
        def run(stop):
            state, start = tower.enter(inputs[tower.modality]), 0
            for point in points:
                state = tower.walk(state, start, point + 1)
                given = state.with_hidden(turned(state.hidden))
                back = stop(point, given)
                if tower.modality == "video":
                    assert back is given.hidden
                state, start = state.with_hidden(back.to(state.hidden)), point + 1
            return tower.leave(tower.walk(state, start, tower.num_blocks))

        return run

    result = BridgedForwards(stack)(forward(wan_tower, (0, 1)), forward(audio_tower, (0, 1)))
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(result, expected, strict=True))
    half = copy.deepcopy(stack).to(torch.bfloat16)
    picture, _ = BridgedForwards(half)(forward(wan_tower, (0, 1)), forward(audio_tower, (0, 1)))
    assert torch.equal(picture, expected[0])
