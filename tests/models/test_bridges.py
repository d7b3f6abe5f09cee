"""Laws over every registered bridge, and the formulas against a plain second implementation."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from sounding_video.core.errors import IncompatibleWeightsError, InputError
from sounding_video.models.bridges import BRIDGES
from sounding_video.models.bridges.base import BridgeInputs
from sounding_video.models.bridges.config import BridgeConfig
from sounding_video.models.joint import BridgePoints, BridgeStack, JointModel
from sounding_video.models.rope import bridge_rope, flat_rope
from sounding_video.models.towers.base import TokenGrid
from sounding_video.models.towers.stable_audio import StableAudioTower
from sounding_video.models.towers.wan import WanTower
from sounding_video.models.weights.bridges import kinds_with

VIDEO_GRID, AUDIO_GRID = TokenGrid(3, 6), TokenGrid(11, num_prefix=1)
KINDS = BRIDGES.names()
# Kinds that share all names of the published attention bridges.
PUBLISHED = kinds_with(
    [
        *(
            f"attn.{letter}_proj_{stream}.{part}"
            for letter in "qkvo"
            for stream in (1, 2)
            for part in ("weight", "bias")
        ),
        *(f"mlp_{stream}.fc{n}.{part}" for stream in (1, 2) for n in (1, 2) for part in ("weight", "bias")),
        *(f"adaln_modulation_{stream}.1.{part}" for stream in (1, 2) for part in ("weight", "bias")),
    ]
)


@pytest.fixture
def bridge_inputs(make_bridge_inputs, bridge_config: BridgeConfig) -> BridgeInputs:
    return make_bridge_inputs(bridge_config, VIDEO_GRID, AUDIO_GRID)


@pytest.mark.parametrize("reading", ["official", "paper"])
@pytest.mark.parametrize("kind", KINDS)
def test_shapes_and_identity_at_start(kind, reading, config_of, bridge_inputs) -> None:
    bridge = BRIDGES.get(kind)(config_of(kind, reading=reading))
    video, audio = bridge(bridge_inputs)
    assert video.shape == bridge_inputs.video.shape
    assert audio.shape == bridge_inputs.audio.shape
    same = torch.equal(video, bridge_inputs.video) and torch.equal(audio, bridge_inputs.audio)
    assert same == bridge.identity_at_start, f"{kind}.identity_at_start says {bridge.identity_at_start}"


@pytest.mark.parametrize("kind", PUBLISHED)
def test_attention_bridges_share_the_published_names_and_sizes(kind) -> None:
    with torch.device("meta"):
        bridge = BRIDGES.get(kind)(BridgeConfig())
        large = BRIDGES.get(kind)(BridgeConfig(video_width=5120, video_time_width=5120))
    shapes = {name: tuple(p.shape) for name, p in bridge.named_parameters()}
    expected = {}
    for stream in (1, 2):
        for letter in "qkvo":
            expected[f"attn.{letter}_proj_{stream}.weight"] = (1536, 1536)
            expected[f"attn.{letter}_proj_{stream}.bias"] = (1536,)
        expected |= {
            f"mlp_{stream}.fc1.weight": (6144, 1536),
            f"mlp_{stream}.fc1.bias": (6144,),
            f"mlp_{stream}.fc2.weight": (1536, 6144),
            f"mlp_{stream}.fc2.bias": (1536,),
            f"adaln_modulation_{stream}.1.weight": (9216, 1536),
            f"adaln_modulation_{stream}.1.bias": (9216,),
        }
    assert shapes == expected
    assert sum(p.numel() for p in bridge.parameters()) == 84_980_736
    assert sum(p.numel() for p in large.parameters()) == 441_015_296
    assert not dict(bridge.named_buffers())


def published_14b() -> dict[str, tuple[int, ...]]:
    """Names and shapes of one 14B bridge (BridgeDiT reference, section 1.3)."""
    video, audio = 5120, 1536
    shapes: dict[str, tuple[int, ...]] = {}
    for stream, width in ((1, video), (2, audio)):
        for letter in "qkv":
            shapes[f"attn.{letter}_proj_{stream}.weight"] = (1536, width)
            shapes[f"attn.{letter}_proj_{stream}.bias"] = (1536,)
        shapes[f"attn.o_proj_{stream}.weight"] = (width, 1536)
        shapes[f"attn.o_proj_{stream}.bias"] = (width,)
    shapes |= {
        "mlp_1.fc1.weight": (20480, 5120), "mlp_1.fc1.bias": (20480,),
        "mlp_1.fc2.weight": (5120, 20480), "mlp_1.fc2.bias": (5120,),
        "mlp_2.fc1.weight": (6144, 1536), "mlp_2.fc1.bias": (6144,),
        "mlp_2.fc2.weight": (1536, 6144), "mlp_2.fc2.bias": (1536,),
        "adaln_modulation_1.1.weight": (30720, 5120), "adaln_modulation_1.1.bias": (30720,),
        "adaln_modulation_2.1.weight": (9216, 1536), "adaln_modulation_2.1.bias": (9216,),
    }  # fmt: skip
    return shapes


LARGE = BridgeConfig(video_width=5120, video_time_width=5120)


@pytest.mark.parametrize("kind", PUBLISHED)
def test_14b_bridges_have_the_published_names_and_shapes(kind) -> None:
    with torch.device("meta"):
        bridge = BRIDGES.get(kind)(LARGE)
    shapes = {name: tuple(tensor.shape) for name, tensor in bridge.state_dict().items()}
    assert len(shapes) == 28
    assert shapes == published_14b()


@pytest.mark.parametrize(("heads", "fits"), [(12, False), (40, True)])
def test_14b_bridges_on_the_towers_of_both_sizes(heads, fits) -> None:
    """Stock towers of the published sizes; a 1.3B Wan has 12 heads of 128."""
    from diffusers import StableAudioDiTModel, WanTransformer3DModel

    layers, width = (40, 13824) if fits else (30, 8960)
    with torch.device("meta"):
        video = WanTower(WanTransformer3DModel(num_attention_heads=heads, num_layers=layers, ffn_dim=width))
        audio = StableAudioTower(StableAudioDiTModel())
        stack = BridgeStack("dual_cross", LARGE, BridgePoints((7, 11, 15), (5, 8, 11)))
    if fits:
        assert len(JointModel(video, audio, stack).bridges) == 3
    else:
        with pytest.raises(
            IncompatibleWeightsError, match=r"video_width 5120 \(tower: 1536\), video_time_width 5120 \(tower: 1536\)"
        ):
            JointModel(video, audio, stack)


def test_the_additive_bridge_has_the_published_size() -> None:
    with torch.device("meta"):
        bridge = BRIDGES.get("additive")(BridgeConfig())
    assert sum(p.numel() for p in bridge.parameters()) == 61_372_416
    assert tuple(bridge.adaln_modulation_1[1].weight.shape) == (6144, 1536)


def plain_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, scale: float) -> torch.Tensor:
    """Softmax attention written out per head, in float64."""
    parts = [x.double().unflatten(-1, (heads, -1)) for x in (q, k, v)]
    weights = torch.einsum("bqhd,bkhd->bhqk", parts[0], parts[1]).mul(scale).softmax(-1)
    return torch.einsum("bhqk,bkhd->bqhd", weights, parts[2]).flatten(2)


def plain_rotate(x: torch.Tensor, heads: int) -> torch.Tensor:
    """Complex rotation of interleaved pairs by position·10000^(−2i/d), in float64."""
    pairs = torch.view_as_complex(x.double().unflatten(-1, (heads, -1, 2)).contiguous())
    half = pairs.shape[-1]
    frequency = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * frequency
    turned = pairs * torch.polar(torch.ones_like(angle), angle)[:, None]
    return torch.view_as_real(turned).flatten(2)


def plain_stream(bridge, x, attended, time, s) -> torch.Tensor:
    """Gate, residual, MLP of stream s, from the formulas of the reference."""
    m = getattr(bridge, f"adaln_modulation_{s}")[1](F.silu(time)).double().chunk(6, dim=1)
    x = x.double() + m[2][:, None] * attended
    mlp = getattr(bridge, f"mlp_{s}")
    h = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + m[4][:, None]) + m[3][:, None]
    h = F.gelu(h @ mlp.fc1.weight.double().T + mlp.fc1.bias.double(), approximate="tanh")
    return x + m[5][:, None] * (h @ mlp.fc2.weight.double().T + mlp.fc2.bias.double())


def modulated(bridge, x, time, s) -> torch.Tensor:
    m = getattr(bridge, f"adaln_modulation_{s}")[1](F.silu(time)).double().chunk(6, dim=1)
    return F.layer_norm(x.double(), x.shape[-1:], eps=1e-6) * (1 + m[1][:, None]) + m[0][:, None]


def linear(bridge, letter, s, x) -> torch.Tensor:
    layer = getattr(bridge.attn, f"{letter}_proj_{s}")
    return x @ layer.weight.double().T + layer.bias.double()


def test_dual_cross_attention_is_eq_5_and_6_both_ways(random_stack, bridge_config, bridge_inputs) -> None:
    bridge = random_stack("dual_cross")[0]
    heads, x = bridge_config.num_heads, bridge_inputs
    h = {1: modulated(bridge, x.video, x.video_time, 1), 2: modulated(bridge, x.audio, x.audio_time, 2)}
    expected = []
    for mine, other, stream, time in ((1, 2, x.video, x.video_time), (2, 1, x.audio, x.audio_time)):
        q = plain_rotate(linear(bridge, "q", mine, h[mine]), heads)
        k = plain_rotate(linear(bridge, "k", other, h[other]), heads)
        a = plain_attention(q, k, linear(bridge, "v", other, h[other]), heads, 1 / math.sqrt(bridge_config.head_width))
        expected.append(plain_stream(bridge, stream, linear(bridge, "o", mine, a), time, mine))
    for ours, wanted in zip(bridge(x), expected, strict=True):
        torch.testing.assert_close(ours.double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("reading", "power"), [("official", 1.0), ("paper", 0.5)])
def test_full_attention_scale_follows_the_reading(random_stack, bridge_config, bridge_inputs, reading, power) -> None:
    bridge = random_stack("full", replace(bridge_config, reading=reading))[0]
    heads, x = bridge_config.num_heads, bridge_inputs
    h = {1: modulated(bridge, x.video, x.video_time, 1), 2: modulated(bridge, x.audio, x.audio_time, 2)}
    q, k = (torch.cat([plain_rotate(linear(bridge, c, s, h[s]), heads) for s in (1, 2)], dim=1) for c in "qk")
    v = torch.cat([linear(bridge, "v", s, h[s]) for s in (1, 2)], dim=1)
    a = plain_attention(q, k, v, heads, bridge_config.head_width**-power).split(
        [x.video.shape[1], x.audio.shape[1]], dim=1
    )
    expected = (
        plain_stream(bridge, x.video, linear(bridge, "o", 1, a[0]), x.video_time, 1),
        plain_stream(bridge, x.audio, linear(bridge, "o", 2, a[1]), x.audio_time, 2),
    )
    for ours, wanted in zip(bridge(x), expected, strict=True):
        torch.testing.assert_close(ours.double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "listener"), [("video_to_audio", 1), ("audio_to_video", 0)])
def test_one_way_bridges_carry_information_one_way_only(
    random_stack, bridge_config, bridge_inputs, kind, listener
) -> None:
    speaker = 1 - listener
    louder = replace(
        bridge_inputs, **{("video", "audio")[speaker]: -getattr(bridge_inputs, ("video", "audio")[speaker])}
    )
    changed = replace(
        bridge_inputs, **{("video", "audio")[listener]: -getattr(bridge_inputs, ("video", "audio")[listener])}
    )
    for reading in ("official", "paper"):
        bridge = random_stack(kind, replace(bridge_config, reading=reading))[0]
        base = bridge(bridge_inputs)
        assert not torch.equal(bridge(louder)[listener], base[listener]), "the listener must hear the speaker"
        assert torch.equal(bridge(changed)[speaker], base[speaker]), "the speaker must not hear the listener"
        untouched = torch.equal(base[speaker], (bridge_inputs.video, bridge_inputs.audio)[speaker])
        assert untouched == (reading == "paper")


def test_one_way_official_listener_equals_half_of_dual_cross(random_stack, bridge_inputs) -> None:
    both, one = random_stack("dual_cross")[0], random_stack("video_to_audio")[0]
    one.load_state_dict(both.state_dict())
    torch.testing.assert_close(one(bridge_inputs)[1], both(bridge_inputs)[1])


def test_additive_paper_reading_meets_in_time(random_stack, bridge_config, bridge_inputs) -> None:
    """A sound that changes only in its first third changes only the first of three latent frames."""
    bridge = random_stack("additive", replace(bridge_config, reading="paper"))[0]
    audio = bridge_inputs.audio.clone()
    audio[:, 1:4] += 1.0 * torch.randn(2, 3, audio.shape[-1], generator=torch.Generator().manual_seed(9))
    base, changed = bridge(bridge_inputs)[0], bridge(replace(bridge_inputs, audio=audio))[0]
    moved = (changed - base).abs().amax(dim=(0, 2)).unflatten(0, (3, 6)).amax(dim=1)
    assert moved[0] > 1e-3
    assert moved[2] == 0
    with pytest.raises(InputError, match="where tokens lie in time"):
        bridge(replace(bridge_inputs, video_grid=None))


def test_time_aligned_rope_gives_one_moment_one_position() -> None:
    (video, _), (audio, _) = bridge_rope("time_aligned", 8, TokenGrid(2, 3), TokenGrid(4, num_prefix=1))
    assert torch.equal(video[0], video[2])  # tokens of one latent frame
    assert torch.equal(video[3], audio[1 + 2])  # latent frame 1 of 2 starts with audio latent 2 of 4
    assert not torch.equal(video[0], video[3])


def test_flat_rope_is_computed_in_float32() -> None:
    """At high positions a float64 table differs; the published checkpoints were trained with float32 ones."""
    cos, _ = flat_rope(128, 32_760)
    frequency = 1.0 / 10_000 ** (torch.arange(0, 128, 2, dtype=torch.float64) / 128)
    exact = torch.outer(torch.arange(32_760, dtype=torch.float64), frequency).cos()
    assert float((cos[:, ::2].double() - exact).abs().max()) > 1e-4
    assert float((cos[:1000, ::2].double() - exact[:1000]).abs().max()) < 1e-4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 0}, "num_heads is not usable: got 0"),
        ({"num_heads": 5}, "do not divide into its heads"),
        ({"reading": "mine"}, "unknown bridge reading: got 'mine'; expected one of official, paper"),
        ({"rope": "3d"}, "unknown bridge rope: got '3d'"),
        ({"video_width": -1}, "video_width is not usable"),
    ],
)
def test_bad_configurations_are_refused_with_a_sentence(bridge_config, change, message) -> None:
    with pytest.raises(InputError, match=message):
        replace(bridge_config, **change)


def test_unknown_configuration_keys_are_named() -> None:
    with pytest.raises(InputError, match="unknown keys in a bridge configuration: got depth"):
        BridgeConfig.from_dict({"depth": 3})


def test_four_published_kinds_share_all_names() -> None:
    assert {"dual_cross", "full", "video_to_audio", "audio_to_video"} <= set(PUBLISHED)
    assert kinds_with(["video_to_audio_proj.weight", "mlp_1.fc1.weight"]) == ["additive"]


def test_unknown_kind_lists_the_choices() -> None:
    with pytest.raises(
        InputError, match="unknown bridge kind: got 'bicros'; expected one of additive, audio_to_video, dual_cross"
    ):
        BRIDGES.get("bicros")
