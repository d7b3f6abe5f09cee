"""Who moves modules to the device: the plain way, and what is told to a manager."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from small_models import Sheet
from sounding_video.core import residency
from sounding_video.core.device import Placement
from sounding_video.core.residency import (
    Moving,
    bytes_on,
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


def test_what_stayed_counts_as_free_until_it_is_cleared(monkeypatch):
    manager, staying, other = Moving(), Sheet(100), Sheet(10)
    for module in (staying, other):
        with manager.hold(module, Placement(META, torch.float32)):
            pass
    monkeypatch.setattr(residency, "unused_bytes", lambda device: 5)
    assert (manager.free_bytes(META), manager.free_bytes(torch.device("cpu"))) == (445, 5)
    assert manager.clear(torch.device("cpu")) == 0 and staying.weight.device == META
    assert manager.clear(META, besides=[other]) == 400
    assert {staying.weight.device.type, other.weight.device.type} == {"cpu"}
    assert manager.clear(META) == 0


def test_a_device_without_an_index_is_any_of_its_kind():
    """Tensors on a card carry one, a placement may not."""

    class OnCard:
        def parameters(self):
            return [SimpleNamespace(nbytes=3, device=torch.device("cuda", 1))]

        def buffers(self):
            return []

    sizes = [bytes_on(OnCard(), torch.device(name)) for name in ("cuda", "cuda:1", "cuda:0", "cpu")]
    assert sizes == [3, 3, 0, 0]


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
