"""How many bytes each stage takes: weights by offload mode, and what a forward keeps alive beside them.

Stages run one after the other: encode a clip that is given, encode the captions, sample, decode the picture, decode the
sound. Weights follow from :mod:`..placement`:

=============  ==========================================================================================
``none``       everything that was used once stays on the device, so all parts count in every stage; of text encoders
               that are let go of after use only one, and only while captions are encoded
``model``      the parts of the stage: one text encoder, or towers with bridges, or one codec
``group``      of towers, bridges and text encoders the layers that are in flight (two on CUDA, where the next one is
               fetched while one computes); codecs as in ``model``
``sequential`` the same with one layer
=============  ==========================================================================================

What a forward keeps alive is counted on ``meta`` (:mod:`.tracking`) by running the real modules on the real shapes. The
largest moment of a Wan block at L tokens of width D with feed-forward width E, for orientation: residual stream
``L·D``, its normed copy ``L·D``, the hidden layer ``L·E`` and its GELU ``L·E``, in the tower's type.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor, nn

from ..storage import BYTES_PER_WEIGHT, saved_bytes
from .base import CLIP_STAGES, STAGES, TILED_STAGES, ModelOutline, Workload
from .tracking import Cost

__all__ = ["CLIP_STAGES", "STAGES", "TILED_STAGES", "Needs", "Workload", "num_bytes", "streamed_bytes"]


@dataclass(frozen=True, eq=False)
class Needs:
    """Bytes of one model for one workload; each forward is counted when it is first asked for.

    Args:
        outline: The modules.
        workload: The shapes.
    """

    outline: ModelOutline
    workload: Workload
    _counted: dict[tuple[str, bool, str], Cost] = field(default_factory=dict, repr=False)

    def weights(self) -> dict[str, int]:
        """Bytes of each part that is there."""
        return dict(self._weights)

    @cached_property
    def _weights(self) -> dict[str, int]:
        storage, parts = self.outline.storage, self.outline.parts()
        whole = {name: num_bytes(module) for name, module in parts.items()}
        if storage in BYTES_PER_WEIGHT:
            for name in self.outline.packed:
                if name in whole:
                    whole[name] -= saved_bytes(parts[name], storage)
        return whole

    def weights_on_device(self, stage: str, offload: str, *, prefetch: bool) -> int:
        """Bytes of weights on the device at the worst moment of a stage.

        Args:
            stage: One of ``CLIP_STAGES`` and ``STAGES``.
            offload: ``none``, ``model``, ``group`` or ``sequential``.
            prefetch: Whether ``group`` fetches one layer ahead (CUDA).
        """
        parts, weights = self.outline.parts(), self._weights
        if offload == "none":
            return self.kept_bytes() + (self.freed_bytes() if stage == "encode" else 0)
        names = [name for name in parts if stage in self.outline.used_in(name)]
        whole = {name: weights[name] for name in names}
        if offload == "model" or stage not in ("sample", "encode"):
            return max(whole.values(), default=0) if stage == "encode" else sum(whole.values())
        ahead = 1 if offload == "group" and prefetch else 0
        return streamed_bytes((parts[name] for name in names), ahead)

    def kept_bytes(self) -> int:
        """Bytes of all weights that stay in memory from stage to stage."""
        return sum(size for name, size in self._weights.items() if name not in self.outline.freed)

    def freed_bytes(self) -> int:
        """Bytes of the largest text encoder that is read for the captions and let go of; they come one by one."""
        return max((size for name, size in self._weights.items() if name in self.outline.freed), default=0)

    def weights_to_come(self, stage: str) -> int:
        """Bytes of weights that a stage brings into main memory on a CPU: what is loaded takes no more of it."""
        return self.weights_on_device(stage, "none", prefetch=False) - self.kept_bytes() * self.outline.is_loaded

    def activations(self, stage: str, *, batched: bool = False, tiling: str = "off") -> int:
        """Bytes that a stage keeps alive beside the weights.

        Args:
            stage: One of ``CLIP_STAGES`` and ``STAGES``.
            batched: Sampling: both guidance passes as one batch.
            tiling: Encoding or decoding the picture: ``off``, ``on`` (the codec's own tiles) or ``N tiles``.
        """
        return self._cost(stage, batched, tiling).peak_bytes

    def operations(self, stage: str, *, batched: bool = False, tiling: str = "off") -> int:
        """Operations of a whole stage, of sampling those of one step; arguments as in :meth:`activations`."""
        return self._cost(stage, batched, tiling).operations

    def _cost(self, stage: str, batched: bool, tiling: str) -> Cost:
        ways = {"batched": stage == "sample" and batched, "tiling": tiling if stage in TILED_STAGES else "off"}
        key = (stage, *ways.values())
        if key not in self._counted:
            self._counted[key] = self.outline.cost(stage, self.workload, **ways)
        return self._counted[key]

    def stages(self) -> tuple[str, ...]:
        """The stages that the workload has."""
        return self.outline.stages(self.workload)


def num_bytes(module: nn.Module) -> int:
    """Bytes of a module's parameters and buffers, each storage once."""
    return sum({id(t.untyped_storage()): t.untyped_storage().nbytes() for t in _tensors(module)}.values())


def streamed_bytes(modules: Iterable[nn.Module], ahead: int = 0) -> int:
    """The most bytes of weights on the device when layers come and go one at a time.

    A layer's own tensors, and those that stand directly in the modules around it (a block's modulation table); the
    buffers of all modules stay.

    Args:
        modules: What is walked through.
        ahead: Layers that are fetched before their turn.
    """
    modules = list(modules)
    buffers = sum(buffer.nbytes for module in modules for buffer in module.buffers())
    seen: set[int] = set()
    sizes = sorted((size for module in modules for size in _layers(module, 0, seen)), reverse=True)
    return buffers + sum(sizes[: 1 + ahead])


def _layers(module: nn.Module, above: int, seen: set[int]) -> Iterator[int]:
    """Bytes with each layer in turn on the device; a tensor under two names is one layer's."""
    own = [parameter for parameter in module.parameters(recurse=False) if id(parameter) not in seen]
    seen.update(map(id, own))
    total = above + sum(parameter.nbytes for parameter in own)
    children = list(module.children())
    if not children:
        yield total
    for child in children:
        yield from _layers(child, total, seen)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
