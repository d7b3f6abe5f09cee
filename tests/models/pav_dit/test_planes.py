"""Planes of PAV-DiT: laws 1, 2, 3, 5 and 10 of its reference that need no network."""

from __future__ import annotations

import itertools

import pytest
import torch
from sounding_video.core.errors import GeometryError
from sounding_video.models.pav_dit.planes import PlaneGrid, expand

GRIDS = [PlaneGrid(*each) for each in ((11, 8, 8), (4, 4, 4), (4, 2, 3), (1, 5, 2), (7, 1, 1), (16, 32, 32))]


def planes(grid, channels=3, batch=2):
    made = torch.arange(batch * channels * grid.length, dtype=torch.float32).reshape(batch, channels, -1)
    return grid.unpack(made), made


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_law_1_packing_and_unpacking_is_the_identity(grid):
    unpacked, packed = planes(grid)
    assert grid.length == grid.rows * grid.columns + grid.time * grid.columns + grid.time * grid.rows
    assert torch.equal(grid.pack(unpacked), packed)
    still, columns, rows = unpacked
    assert torch.equal(still.flatten(2), packed[..., : grid.rows * grid.columns]), "the still plane comes first"
    assert columns.shape[2:] == (grid.time, grid.columns) and rows.shape[2:] == (grid.time, grid.rows)
    assert torch.equal(still[0, 0, 0], packed[0, 0, : grid.columns]), "row by row"


def test_law_1_another_length_is_refused_with_the_grid():
    with pytest.raises(GeometryError, match=r"got \(1, 3, 241\); expected L = 240 for T 11, h 8, w 8"):
        GRIDS[0].unpack(torch.zeros(1, 3, 241))
    with pytest.raises(GeometryError, match="the volume has no extent: got 0×8×8"):
        PlaneGrid(0, 8, 8)


def test_law_2_expanding_is_the_sum_over_a_triple_loop():
    grid = PlaneGrid(4, 2, 3)
    unpacked, _ = planes(grid)
    leaves = [plane.clone().requires_grad_() for plane in unpacked]
    volume = expand(*leaves)
    for t, i, j in itertools.product(range(4), range(2), range(3)):
        still, columns, rows = (plane.detach() for plane in leaves)
        assert torch.equal(volume[:, :, t, i, j], still[:, :, i, j] + columns[:, :, t, j] + rows[:, :, t, i])
    volume.sum().backward()
    assert [leaf.grad.unique().tolist() for leaf in leaves] == [[4], [2], [3]], "the length of the axis summed up"


@pytest.mark.parametrize("patch", [1, 2, 3])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_law_3_stacking_is_undone_and_masks_count_places(grid, patch):
    unpacked, _ = planes(grid)
    stacked, mask = grid.stack(unpacked, patch), grid.mask(patch)
    assert stacked.shape[-2:] == mask.shape[1:] == grid.padded(patch) and not any(n % patch for n in mask.shape[1:])
    assert all(torch.equal(a, b) for a, b in zip(grid.unstack(stacked), unpacked, strict=True))
    assert mask.flatten(1).sum(1).tolist() == list(grid.places)
    assert not stacked.masked_select(~mask[:, None]).any()
    spoilt = torch.where(mask[:, None], stacked, 1e6)
    assert all(torch.equal(a, b) for a, b in zip(grid.unstack(spoilt), unpacked, strict=True))


def test_law_3_the_real_grid_has_2048_places_of_3072_a_modality():
    mask = PlaneGrid(16, 32, 32).mask(2)
    assert (int(mask.sum()), mask.numel()) == (2048, 3072)


def test_law_5_a_loss_does_not_know_how_much_was_padded():
    grid = PlaneGrid(4, 2, 3)
    (first, _), (second, _) = planes(grid), planes(grid)
    other = [plane.sin() for plane in second]
    losses = set()
    for patch in (1, 2, 4, 7):
        pair = [grid.pack(grid.unstack(grid.stack(each, patch))) for each in (first, other)]
        losses.add(float(torch.nn.functional.mse_loss(*pair)))
    assert len(losses) == 1


def test_law_10_a_turned_motion_plane_is_refused_by_its_shape():
    still, columns, rows = planes(GRIDS[0])[0]
    with pytest.raises(GeometryError, match="not the planes of this volume: got 8×8, 11×8, 8×11; expected 8×8, 11×8"):
        GRIDS[0].pack((still, columns, rows.mT))
