"""The manager without ComfyUI: what stays, what goes first, what is not kept alive.

The second device is ``meta``: real modules really move there; its size is a number in the test.
"""

from __future__ import annotations

import gc
import weakref
from collections import OrderedDict

import pytest
import torch
from small_models import Sheet
from sounding_video.core.device import Placement
from sounding_video.core.residency import expecting, managed_by, module_bytes
from sounding_video.headless.runner import run_workflow
from sounding_video.models.conditioning import REMEMBERED
from sounding_video.models.placement import on_device
from sounding_video.nodes.host import managed_memory, standalone
from sounding_video.nodes.host.memory import MEMORY, LastUsedFirst
from torch import nn

META, CPU = torch.device("meta"), torch.device("cpu")
STAYS = Placement(META, torch.float32)


def card(num_bytes: int, sheets: list[Sheet]) -> LastUsedFirst:
    """A manager of a device of so many bytes."""
    return LastUsedFirst(lambda device: num_bytes - sum(module_bytes(s) for s in sheets if s.device == device))


def use(memory: LastUsedFirst, module: nn.Module, placement: Placement = STAYS) -> None:
    with managed_by(memory), on_device(module, placement) as held:
        assert held.weight.device == placement.device


def test_what_was_used_longest_ago_leaves_first():
    sheets = [Sheet(100), Sheet(100), Sheet(100)]
    memory = card(900, sheets)
    use(memory, sheets[0])
    use(memory, sheets[1])
    use(memory, sheets[0])
    assert [resident.num_bytes for resident in memory.residents()] == [400, 400]
    assert memory.free_bytes(META) == 900
    use(memory, sheets[2])
    assert [sheet.device for sheet in sheets] == [META, CPU, META]


def test_room_is_made_for_what_is_computed_too():
    sheets = [Sheet(100), Sheet(100)]
    memory = card(900, sheets)
    use(memory, sheets[0])
    with expecting(lambda: 99):
        use(memory, sheets[1])
    assert sheets[0].device == META
    with expecting(lambda: 101):
        use(memory, sheets[1])
    assert sheets[0].device == CPU


def test_a_streamed_module_is_not_registered_and_makes_room():
    sheets = [Sheet(100), Sheet(100)]
    memory = card(900, sheets)
    use(memory, sheets[0])
    use(memory, sheets[1])
    with expecting(lambda: 600), memory.stream(sheets[1], Placement(META, torch.float32, "group")):
        assert [sheet.device for sheet in sheets] == [CPU, CPU]
        assert memory.residents() == []


def test_offload_leaves_nothing_behind():
    sheet = Sheet(10)
    memory = card(1000, [sheet])
    use(memory, sheet, Placement(META, torch.float32, "model"))
    assert (sheet.device, memory.residents()) == (CPU, [])


def test_unload_moves_everything_off_and_nothing_is_kept_alive():
    sheets = [Sheet(10), Sheet(10)]
    memory = card(1000, sheets)
    for sheet in sheets:
        use(memory, sheet)
    gone = weakref.ref(sheets.pop())
    del sheet
    assert gone() is None
    assert len(memory.residents()) == 1
    memory.unload()
    assert (sheets[0].device, memory.residents()) == (CPU, [])


def test_shared_weights_do_not_push_each_other_out():
    """A model with a LoRA shares its weights with the one without."""
    first, second = Sheet(100), nn.Module()
    memory = card(500, [first])
    use(memory, first)
    second.weight = first.weight
    with expecting(lambda: 90), memory.hold(second, STAYS):
        assert first.device == META


def test_a_failing_stage_still_leaves():
    sheet = Sheet(10)
    memory = card(1000, [sheet])
    with pytest.raises(RuntimeError, match="in the stage"), memory.hold(sheet, Placement(META, torch.float32, "model")):
        raise RuntimeError("in the stage")
    assert (sheet.device, memory.residents()) == (CPU, [])


def test_a_workflow_goes_through_the_manager_and_its_models_vanish_with_it(graph, tmp_path, small_models_dir):
    seen = []
    hold = MEMORY.hold

    def spy(module: nn.Module, placement: Placement):
        seen.append(type(module).__name__)
        return hold(module, placement)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MEMORY, "hold", spy)
        # Captions that another test encoded are remembered, and their encoders would not be asked.
        patch.setattr(REMEMBERED, "_entries", OrderedDict())
        run_workflow(graph, output_dir=tmp_path, models_dir=small_models_dir, device="cpu")
    assert {"JointModel", "WanVAECodec", "OobleckCodec", "UMT5TextEncoder", "T5TextEncoder"} <= set(seen)
    gc.collect()
    assert MEMORY.residents() == []
    with managed_memory():
        pass
    standalone.make_room()
