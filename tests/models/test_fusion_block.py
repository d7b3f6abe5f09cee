"""AV-Link's laws of the Fusion Block (AVLINK 6.1 to 6.5), its formula a second time, its sizes, its files."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sounding_video.core.clock import WAN_STABLE_AUDIO
from sounding_video.core.errors import IncompatibleWeightsError, InputError
from sounding_video.models.bridges import BRIDGES
from sounding_video.models.bridges.base import Bridge, BridgeInputs
from sounding_video.models.joint import BridgePoints, BridgeStack
from sounding_video.models.rope import bridge_rope, on_clock
from sounding_video.models.towers.base import TokenGrid
from sounding_video.models.weights.bridges import BridgeOptions, kinds_with, load_bridges, save_bridges

KIND = "fusion_block"
GRIDS = on_clock(TokenGrid(3, 6), TokenGrid(11, num_prefix=1), WAN_STABLE_AUDIO.times(15))
STARTS = {"gate zero": lambda bridge: None, "fc2 zero": lambda bridge: bridge.open_gates(1.0)}
POINTS = BridgePoints((0, 1), (0, 1))


@pytest.fixture
def config(config_of):
    """Common width 24 of two heads, values of 16, MLP of 20."""
    return replace(config_of(KIND, "token_clock"), time_rank=10, mlp_width=20)


@pytest.fixture
def given(make_bridge_inputs, config) -> BridgeInputs:
    return make_bridge_inputs(config, *GRIDS)


def new_block(config) -> Bridge:
    torch.manual_seed(5)
    return BRIDGES.get(KIND)(config)


@pytest.mark.parametrize("start", STARTS)
def test_avlink_law_1_a_new_block_is_the_identity_bit_for_bit(start, config, given) -> None:
    block = new_block(config)
    STARTS[start](block)
    video, audio = block(given)
    assert torch.equal(video, given.video) and torch.equal(audio, given.audio)
    gates = [getattr(block, f"adaln_modulation_{stream}").bias.chunk(3)[2] for stream in (1, 2)]
    last = [getattr(block, f"mlp_{stream}").fc2 for stream in (1, 2)]
    assert all(bool((gate == 0).all()) == (start == "gate zero") for gate in gates)
    assert all(bool((layer.weight == 0).all() and (layer.bias == 0).all()) == (start == "fc2 zero") for layer in last)


@pytest.mark.parametrize("start", [*STARTS, "both zero"])
def test_avlink_law_1_one_step_moves_a_block_unless_both_are_zero(start, config, given) -> None:
    """A gate and a last layer that are zero together take each other's gradient: the block would never learn."""
    block = new_block(config)
    if start == "both zero":
        block.open_gates(1.0)
        for stream in (1, 2):
            torch.nn.init.zeros_(getattr(block, f"adaln_modulation_{stream}").bias)
    else:
        STARTS[start](block)
    before = {name: value.clone() for name, value in block.state_dict().items()}
    step(block, given)
    assert any(not torch.equal(value, before[name]) for name, value in block.state_dict().items()) == (
        start != "both zero"
    )


def step(block: Bridge, given: BridgeInputs, lr: float = 0.1) -> None:
    """One of plain gradient descent towards random streams."""
    g = torch.Generator().manual_seed(8)
    loss = sum((new - torch.randn(new.shape, generator=g)).square().mean() for new in block(given))
    loss.backward()
    torch.optim.SGD(block.parameters(), lr).step()
    block.zero_grad()


def test_gates_that_are_not_opened_stay_as_they_are(config) -> None:
    block = new_block(config)
    before = {name: value.clone() for name, value in block.state_dict().items()}
    block.open_gates(0.0)
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())


def swapped(block: Bridge) -> Bridge:
    """The block with its two parameter sets, and the two halves of what times are read by, exchanged."""
    config = block.config
    sides = {f"{a}_{what}": getattr(config, f"{b}_{what}") for what in ("width", "time_width")
             for a, b in (("video", "audio"), ("audio", "video"))}  # fmt: skip
    other = BRIDGES.get(KIND)(replace(config, **sides)).double()
    state = {name.replace("_1.", "_#.").replace("_2.", "_1.").replace("_#.", "_2."): value
             for name, value in block.state_dict().items()}  # fmt: skip
    first, second = block.time_in.weight.split([config.video_time_width, config.audio_time_width], dim=1)
    other.load_state_dict({**state, "time_in.weight": torch.cat([second, first], dim=1)})
    return other


