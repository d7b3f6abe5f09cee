"""Run inside a real ComfyUI's Python path: our side of its memory management, on a card made of numbers.

``cpu:0`` is not ``cpu`` to ComfyUI, so its eviction really runs; how much of the card is free is counted from what is
registered. Prints one line a fact; raises on a false one.
"""

from __future__ import annotations

import gc
import sys
import weakref
from contextlib import contextmanager

import comfy.options

# As ComfyUI's main.py starts: the manager reads the command line when it is imported.
sys.argv = ["main.py", "--cpu"]
comfy.options.enable_args_parsing()

import comfy.model_management as model_management  # noqa: E402
import torch  # noqa: E402
from comfy.model_patcher import ModelPatcher  # noqa: E402
from sounding_video.core.device import Placement  # noqa: E402
from sounding_video.core.residency import expecting, managed_by  # noqa: E402
from sounding_video.models.placement import on_device  # noqa: E402
from sounding_video.nodes.host.comfy_memory import ComfyMemory  # noqa: E402
from torch import nn  # noqa: E402

CARD = torch.device("cpu:0")
MIB = 2**20
STAYS = Placement(CARD, torch.float32)


def linear(mib: int) -> nn.Module:
    return nn.Sequential(nn.Linear(512, mib * MIB // 4 // 512, bias=False))


def registered() -> list[str]:
    return [type(entry.model.model).__name__ for entry in model_management.current_loaded_models]


@contextmanager
def card_of(mib: int):
    def free(device=None, torch_free_too=False):
        taken = sum(entry.model_loaded_memory() for entry in model_management.current_loaded_models)
        left = mib * MIB - taken
        return (left, left) if torch_free_too else left

    kept, model_management.get_free_memory = model_management.get_free_memory, free
    try:
        yield
    finally:
        model_management.get_free_memory = kept


def main() -> None:
    memory = ComfyMemory()
    reserve = int(model_management.minimum_inference_memory() / MIB) + 1

    def use(module: nn.Module, placement: Placement = STAYS) -> None:
        with managed_by(memory), on_device(module, placement):
            assert registered().count(type(module).__name__) >= 1
            assert memory._patchers[module].loaded_size() == sum(p.nbytes for p in module.parameters())

    class Tower(nn.Sequential):
        pass

    class Dynamic(ModelPatcher):
        """Says of itself what core's own patchers say on cards with dynamic loading."""

        def is_dynamic(self) -> bool:
            return True

    ours, other = Tower(linear(8)), ModelPatcher(linear(8), CARD, torch.device("cpu"))
    with card_of(reserve + 20):
        use(ours)
        assert registered() == ["Tower"]
        model_management.load_models_gpu([other])
        assert registered() == ["Sequential", "Tower"], "both fit"
        print("fits: both stay")
        big = ModelPatcher(linear(18), CARD, torch.device("cpu"))
        model_management.load_models_gpu([big])
        assert memory._patchers[ours].loaded_size() == 0
        print("a native model evicts ours")
        use(ours)
        assert registered()[0] == "Tower" and big.loaded_size() < 18 * MIB
        print("ours evicts a native model")
        assert memory.free_bytes(CARD) == model_management.get_free_memory(CARD)  # a processor has nothing to move out
        use(ours, Placement(CARD, torch.float32, "model"))
        assert "Tower" not in registered()
        print("offload leaves nothing registered")
        other = ModelPatcher(linear(8), CARD, torch.device("cpu"))
        use(ours)
        model_management.load_models_gpu([other])
        shared = Tower(*ours)
        use(shared)
        assert registered().count("Tower") == 1, "weights are in the books once"
        print("a twin that shares its weights takes their place in the books")
        model_management.unload_all_models()
        model_management.free_memory(1e32, CARD)
        assert registered() == []
        use(ours)
        with memory.stream(ours, Placement(CARD, torch.float32, "group")):
            assert registered() == []
        print("a streamed module is not registered")
        use(ours)
        model_management.load_models_gpu([other])
        assert memory.clear(CARD, besides=[ours]) == 8 * MIB and registered() == []
        print("after an out-of-memory everything leaves")
        use(ours)
        with expecting(lambda: 1):
            pass
        if hasattr(ModelPatcher, "is_dynamic"):
            dynamic = Dynamic(linear(18), CARD, torch.device("cpu"))
            dynamic.model.dynamic_pins = {CARD: {"active": False, "current_prompt": False}}
            model_management.load_models_gpu([dynamic])
            use(ours)
            model_management.load_models_gpu([dynamic])
            assert registered().count("Tower") <= 1
            model_management.unload_all_models()
            model_management.free_memory(1e32, CARD)
            assert registered() == []
            print("ours and a dynamically loaded model stand beside each other")
            del dynamic
    gone, patcher = weakref.ref(ours), weakref.ref(memory._patchers[ours])
    gc.disable()
    del ours, shared
    assert gone() is None and patcher() is None and registered() == [], "no collection is needed"
    print("dropping the module drops it from the registry at once")


main()
print("done")
