"""What every bridge kind promises, with every kind of positions: no names here, the registries say which there are."""

from __future__ import annotations

import copy
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from sounding_video.core.clock import WAN_STABLE_AUDIO
from sounding_video.core.errors import IncompatibleWeightsError, InputError
from sounding_video.models.bridges import BRIDGES, kinds_that_hear
from sounding_video.models.bridges.base import SIDES, BridgeInputs
from sounding_video.models.bridges.config import READINGS, BridgeConfig
from sounding_video.models.joint import BridgePoints, BridgeStack, JointModel
from sounding_video.models.rope import on_clock
from sounding_video.models.ropes import ROPES
from sounding_video.models.towers.base import TokenGrid
from sounding_video.models.weights.bridges import kinds_with, load_bridges, save_bridges

TIMES = WAN_STABLE_AUDIO.times(15)
GRIDS = on_clock(TokenGrid(3, 6), TokenGrid(11, num_prefix=1), TIMES)
EVERY = [(kind, rope, reading) for kind in BRIDGES for rope in ROPES for reading in READINGS]


@pytest.fixture
def bridge_of(config_of, random_stack, make_bridge_inputs):
    """A block with random weights, and inputs for it."""

    def make(kind: str, rope: str, reading: str, grids=GRIDS) -> tuple[torch.nn.Module, BridgeInputs]:
        config = config_of(kind, rope, reading)
        return random_stack(kind, config)[0], make_bridge_inputs(config, *grids)

    return make


@pytest.mark.parametrize(("kind", "rope", "reading"), EVERY)
def test_streams_keep_their_shape_and_a_new_block_is_the_identity_if_it_says_so(
    kind, rope, reading, bridge_of, config_of
) -> None:
    for grids in (GRIDS, (TokenGrid(1), TokenGrid(1)), (TokenGrid(7, 1), TokenGrid(3, 2, 4))):
        bridge, given = bridge_of(kind, rope, reading, grids)
        new = BRIDGES.get(kind)(config_of(kind, rope, reading))
        for block in (bridge, new):
            after = block(given)
            assert [stream.shape for stream in after] == [given.video.shape, given.audio.shape]
            assert all(torch.isfinite(stream).all() for stream in after)
        same = torch.equal(after[0], given.video) and torch.equal(after[1], given.audio)
        assert same == new.identity_at_start


@pytest.mark.parametrize(("kind", "rope", "reading"), EVERY)
def test_a_side_receives_from_the_other_where_the_kind_says_that_it_hears(kind, rope, reading, bridge_of) -> None:
    """By gradients; and what hears nothing is the same number for number whatever the other side holds."""
    bridge, given = bridge_of(kind, rope, reading)
    for side, other in (SIDES, SIDES[::-1]):
        heard = getattr(given, other).clone().requires_grad_(True)
        out = bridge(replace(given, **{other: heard}))[SIDES.index(side)]
        reached = out.requires_grad and torch.autograd.grad(out.square().sum(), heard, allow_unused=True)[0]
        hears = side in type(bridge).listeners
        assert (isinstance(reached, torch.Tensor) and bool(reached.any())) == hears
        louder = bridge(replace(given, **{other: -heard.detach()}))[SIDES.index(side)]
        assert torch.equal(out, louder) != hears


def test_kinds_are_listed_by_the_side_that_hears() -> None:
    for side in SIDES:
        assert kinds_that_hear(side) == [kind for kind in BRIDGES if side in BRIDGES.get(kind).listeners] != []
    assert all(BRIDGES.get(kind).listeners <= set(SIDES) and BRIDGES.get(kind).listeners for kind in BRIDGES)


@pytest.mark.parametrize("kind", BRIDGES)
def test_a_stack_says_which_side_hears(kind, config_of) -> None:
    stack = BridgeStack(kind, config_of(kind), BridgePoints((0, 1), (0, 1)))
    assert [stack.hears(side) for side in SIDES] == [side in BRIDGES.get(kind).listeners for side in SIDES]


