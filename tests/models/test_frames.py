"""The second way to tell a tower of the other side: vectors that are added to its stream moment by moment."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from sounding_video.core.clock import LatentGeometry
from sounding_video.core.errors import InputError
from sounding_video.core.types import NEGATIVE, POSITIVE, FrameShifts, ModalityConditioning
from sounding_video.models.alignment.folding import edges, moments, sound_spans
from sounding_video.models.alignment.readers import READERS
from sounding_video.models.joint import JointModel
from sounding_video.models.towers import TOWERS
from sounding_video.models.towers.base import Tower
from sounding_video.sampling._passes import View, joined, modality_of, rows_of

GEOMETRY = LatentGeometry()


@pytest.fixture
def towers(wan_tower, audio_tower) -> dict[str, Tower]:
    return {"wan": wan_tower, "stable_audio": audio_tower}


def shifts(num_moments: int, width: int = 4, *, side: str = "video", num_steps: int | None = None) -> FrameShifts:
    generator = torch.Generator().manual_seed(num_moments)
    both = (torch.randn(1, num_moments, width, generator=generator) for _ in range(2))
    return FrameShifts(*both, edges(num_moments, 1, GEOMETRY, side), num_steps)


@pytest.mark.parametrize("name", TOWERS.names())
def test_zeros_leave_a_tower_as_it_is_to_the_bit(towers, inputs, name: str) -> None:
    """Unlike tokens of zeros, which the attention also looks at."""
    tower = towers[name]
    x = inputs[tower.modality]
    zeros = torch.zeros(2, x.latents.shape[2], tower.width)
    with torch.no_grad():
        assert torch.equal(tower(replace(x, frames=zeros)), tower(x))


@pytest.mark.parametrize("name", TOWERS.names())
def test_a_vector_is_added_to_the_tokens_of_its_latent_step_only(towers, inputs, name: str) -> None:
    tower = towers[name]
    x = inputs[tower.modality]
    with torch.no_grad():
        plain = tower.enter(x)
        grid = plain.grid
        for step in range(grid.num_steps):
            frames = torch.zeros(2, grid.num_steps, tower.width)
            frames[:, step] = torch.arange(tower.width)
            moved = tower.begin(replace(x, frames=frames)).hidden - plain.hidden
            first = grid.num_prefix + step * grid.tokens_per_step
            own = slice(first, first + grid.tokens_per_step)
            wanted = torch.arange(tower.width).float().expand_as(moved[:, own])
            torch.testing.assert_close(moved[:, own], wanted, rtol=0, atol=1e-5)
            moved[:, own] = 0
            assert not moved.any()


@pytest.mark.parametrize("name", TOWERS.names())
def test_one_row_serves_the_whole_batch_and_the_joint_model_is_told_too(towers, inputs, name: str) -> None:
    tower = towers[name]
    x = inputs[tower.modality]
    row = torch.randn(1, x.latents.shape[2], tower.width, generator=torch.Generator().manual_seed(0))
    sides = {"video": None, "audio": None, tower.modality: tower}
    with torch.no_grad():
        told = tower(replace(x, frames=row.expand(2, -1, -1)))
        torch.testing.assert_close(tower(replace(x, frames=row)), told, rtol=0, atol=1e-6)
        joint = JointModel(**sides)
        made = joint(**{tower.modality: replace(x, frames=row.expand(2, -1, -1))})
    assert torch.equal(made[0 if tower.modality == "video" else 1], told)
    assert not torch.equal(told, tower(x).detach())


@pytest.mark.parametrize("shape", [(2, 2, 24), (2, 3, 25), (3, 3, 24), (3, 24)])
def test_vectors_that_do_not_fit_are_refused(wan_tower, inputs, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"added to the tower's stream does not fit it: got .*; expected \(2, 3, 24\)"):
        wan_tower(replace(inputs["video"], frames=torch.zeros(shape)))


@pytest.mark.parametrize(
    ("frames", "length", "segment"), [(9, 47, 1), (9, 47, 4), (21, 116, 1), (13, 70, 3), (1, 1, 1)]
)
def test_each_step_has_the_vector_of_its_moment(frames: int, length: int, segment: int) -> None:
    """Of both sides, in the moments in which what is told was folded."""
    number = len(moments(frames, segment))
    vectors = torch.arange(float(number)).view(1, number, 1)
    for side, steps in (("video", frames), ("audio", length)):
        shown = FrameShifts(vectors, -vectors, edges(frames, segment, GEOMETRY, side)).over(steps)
        found = shown.positive[0, :, 0].int().tolist()
        if side == "video":
            assert found == [step // segment for step in range(frames)]
        else:
            spans = sound_spans(frames, length, segment, GEOMETRY)
            assert found == [n for n, (start, behind) in enumerate(spans) for _ in range(start, behind)]
        assert torch.equal(shown.negative, -shown.positive)


def test_a_sound_of_another_rate_is_told_at_the_same_times() -> None:
    shown = shifts(9, side="audio").over(3 * 47).positive[0]
    assert torch.equal(shown[1::3], shifts(9, side="audio").over(47).positive[0])


def test_a_picture_of_another_length_is_refused() -> None:
    with pytest.raises(InputError, match=r"made for another length: got 13 latent steps; expected 9"):
        shifts(9, num_steps=9).over(13)
    assert shifts(9, num_steps=9).over(9).positive.shape == (1, 9, 4)


def test_what_does_not_fit_together_is_refused() -> None:
    vectors = torch.zeros(1, 3, 4)
    quarters = tuple(Fraction(n, 3) for n in range(4))
    with pytest.raises(InputError, match="does not fit together"):
        FrameShifts(vectors, vectors[:, :2], quarters)
    with pytest.raises(InputError, match="3 edges"):
        FrameShifts(vectors, vectors, quarters[1:])
    with pytest.raises(InputError, match="wrong shape"):
        FrameShifts(vectors[0], vectors[0], quarters)


def test_each_pass_of_guidance_is_told_its_own() -> None:
    told = shifts(3)
    text = ModalityConditioning(torch.zeros(1, 5, 8), torch.ones(1, 5, 8), frames=told)
    rows = [rows_of(text, one) for one in (NEGATIVE, POSITIVE)]
    view = View(torch.zeros(1, 4, 3, 2, 2), torch.zeros(1))
    shown = modality_of(view, joined(rows), (NEGATIVE, POSITIVE))
    assert torch.equal(shown.frames, torch.cat([told.negative, told.positive]))
    assert torch.equal(modality_of(view, rows[0], (NEGATIVE,)).frames, told.negative)
    without = replace(text, negative=None)
    assert torch.equal(rows_of(without, NEGATIVE).frames.positive, told.positive), "as its text there"
    assert modality_of(view, joined([replace(text, frames=None)] * 2), (NEGATIVE, POSITIVE)).frames is None


@pytest.mark.parametrize("way", READERS)
def test_readers_begin_as_zeros_and_learn(way: str) -> None:
    reader = READERS[way](6, 10)
    told = reader(torch.randn(2, 3, 6), torch.linspace(0.1, 0.9, 3))
    assert told.shape == (2, 3, 10) and not told.any() and not reader.null.any()
    (told * torch.randn(2, 3, 10)).sum().backward()
    assert bool(reader.latent.weight.grad.any())
