"""Law: a tower equals its stock forward bit for bit, whole or cut anywhere."""

from __future__ import annotations

import pytest
import torch
from sounding_video.core.errors import InputError
from sounding_video.core.types import Modality
from sounding_video.models.towers import TOWERS
from sounding_video.models.towers.base import Tower


@pytest.fixture
def towers(wan_tower, audio_tower) -> dict[str, Tower]:
    found = {"wan": wan_tower, "stable_audio": audio_tower}
    assert set(found) == set(TOWERS.names()), "a new tower needs a small model here"
    return found


def stock_forward(tower: Tower, x: Modality) -> torch.Tensor:
    if tower.modality == "video":
        return tower.model(x.latents, x.timestep, x.text, return_dict=False)[0]
    rotary = tower.rotary(x.latents.shape[-1] + 1, torch.device("cpu"))
    return tower.model(x.latents, x.timestep, x.text, x.duration, rotary, return_dict=False)[0]


@pytest.mark.parametrize("name", TOWERS.names())
def test_whole_and_split_walks_equal_the_stock_forward(towers, inputs, name) -> None:
    tower = towers[name]
    x = inputs[tower.modality]
    with torch.no_grad():
        expected = stock_forward(tower, x)
        assert torch.equal(tower(x), expected)
        for cut in range(tower.num_blocks + 1):
            state = tower.walk(tower.enter(x), 0, cut)
            assert torch.equal(tower.leave(tower.walk(state, cut, tower.num_blocks)), expected)


@pytest.mark.parametrize("name", TOWERS.names())
def test_one_timestep_serves_the_whole_batch(towers, inputs, name) -> None:
    tower = towers[name]
    x = inputs[tower.modality]
    shared = Modality(x.latents, x.timestep[:1], x.text, x.duration)
    spelled = Modality(x.latents, x.timestep[:1].expand(2), x.text, x.duration)
    with torch.no_grad():
        torch.testing.assert_close(tower(shared), tower(spelled), rtol=0, atol=1e-6)


def test_token_grids_say_where_tokens_lie_in_time(towers, inputs) -> None:
    with torch.no_grad():
        video = towers["wan"].enter(inputs["video"])
        audio = towers["stable_audio"].enter(inputs["audio"])
    assert (video.grid.num_steps, video.grid.tokens_per_step, video.grid.num_prefix) == (3, 2 * 3, 0)
    assert (audio.grid.num_steps, audio.grid.tokens_per_step, audio.grid.num_prefix) == (11, 1, 1)
    assert video.hidden.shape[1] == video.grid.num_tokens
    assert audio.hidden.shape[1] == audio.grid.num_tokens


def test_gradient_checkpointing_reaches_every_trainable_block(towers, inputs) -> None:
    """The published code's re-entrant checkpoints leave the first blocks without gradient; ours must not."""
    tower = towers["wan"]
    block = tower.blocks[0]
    block.requires_grad_(True)
    tower.model.enable_gradient_checkpointing()
    try:
        tower(inputs["video"]).square().mean().backward()
        assert all(
            p.grad is not None and bool(p.grad.abs().sum() > 0)
            for p in (block.attn1.to_q.weight, block.ffn.net[2].weight)
        )
    finally:
        tower.model.disable_gradient_checkpointing()
        tower.zero_grad(set_to_none=True)
        tower.requires_grad_(False)


@pytest.mark.parametrize(
    ("name", "shape"), [("wan", (1, 5, 3, 4, 6)), ("wan", (1, 4, 3, 5, 6)), ("stable_audio", (1, 5, 11))]
)
def test_latents_that_do_not_fit_are_refused_by_name(towers, inputs, name, shape) -> None:
    tower = towers[name]
    x = inputs[tower.modality]
    with pytest.raises(InputError, match=r"does not fit the tower: got .*expected"):
        tower.enter(Modality(torch.zeros(shape), x.timestep[:1], x.text[:1], x.duration))
