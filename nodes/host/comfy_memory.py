"""Our modules in ComfyUI's memory management: loaded, evicted and freed like its own models.

ComfyUI's registry holds patchers by weak references and a patcher holds its model by a strong one. Here the model of a
patcher is a stand-in that knows our module only weakly, and the patcher lives as long as the module does: nothing is
kept alive by being registered, and nothing waits for a garbage collection to leave.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import comfy.model_management as model_management
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor, nn

from ...core.device import Placement
from ...core.heap import trim_heap
from ...core.residency import expected_bytes

EVERYTHING = 1e32
# A module's tensors are freed right after it, and others die with it.
_TRIM_AFTER_SECONDS = 1.0


class StandIn(nn.Module):
    """A module as ComfyUI's patcher sees it, without keeping it alive.

    Whatever the stand-in does not have itself is read from the module. Since 0.12 the patcher reads every weight by its
    dotted name, patched or not; that and what other releases may read are names that torch gives to every module, so
    that nothing here rests on how a release of ComfyUI goes through a model.

    Args:
        module: What is really loaded.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._real = weakref.ref(module)
        # The patcher's own books: its idea of where the model is stands apart from where the module is.
        self.device: torch.device | None = None

    def __getattr__(self, name: str) -> Any:
        """Of the module: sub-modules, parameters and buffers by their names, dtypes and the rest."""
        reference = self.__dict__.get("_real")
        module = None if reference is None else reference()
        if module is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(module, name)

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Of the module; empty once it is gone."""
        module = self._real()
        return {} if module is None else module.state_dict(*args, **options)

    def named_modules(self, *args: Any, **options: Any) -> Iterator[tuple[str, nn.Module]]:
        """Of the module; ``modules`` goes through here."""
        module = self._real()
        return iter(()) if module is None else module.named_modules(*args, **options)

    def named_children(self) -> Iterator[tuple[str, nn.Module]]:
        """Of the module; ``children`` goes through here."""
        module = self._real()
        return iter(()) if module is None else module.named_children()

    def named_parameters(self, *args: Any, **options: Any) -> Iterator[tuple[str, nn.Parameter]]:
        """Of the module; ``parameters`` goes through here."""
        module = self._real()
        return iter(()) if module is None else module.named_parameters(*args, **options)

    def named_buffers(self, *args: Any, **options: Any) -> Iterator[tuple[str, Tensor]]:
        """Of the module; ``buffers`` goes through here."""
        module = self._real()
        return iter(()) if module is None else module.named_buffers(*args, **options)

    def to(self, *args: Any, **options: Any) -> StandIn:
        """Move the module."""
        module = self._real()
        if module is not None:
            module.to(*args, **options)
        return self


@lru_cache
def _stand_in_named(name: str) -> type[StandIn]:
    """ComfyUI's log names a model by its class."""
    return type(name, (StandIn,), {})


class HeapTrimmer:
    """Gives the memory of dropped models back to the system.

    glibc keeps what was freed for later use: after ``/free`` the process would look as large as before.
    """

    def __init__(self) -> None:
        self._waiting: threading.Timer | None = None

    def soon(self) -> None:
        """Once for all models that are dropped together."""
        if self._waiting is None or not self._waiting.is_alive():
            self._waiting = threading.Timer(_TRIM_AFTER_SECONDS, trim_heap)
            self._waiting.daemon = True
            self._waiting.start()


class ComfyMemory:
    """ComfyUI's manager behind the questions that our stages ask."""

    evicts = True

    def __init__(self) -> None:
        self._patchers: weakref.WeakKeyDictionary[nn.Module, ModelPatcher] = weakref.WeakKeyDictionary()
        self._heap = HeapTrimmer()

    @contextmanager
    def hold(self, module: nn.Module, placement: Placement) -> Iterator[None]:
        """Have ComfyUI load it; with offload ``none`` it stays until others need the room or ``/free`` is called."""
        patcher = self._patcher(module, placement.device)
        self._release_sharing(module)
        needed = 0 if placement.device.type == "cpu" else expected_bytes()
        # Our layers do not cast at use, so a part of them on the CPU would fail: all or an out-of-memory.
        model_management.load_models_gpu([patcher], memory_required=needed, force_full_load=True)
        # Under --novram, and after an out-of-memory, ComfyUI's books may say "loaded" for what is not there.
        module.to(placement.device)
        try:
            yield
        finally:
            if placement.offload != "none":
                self._unload(module)

    @contextmanager
    def stream(self, module: nn.Module, placement: Placement) -> Iterator[None]:
        """Streamed layers are not registered: they leave by themselves. Others make room for the computation."""
        self._unload(module)
        if placement.device.type != "cpu":
            needed = expected_bytes() + model_management.minimum_inference_memory()
            model_management.free_memory(needed, placement.device)
        yield

    def free_bytes(self, device: torch.device) -> int:
        """What is free, and what ComfyUI would move out."""
        free = model_management.get_free_memory(device)
        if device.type == "cpu":
            return free
        loaded = [entry for entry in model_management.current_loaded_models if entry.model is not None]
        return free + sum(entry.model_loaded_memory() for entry in loaded if entry.device == device)

    def clear(self, device: torch.device, besides: Collection[nn.Module] = ()) -> int:
        """Have ComfyUI move everything off a device, others' models too."""
        if device == torch.device("cpu"):
            return 0
        own = [patcher for patcher in map(self._patchers.get, besides) if patcher is not None]
        entries = [entry for entry in model_management.current_loaded_models if entry.device == device]
        others = [entry for entry in entries if not any(entry.model is patcher for patcher in own)]
        moved = sum(entry.model_loaded_memory() for entry in others if entry.model is not None)
        model_management.free_memory(EVERYTHING, device)
        model_management.soft_empty_cache()
        return moved

    def _patcher(self, module: nn.Module, device: torch.device) -> ModelPatcher:
        patcher = self._patchers.get(module)
        if patcher is None or patcher.load_device != device:
            self._unload(module)
            stand_in = _stand_in_named(type(module).__name__)(module)
            if patcher is None:
                weakref.finalize(module, self._heap.soon).atexit = False
            patcher = self._patchers[module] = ModelPatcher(stand_in, device, torch.device("cpu"))
        return patcher

    def _release_sharing(self, module: nn.Module) -> None:
        """Take other modules with the same weights out of the books: the weights would be counted twice."""
        own = {id(parameter) for parameter in module.parameters()}
        for other in list(self._patchers):
            if other is not module and not own.isdisjoint(map(id, other.parameters())):
                self._unload(other)

    def _unload(self, module: nn.Module) -> None:
        """Off the device and out of the registry."""
        patcher = self._patchers.get(module)
        entries = model_management.current_loaded_models
        if patcher is not None and any(entry.model is patcher for entry in entries):
            others = [entry for entry in entries if entry.model is not patcher]
            model_management.free_memory(EVERYTHING, patcher.load_device, keep_loaded=others)


MEMORY = ComfyMemory()