@pytest.mark.parametrize(("kind", "rope", "reading"), EVERY)
def test_the_same_window_later_in_a_clip_gives_the_same(kind, rope, reading, bridge_of) -> None:
    bridge, given = bridge_of(kind, rope, reading)
    _, later = bridge_of(kind, rope, reading, on_clock(*GRIDS, TIMES.shifted(Fraction(22, 7))))
    assert later.video_grid != given.video_grid
    for here, there in zip(bridge(given), bridge(later), strict=True):
        assert torch.equal(here, there)


@pytest.mark.parametrize(("kind", "rope", "reading"), EVERY)
def test_every_tensor_learns_but_those_that_the_trainer_leaves_out(kind, rope, reading, bridge_of) -> None:
    from sounding_video.training.trainable import unused_in_bridge

    bridge, given = bridge_of(kind, rope, reading)
    stack = BridgeStack(kind, bridge.config, BridgePoints((0,), (0,)))
    sum(stream.square().sum() for stream in bridge(given) if stream.requires_grad).backward()
    silent = {name for name, parameter in bridge.named_parameters() if parameter.grad is None}
    assert silent == set(unused_in_bridge(stack))


@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("kind", BRIDGES)
def test_a_modality_may_be_absent(kind, rope, wan_tower, audio_tower, inputs, random_stack, config_of) -> None:
    model = JointModel(wan_tower, audio_tower, random_stack(kind, config_of(kind, rope)))
    with torch.no_grad():
        for tower in (wan_tower, audio_tower):
            given = {tower.modality: inputs[tower.modality]}
            out = dict(zip(SIDES, model(**given, times=TIMES), strict=True))
            assert torch.equal(out.pop(tower.modality), tower(inputs[tower.modality]))
            assert list(out.values()) == [None]


@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("kind", BRIDGES)
def test_a_file_tells_the_kind_and_all_its_settings(kind, rope, config_of, random_stack, tmp_path) -> None:
    stack = random_stack(kind, config_of(kind, rope, "paper"))
    save_bridges(tmp_path / "b.safetensors", stack)
    loaded = load_bridges(tmp_path / "b.safetensors").stack
    assert (loaded.kind, loaded.config, loaded.points) == (kind, stack.config, stack.points)
    assert type(loaded.config) is BRIDGES.get(kind).Config
    assert kind in kinds_with(stack[0].state_dict())
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), stack.parameters(), strict=True))


def sizes_or_refusal(kind: str, config: BridgeConfig) -> dict[str, int] | str:
    """What the tensors of a block tell."""
    try:
        return BRIDGES.get(kind).sizes_of(BRIDGES.get(kind)(config).state_dict())
    except IncompatibleWeightsError as error:
        return str(error)


@pytest.mark.parametrize("kind", BRIDGES)
def test_sizes_are_read_off_a_block_or_the_file_is_refused(kind, config_of) -> None:
    config = config_of(kind)
    sizes = sizes_or_refusal(kind, config)
    if isinstance(sizes, dict):
        told = {name: size for name, size in sizes.items() if name.startswith(SIDES)}
        assert told == {name: getattr(config, name) for name in told} != {}
    else:
        assert "does not say the sizes" in sizes


def test_a_kind_that_cannot_read_its_sizes_off_says_so(throw_away_kind, config_of) -> None:
    said = sizes_or_refusal(throw_away_kind, config_of(throw_away_kind))
    assert said.startswith("the bridge file does not say the sizes of its ThrowAwayBridge blocks: got no metadata")


