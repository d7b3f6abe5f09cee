"""Who moves modules to the device: the plain way, and what is told to a manager."""

from __future__ import annotations

import pytest
import torch
from sounding_video.core.device import Placement
from sounding_video.core.residency import (
    Moving,
    current_residency,
    expected_bytes,
    expecting,
    managed_by,
    module_bytes,
    unused_bytes,
)
from torch import nn

META = torch.device("meta")  # a second device on any machine; what is moved there loses its numbers


def test_without_a_manager_modules_are_moved_in_and_out():
    assert isinstance(current_residency(), Moving)
    staying, leaving = nn.Linear(2, 2), nn.Linear(2, 2)
    with current_residency().hold(staying, Placement(META, torch.float32)):
        assert staying.weight.device == META
    assert staying.weight.device == META
    with pytest.raises(NotImplementedError), current_residency().hold(leaving, Placement(META, torch.float32, "model")):
        pass  # leaving "meta" cannot work, which shows that the way out is taken


def test_a_manager_is_in_charge_inside_its_block_only():
    manager = Moving()
    with managed_by(manager):
        assert current_residency() is manager
    assert current_residency() is not manager


def test_the_expectation_is_counted_only_when_somebody_asks():
    asked = []

    def count() -> int:
        asked.append(True)
        return 7

    assert expected_bytes() == 0
    with expecting(count):
        assert not asked
        assert expected_bytes() == 7
    assert expected_bytes() == 0


def test_bytes():
    module = nn.Linear(3, 5)
    module.register_buffer("table", torch.zeros(4, dtype=torch.float64))
    module.tied = module.weight
    assert module_bytes(module) == 4 * (15 + 5) + 32
    assert 0 < Moving().free_bytes(torch.device("cpu")) < 2**50
    assert unused_bytes(torch.device("cpu")) > 0