def in_double(given: BridgeInputs) -> BridgeInputs:
    return replace(
        given, **{name: value.double() for name, value in vars(given).items() if isinstance(value, torch.Tensor)}
    )


def test_avlink_law_2_exchanging_the_sides_exchanges_the_outputs(config, given, random_stack) -> None:
    block, given = random_stack(KIND, config)[0].double(), in_double(given)
    sides = ("", "_time", "_rope", "_grid")
    turned = {f"{a}{what}": getattr(given, f"{b}{what}") for what in sides
              for a, b in (("video", "audio"), ("audio", "video"))}  # fmt: skip
    video, audio = block(given)
    audio_again, video_again = swapped(block)(BridgeInputs(**turned))
    torch.testing.assert_close(video_again, video)
    torch.testing.assert_close(audio_again, audio)


@pytest.mark.parametrize("other", ["video", "audio"])
def test_avlink_law_2_each_stream_is_modulated_by_the_time_of_the_other(other, config, given) -> None:
    """After one step; a new block is the identity at any time."""
    block = new_block(config)
    later = replace(given, **{f"{other}_time": getattr(given, f"{other}_time") + 1})
    assert torch.equal(block(later)[0], block(given)[0])
    step(block, given)
    seen = []
    for inputs in (given, later):
        hook = block.adaln_modulation_1 if other == "audio" else block.adaln_modulation_2
        handle = hook.register_forward_hook(lambda *args: seen.append(args[2]))
        block(inputs)
        handle.remove()
    assert not torch.equal(*seen)


def captured(block: Bridge, given: BridgeInputs) -> list[tuple[torch.Tensor, ...]]:
    """Queries, keys and values of every attention."""
    kernel, calls = block.attn.kernel, []

    def watch(query, key, value, *, scale=None):
        calls.append((query.detach(), key.detach(), value.detach()))
        return kernel(query, key, value, scale=scale)

    block.attn.kernel = watch
    block(given)
    block.attn.kernel = kernel
    return calls


def unturned(given: BridgeInputs) -> BridgeInputs:
    """The same where no token turns."""
    still = {name: tuple(torch.ones_like(cos) if table is cos else torch.zeros_like(table) for table in (cos, sin))
             for name in ("video_rope", "audio_rope") for cos, sin in (getattr(given, name),)}  # fmt: skip
    return replace(given, **still)


def test_avlink_law_4_queries_and_keys_are_normed_and_then_turned_and_values_are_not(
    config, given, random_stack
) -> None:
    block = random_stack(KIND, config)[0]
    turned, still = captured(block, given), captured(block, unturned(given))
    for (q, k, v), (q0, k0, v0) in zip(turned, still, strict=True):
        for after, before in ((q, q0), (k, k0)):
            torch.testing.assert_close(after.norm(dim=-1), before.norm(dim=-1))
            assert not torch.allclose(after, before)
        assert torch.equal(v, v0)
    scales = [block.attn.q_norm_1.weight, block.attn.q_norm_2.weight]
    for (_, _, _), (q0, _, _), scale in zip(turned, still, scales, strict=True):
        root_mean_square = (q0 / scale).square().mean(-1).sqrt()
        torch.testing.assert_close(root_mean_square, torch.ones_like(root_mean_square), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("even", [True, False])
def test_avlink_law_4_the_other_order_differs_as_soon_as_a_scale_is_not_1(even, config, given) -> None:
    """Turned first and normed then: the same with equal scales, as turning keeps the length of a head."""
    block = new_block(config)
    if not even:
        with torch.no_grad():
            block.attn.q_norm_1.weight[0] = 2.0
    query = captured(block, given)[0][0]
    scale = block.attn.q_norm_1.weight
    raw = captured(block, unturned(given))[0][0] / scale
    other = turn(raw, *given.video_rope) * scale
    assert torch.allclose(other.detach(), query, atol=1e-5) == even


def turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.complex(cos, sin)[:, None, ::2]).flatten(-2)