def test_the_sound_and_the_picture_meet_by_their_seconds(config_of, random_stack, make_bridge_inputs) -> None:
    """Additive, moment by moment, on the clock: a knock in frame 0 alone reaches latent 0, and not beyond its seconds.

    Latent frame 0 lasts 1/15 s, which is audio latent 0 and 44 % of latent 1; spread evenly it would be a third of all.
    """
    config = config_of("additive", "clock", "paper")
    bridge, given = random_stack("additive", config)[0], make_bridge_inputs(config, *GRIDS, batch=1)
    moved = []
    for token in range(11):
        audio = given.audio.clone()
        audio[:, 1 + token] += torch.randn(audio.shape[-1], generator=torch.Generator().manual_seed(2))
        apart = bridge(replace(given, audio=audio))[0] - bridge(given)[0]
        moved.append([bool(frame.any()) for frame in apart[0].unflatten(0, (3, 6))])
    step = Fraction(2048, 44_100)
    begin = [Fraction(0), Fraction(1, 15), Fraction(5, 15), Fraction(9, 15)]
    wanted = [[step * n < begin[k + 1] and step * (n + 1) > begin[k] for k in range(3)] for n in range(11)]
    assert moved == wanted
    assert moved[0] == [True, False, False] and moved[1] == [True, True, False]


def test_a_step_that_nothing_sounds_in_takes_the_nearest(config_of, random_stack, make_bridge_inputs) -> None:
    """Ten seconds of picture over half a second of sound: the last frames hear its end, and nothing is not a number."""
    config = config_of("additive", "clock", "paper")
    grids = on_clock(TokenGrid(38, 1), TokenGrid(11, num_prefix=1), TIMES)
    bridge, given = random_stack("additive", config)[0], make_bridge_inputs(config, *grids, batch=1)
    audio = given.audio.clone()
    audio[:, -1] += 1.0 * torch.randn(audio.shape[-1], generator=torch.Generator().manual_seed(2))
    apart = (bridge(replace(given, audio=audio))[0] - bridge(given)[0])[0].abs().amax(dim=1)
    assert torch.isfinite(apart).all() and not apart[:2].any() and apart[3:].all()


@pytest.mark.parametrize(("kind", "rope", "reading"), EVERY)
def test_a_block_learns_after_it_ran_where_nothing_learns(kind, rope, reading, bridge_of) -> None:
    """ComfyUI runs in inference mode, the planner on no device: nothing that is kept may stem from there."""
    grids = on_clock(TokenGrid(4, 5), TokenGrid(13, num_prefix=1), TIMES)
    bridge, given = bridge_of(kind, rope, reading, grids)
    with torch.inference_mode():
        first = bridge(given)
    with torch.device("meta"):
        copy.deepcopy(bridge).to("meta")(_nowhere(given))
    video = given.video.clone().requires_grad_(True)
    again = bridge(replace(given, video=video))
    sum(stream.sum() for stream in again).backward()
    assert video.grad is not None
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))


def _nowhere(given: BridgeInputs) -> BridgeInputs:
    """The same without numbers."""
    streams = {name: value.to("meta") for name, value in vars(given).items() if isinstance(value, torch.Tensor)}
    ropes = {name: tuple(table.to("meta") for table in getattr(given, name)) for name in ("video_rope", "audio_rope")}
    return replace(given, **streams, **ropes)


def test_a_kind_refuses_the_configuration_of_another(throw_away_kind, bridge_config, config_of) -> None:
    points = BridgePoints((0,), (0,))
    with pytest.raises(InputError, match="another bridge's: got BridgeConfig; expected ThrowAwayConfig, the one of"):
        BridgeStack(throw_away_kind, bridge_config, points)
    own = config_of(throw_away_kind).with_settings(["waist=9"])
    assert BridgeStack(throw_away_kind, own, points)[0].down.out_features == 9


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("waist", "no setting of this bridge kind: got 'waist'; expected waist=6"),
        ("qk_width=8", "got 'qk_width=8'; expected waist=6"),
        ("waist=wide", "the bridge's waist has the wrong type: got 'wide'; expected int"),
    ],
)
def test_a_setting_that_is_none_is_refused(throw_away_kind, config_of, setting, message) -> None:
    with pytest.raises(InputError, match=message):
        config_of(throw_away_kind).with_settings([setting])
    with pytest.raises(InputError, match="expected none: this kind has none"):
        config_of("dual_cross").with_settings([setting])
