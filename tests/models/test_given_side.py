"""A modality that is given: read up to the last bridge and no further, while the other one is made as before."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace

import pytest
import torch
from small_models import hooked_forward as forward
from sounding_video.core.errors import InputError
from sounding_video.core.pair import Pair
from sounding_video.core.types import Conditioning, ModalityConditioning
from sounding_video.models.bridges import BRIDGES
from sounding_video.models.bridges.base import SIDES
from sounding_video.models.bridges.config import READINGS
from sounding_video.models.joint import BridgePoints, BridgeStack, JointModel
from sounding_video.models.native import BridgedForwards
from sounding_video.sampling.given import Given
from sounding_video.sampling.guidance import dual_guidance
from sounding_video.sampling.loop import sample
from sounding_video.sampling.noise import draw_noise
from sounding_video.sampling.schedule import build_schedule
from sounding_video.sampling.shown import SHOWN
from sounding_video.training.trainable import unused_in_bridge

EVERY_SIDE = pytest.mark.parametrize(("side", "other"), [SIDES, SIDES[::-1]])
BLOCKS, POINTS = 3, BridgePoints((0, 1), (0, 1))
STEPS = 3


@pytest.fixture
def blocks_run(wan_tower, audio_tower, monkeypatch) -> Counter:
    """How many blocks of each tower ran, and how often it gave a prediction."""
    counts: Counter = Counter()
    for tower in (wan_tower, audio_tower):
        for what in ("run_block", "leave"):
            original = getattr(tower, what)

            def counted(*args, original=original, key=(tower.modality, what)):
                counts[key] += 1
                return original(*args)

            monkeypatch.setattr(tower, what, counted)
    return counts


def told(inputs, side):
    return {name: replace(one, given=name == side) for name, one in inputs.items()}


@EVERY_SIDE
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("kind", BRIDGES)
def test_a_given_side_ends_at_the_last_bridge_and_the_other_is_the_same_bit_for_bit(
    kind, reading, side, other, wan_tower, audio_tower, inputs, random_stack, config_of, blocks_run
) -> None:
    model = JointModel(wan_tower, audio_tower, random_stack(kind, config_of(kind, reading=reading)))
    with torch.no_grad():
        whole = Pair(*model(**inputs))
        assert blocks_run == {(name, "run_block"): BLOCKS for name in SIDES} | {(name, "leave"): 1 for name in SIDES}
        blocks_run.clear()
        made = Pair(*model(**told(inputs, side)))
    assert made[side] is None and torch.equal(made[other], whole[other])
    assert blocks_run == {(side, "run_block"): 2, (other, "run_block"): BLOCKS, (other, "leave"): 1}


@EVERY_SIDE
def test_the_last_fusion_block_leaves_out_what_the_given_side_would_hear(
    side, other, wan_tower, audio_tower, inputs, random_stack, config_of
) -> None:
    """Queries and the MLP of that side, which are most of the block when the picture is given."""
    stack = random_stack("fusion_block", config_of("fusion_block"))
    model, number, ran = JointModel(wan_tower, audio_tower, stack), SIDES.index(side) + 1, []
    for name, layer in stack.named_modules():
        layer.register_forward_hook(lambda *_, name=name: ran.append(name))
    with torch.no_grad():
        model(**inputs)
        everything = set(ran)
        ran.clear()
        model(**told(inputs, side))
    hearing = (f"1.mlp_{number}", f"1.attn.q_proj_{number}", f"1.attn.q_norm_{number}")
    assert everything - set(ran) == {name for name in everything if name.startswith(hearing)} != set()


def test_without_bridges_a_given_side_is_not_walked_at_all(wan_tower, audio_tower, inputs, blocks_run) -> None:
    with torch.no_grad():
        video, audio = JointModel(wan_tower, audio_tower)(**told(inputs, "video"))
    assert video is None and ("video", "run_block") not in blocks_run
    assert torch.equal(audio, audio_tower(inputs["audio"]))


@EVERY_SIDE
def test_a_given_side_without_a_tower_is_refused(side, other, wan_tower, audio_tower, inputs) -> None:
    towers = {tower.modality: tower for tower in (wan_tower, audio_tower)}
    with pytest.raises(InputError, match=f"the {side} is given, but the model cannot read it"):
        JointModel(**{side: None, other: towers[other]})(**told(inputs, side))


@pytest.fixture
def texts(inputs) -> Conditioning:
    """Of one clip, with negatives that differ."""
    return Conditioning(
        *(ModalityConditioning(one.text[:1], one.text[1:], None if one.duration is None else one.duration[:1])
          for one in inputs.values())
    )  # fmt: skip


@EVERY_SIDE
@pytest.mark.parametrize("how", SHOWN)
@pytest.mark.parametrize("batching", ["batched", "sequential"])
@pytest.mark.parametrize("unconditional", ["texts", "alone"])
def test_sampling_beside_a_given_side_costs_less_and_makes_the_same(
    unconditional,
    batching,
    how,
    side,
    other,
    wan_tower,
    audio_tower,
    inputs,
    random_stack,
    config_of,
    texts,
    blocks_run,
) -> None:
    """Against a model that is not told: bit for bit, and block by block of the towers."""
    model = JointModel(wan_tower, audio_tower, random_stack("fusion_block", config_of("fusion_block", "token_clock")))
    guidance = dual_guidance(5.0, 5.0, batching, unconditional=unconditional)
    clean = {name: one.latents[:1] for name, one in inputs.items()}
    noise = draw_noise(3, **{f"{name}_shape": tuple(latents.shape) for name, latents in clean.items()})

    def run(denoiser) -> Pair:
        blocks_run.clear()
        made = sample(
            denoiser, texts, noise, schedule=build_schedule("lockstep", STEPS), guidance=guidance, seed=1,
            given=Pair(**{side: Given(clean[side], how=how)}),
        )  # fmt: skip
        return Pair.of(made)

    untold = run(lambda video, audio: model(*(one and replace(one, given=False) for one in (video, audio))))
    ran_untold = dict(blocks_run)
    made = run(model)
    assert torch.equal(made[other], untold[other]) and torch.equal(made[side], clean[side])
    forwards = STEPS if unconditional == "alone" or batching == "batched" else 2 * STEPS
    assert ran_untold[side, "leave"] == forwards and (side, "leave") not in blocks_run
    assert blocks_run[side, "run_block"] == 2 * forwards < ran_untold[side, "run_block"] == BLOCKS * forwards
    assert blocks_run[other, "run_block"] == ran_untold[other, "run_block"]


@EVERY_SIDE
@pytest.mark.parametrize("kind", BRIDGES)
def test_two_forwards_of_another_host_make_the_same_beside_a_given_side(
    kind, side, other, wan_tower, audio_tower, inputs, random_stack, config_of
) -> None:
    stack = random_stack(kind, config_of(kind))
    model = JointModel(wan_tower, audio_tower, stack)
    forwards = [forward(t, inputs[t.modality], (0, 1)) for t in (wan_tower, audio_tower)]
    with torch.no_grad():
        expected = Pair(*model(**told(inputs, side)))[other]
        assert torch.equal(Pair(*BridgedForwards(stack)(*forwards, frozenset({side})))[other], expected)


def test_two_forwards_tell_a_block_without_reinjection_what_is_given(
    wan_tower, audio_tower, inputs, random_stack, config_of
) -> None:
    stack = random_stack("fusion_block", replace(config_of("fusion_block"), reinject=False))
    forwards = [forward(t, inputs[t.modality], (0, 1)) for t in (wan_tower, audio_tower)]
    with torch.no_grad():
        alone = wan_tower(inputs["video"])
        assert torch.equal(BridgedForwards(stack)(*forwards, frozenset({"video"}))[0], alone)
        assert not torch.equal(BridgedForwards(stack)(*forwards)[0], alone)


def hearing(side: str) -> tuple[str, ...]:
    """Parts of a fusion block by which a side hears."""
    number = SIDES.index(side) + 1
    return f"mlp_{number}.", f"attn.q_proj_{number}.", f"attn.q_norm_{number}."


@pytest.mark.parametrize("reinject", [True, False])
@pytest.mark.parametrize("generated", [("audio",), ("video",), ("video", "audio")])
def test_avlink_law_5_what_learns_from_the_loss_of_the_generated_side(
    generated, reinject, wan_tower, audio_tower, inputs, random_stack, config_of
) -> None:
    """All but what a given side hears: in the last block, and without reinjection in every one. Towers do not learn."""
    towers = [copy.deepcopy(tower).requires_grad_(False) for tower in (wan_tower, audio_tower)]
    config = replace(config_of("fusion_block", "token_clock"), reinject=reinject)
    stack = random_stack("fusion_block", config, BridgePoints((0, 1, 2), (0, 1, 2)))
    model = JointModel(*towers, stack)
    given = [side for side in SIDES if side not in generated]
    out = Pair(*model(**told(inputs, given[0] if given else None)))
    sum(out[side].square().sum() for side in generated).backward()
    assert all(parameter.grad is None for tower in towers for parameter in tower.parameters())
    for number, block in enumerate(stack):
        is_last = number == len(stack) - 1
        silent = {name for name, parameter in block.named_parameters() if parameter.grad is None}
        deaf = given if is_last or not reinject else []
        wanted = {name for name in dict(block.named_parameters()) for side in deaf if name.startswith(hearing(side))}
        assert silent == wanted == set(unused_in_bridge(stack, generated if is_last else SIDES, given))
        assert all(p.grad.any() for p in block.parameters() if p.grad is not None)


def test_avlink_law_5_without_being_told_the_last_blocks_gates_of_the_given_side_get_zeros(
    wan_tower, audio_tower, inputs, random_stack, config_of
) -> None:
    stack = random_stack("fusion_block", config_of("fusion_block"))
    JointModel(wan_tower, audio_tower, stack)(**inputs)[1].square().sum().backward()
    gates = [block.adaln_modulation_1.weight.grad.chunk(3)[2] for block in stack]
    assert gates[0].any() and not gates[1].any()
    assert {name for name, p in stack[1].named_parameters() if p.grad is None} == {
        name for name, _ in stack[1].named_parameters() if name.startswith(hearing("video"))
    }


def test_a_whole_stack_knows_the_settings_of_its_blocks(config_of) -> None:
    stack = BridgeStack("fusion_block", config_of("fusion_block", "token_clock"), POINTS)
    assert stack.config is stack[0].config and not stack.config.moments