def test_avlink_law_3_all_positions_moved_by_a_constant_leave_the_attention_as_it_is(
    config, given, random_stack
) -> None:
    block = random_stack(KIND, config)[0]
    frequencies = 10_000.0 ** (-torch.arange(config.head_width // 2) / (config.head_width // 2))
    cos, sin = ((37.5 * frequencies).cos().repeat_interleave(2), (37.5 * frequencies).sin().repeat_interleave(2))
    moved = {name: (c * cos - s * sin, s * cos + c * sin)
             for name in ("video_rope", "audio_rope") for c, s in (getattr(given, name),)}  # fmt: skip
    for here, there in zip(block(given), block(replace(given, **moved)), strict=True):
        torch.testing.assert_close(here, there, rtol=1e-5, atol=1e-5)


# A second implementation, in NumPy and float64, head by head and query by query; nothing of it is the product's.
def written_out(weights: dict[str, np.ndarray], heads: int, video: dict, audio: dict) -> list[np.ndarray]:
    """New streams of one clip.

    Args:
        weights: Of the block.
        heads: How many.
        video: ``x (L, C)``, ``time (T,)``, ``at (L,)`` the positions of its tokens.
        audio: Likewise.
    """

    def dense(name, x):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    times = dense("time_in", np.concatenate([video["time"], audio["time"]]))
    times = times / (1 + np.exp(-times))
    tokens, gates = {"q": [], "k": [], "v": []}, []
    for stream, side in ((1, video), (2, audio)):
        shift, scale, gate = np.split(dense(f"adaln_modulation_{stream}", times), 3)
        gates.append(gate)
        mean = side["x"].mean(axis=1, keepdims=True)
        spread = np.sqrt(((side["x"] - mean) ** 2).mean(axis=1, keepdims=True) + 1e-6)
        h = (side["x"] - mean) / spread * (1 + scale) + shift
        for letter in "qkv":
            rows = dense(f"attn.{letter}_proj_{stream}", h).reshape(len(h), heads, -1)
            if letter != "v":
                rows = normed_and_turned(rows, weights, letter, stream, side["at"])
            tokens[letter].append(rows)
    keys, values = (np.concatenate(tokens[letter]) for letter in "kv")
    new = []
    for stream, side in ((1, video), (2, audio)):
        heard = np.zeros((len(side["x"]), heads, values.shape[-1]))
        for token, query in enumerate(tokens["q"][stream - 1]):
            for head in range(heads):
                scores = keys[:, head] @ query[head] / math.sqrt(query.shape[-1])
                shares = np.exp(scores - scores.max())
                heard[token, head] = shares @ values[:, head] / shares.sum()
        inner = dense(f"mlp_{stream}.fc1", heard.reshape(len(heard), -1))
        inner = 0.5 * inner * (1 + np.tanh(math.sqrt(2 / math.pi) * (inner + 0.044715 * inner**3)))
        new.append(side["x"] + gates[stream - 1] * dense(f"mlp_{stream}.fc2", inner))
    return new


def normed_and_turned(rows: np.ndarray, weights: dict, letter: str, stream: int, at: np.ndarray) -> np.ndarray:
    """RMSNorm of every head, the constant part, and every pair as a complex number times e^(i·position·frequency)."""
    size = rows.shape[-1]
    rows = (
        rows / np.sqrt((rows**2).mean(axis=-1, keepdims=True) + 1e-6) * weights[f"attn.{letter}_norm_{stream}.weight"]
    )
    moment = weights.get(f"attn.{letter}_moment_{stream}")
    if moment is not None:
        rows = rows + moment.reshape(rows.shape[1], size)
    pairs = rows[..., 0::2] + 1j * rows[..., 1::2]
    pairs = pairs * np.exp(1j * at[:, None, None] * 10_000.0 ** (-2 * np.arange(size // 2) / size))
    return np.stack([pairs.real, pairs.imag], axis=-1).reshape(rows.shape)


def positions(num_video: int, patches: int, num_audio: int) -> list[np.ndarray]:
    """AVLINK 1.6, from counts: latent frame 0 at 0.125 and k at k − 0.25; before the sound a token without a time."""
    frames = np.repeat([0.125, *(k - 0.25 for k in range(1, num_video))], patches)
    return [frames, np.concatenate([[0.0], (np.arange(num_audio) + 0.5) * (num_video - 0.75) / (num_audio + 0.5)])]


@pytest.mark.parametrize("moments", [False, True])
@pytest.mark.parametrize("mlp_width", [0, 20])
def test_the_block_is_the_formula_written_out_head_by_head(
    moments, mlp_width, config, random_stack, make_bridge_inputs
) -> None:
    config = replace(config, moments=moments, mlp_width=mlp_width)
    block = random_stack(KIND, config)[0]
    given = make_bridge_inputs(config, TokenGrid(3, 6), TokenGrid(11, num_prefix=1))
    weights = {name: value.double().numpy() for name, value in block.state_dict().items()}
    assert ("attn.q_moment_1" in weights) == moments
    at = positions(3, 6, 11)
    made = block(given)
    for row in range(2):
        sides = [
            {"x": x[row].double().numpy(), "time": time[row % len(time)].double().numpy(), "at": where}
            for x, time, where in ((given.video, given.video_time, at[0]), (given.audio, given.audio_time, at[1]))
        ]
        for mine, wanted in zip(made, written_out(weights, config.num_heads, *sides), strict=True):
            np.testing.assert_allclose(mine[row].detach().double().numpy(), wanted, rtol=1e-5, atol=1e-5)


def test_avlink_law_5_of_a_last_block_only_what_the_generated_side_hears_learns(config, given, random_stack) -> None:
    """By its loss alone. AVLINK has zeros at the video's queries, as one softmax holds all; here they are their own."""
    for told in (False, True):
        block = random_stack(KIND, config)[0]
        sides = {"given": frozenset({"video"}), "wanted": frozenset({"audio"})} if told else {}
        block(replace(given, **sides))[1].square().sum().backward()
        silent = {name for name, parameter in block.named_parameters() if parameter.grad is None}
        assert silent == {name for name, _ in block.named_parameters() if name.startswith(OF_VIDEO_HEARING)}
        gate = block.adaln_modulation_1.weight.grad.chunk(3)[2]
        assert gate.shape == (config.video_width, config.time_rank) and not gate.any()
        assert all(part.any() for part in block.adaln_modulation_1.weight.grad.chunk(3)[:2])
        assert all(p.grad.any() for name, p in block.named_parameters() if p.grad is not None)


OF_VIDEO_HEARING = ("mlp_1.", "attn.q_proj_1.", "attn.q_norm_1.")


def test_a_side_that_is_not_wanted_comes_back_as_the_same_object(config, given, random_stack) -> None:
    block = random_stack(KIND, config)[0]
    video, audio = block(replace(given, wanted=frozenset({"audio"})))
    assert video is given.video and torch.equal(audio, block(given)[1])
    video, audio = block(replace(given, wanted=frozenset({"video"})))
    assert audio is given.audio and torch.equal(video, block(given)[0])


def test_without_reinjection_a_given_stream_is_the_same_object_in_every_block(config, given, random_stack) -> None:
    """And where nothing is given, both sides hear."""
    block = random_stack(KIND, replace(config, reinject=False))[0]
    with_it = random_stack(KIND, config)[0]
    for side, index in (("video", 0), ("audio", 1)):
        out = block(replace(given, given=frozenset({side})))
        assert out[index] is getattr(given, side)
        assert torch.equal(out[1 - index], with_it(given)[1 - index])
    assert all(torch.equal(a, b) for a, b in zip(block(given), with_it(given), strict=True))


@pytest.mark.parametrize(
    ("sizes", "millions", "exact"),
    [
        ({}, 33.6, 33_581_568),
        ({"video_width": 5120, "video_time_width": 5120}, 63.0, 62_956_032),
        ("pocket 192", 0.811, 811_072),
        ("pocket 128", 0.50, 502_976),
        ({"video_width": 1024, "audio_width": 1024, "video_time_width": 1024, "audio_time_width": 1024}, 25.2, None),
    ],
)
def test_a_block_has_as_many_parameters_as_avlink_5_says(sizes, millions, exact) -> None:
    """Wan 1.3B, Wan 14B, both forms of the pocket; AV-Link's own widths, without its modulation, are 23.085 M."""
    if isinstance(sizes, str):
        width = int(sizes.split()[1])
        towers = {"video_width": 192, "video_time_width": 192, "audio_width": 128, "audio_time_width": 128}
        sizes = {**towers, "qk_width": width, "v_width": width, "num_heads": width // 32, "time_rank": 64}
    with torch.device("meta"):
        block = BRIDGES.get(KIND)(BRIDGES.get(KIND).Config(**sizes))
    count = sum(parameter.numel() for parameter in block.parameters())
    assert count == pytest.approx(millions * 1e6, rel=0.007) and exact in (None, count)
    if sizes.get("video_width") == sizes.get("audio_width") == 1024:
        modulation = sum(
            p.numel() for n, p in block.named_parameters() if "adaln" in n or "time_in" in n or "norm" in n
        )
        assert count - modulation == pytest.approx(23.085e6, rel=1e-4)


def test_a_block_has_the_names_of_avlink_5(config) -> None:
    names = {name for name, _ in new_block(config).named_parameters()}
    layers = [f"attn.{letter}_proj_{stream}" for letter in "qkv" for stream in (1, 2)]
    layers += [f"mlp_{stream}.fc{number}" for stream in (1, 2) for number in (1, 2)]
    layers += ["time_in", "adaln_modulation_1", "adaln_modulation_2"]
    norms = {f"attn.{letter}_norm_{stream}.weight" for letter in "qk" for stream in (1, 2)}
    assert names == {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")} | norms
    new_block(config).look_at_one_moment(3.0, *GRIDS)
    moved = new_block(config)
    moved.look_at_one_moment(3.0, *GRIDS)
    moments = {f"attn.{letter}_moment_{stream}" for letter in "qk" for stream in (1, 2)}
    assert {name for name, _ in moved.named_parameters()} == names | moments and moved.config.moments


@pytest.mark.parametrize("moments", [False, True])
def test_files_with_and_without_moments_load(moments, config, tmp_path) -> None:
    torch.manual_seed(0)
    stack = BridgeStack(KIND, config, POINTS)
    if moments:
        for block in stack:
            block.look_at_one_moment(3.0, *GRIDS)
    save_bridges(tmp_path / "own.safetensors", stack)
    loaded = load_bridges(tmp_path / "own.safetensors").stack
    assert loaded.config == stack.config and loaded.config.moments == moments
    assert set(loaded.state_dict()) == set(stack.state_dict())
    save_file(dict(stack.state_dict()), tmp_path / "bare.safetensors")
    bare = load_bridges(tmp_path / "bare.safetensors", BridgeOptions(points=POINTS))
    assert (bare.stack.kind, bare.fusion_source) == (KIND, "keys")
    assert bare.stack.config == stack.config, "heads by the norms, positions as the kind has them"
    assert all(torch.equal(a, b) for a, b in zip(bare.stack.parameters(), stack.parameters(), strict=True))


def test_a_bare_file_whose_times_are_not_as_wide_as_its_streams_is_refused(config, tmp_path) -> None:
    odd = BridgeStack(KIND, replace(config, video_time_width=9), POINTS)
    save_bridges(tmp_path / "own.safetensors", odd)
    assert load_bridges(tmp_path / "own.safetensors").stack.config == odd.config
    save_file(dict(odd.state_dict()), tmp_path / "bare.safetensors")
    with pytest.raises(IncompatibleWeightsError, match="does not say the sizes of its FusionBlock blocks"):
        load_bridges(tmp_path / "bare.safetensors", BridgeOptions(points=POINTS))


def test_the_kind_is_known_by_its_names(config) -> None:
    for moments in (False, True):
        assert kinds_with(new_block(replace(config, moments=moments)).state_dict()) == [KIND]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("mlp_width=-1", "the bridge's mlp_width is not usable: got -1; expected a whole number from 0"),
        ("time_rank=0", "the bridge's time_rank is not usable: got 0; expected a positive whole number"),
        ("reinject=1", "the bridge's reinject has the wrong type: got '1'; expected bool"),
        ("depth=2", "expected mlp_width=20, time_rank=10, reinject=True, moments=False"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting, message, config) -> None:
    with pytest.raises(InputError, match=message):
        config.with_settings([setting])


def test_settings_are_given_as_words(config) -> None:
    chosen = config.with_settings(["mlp_width=0", "time_rank=64", "reinject=false"])
    assert (chosen.mlp_width, chosen.time_rank, chosen.reinject) == (0, 64, False)
    with pytest.raises(InputError, match="reinject is not usable: got 1; expected true or false"):
        replace(config, reinject=1)
    assert BRIDGES.get(KIND).Config.from_dict(asdict(chosen)) == chosen


def test_one_prefix_time_serves_all_rows(config, random_stack, make_bridge_inputs) -> None:
    """One audio time for a batch of clips is that time for each."""
    block, given = random_stack(KIND, config)[0], make_bridge_inputs(config, *GRIDS)
    assert len(given.audio_time) == 1 < len(given.video)
    each = replace(given, audio_time=given.audio_time.expand(2, -1))
    assert all(torch.equal(a, b) for a, b in zip(block(given), block(each), strict=True))


def test_heads_that_are_asked_to_look_at_one_moment_need_one_time_axis(config) -> None:
    with pytest.raises(InputError, match="FusionBlock with rope official"):
        new_block(replace(config, rope="official")).look_at_one_moment(3.0, *GRIDS)
    assert bridge_rope("token_clock", 8, *GRIDS)[1][1][0].eq(0).all()
