"""Ways to run, fastest first, each with what it takes; and the choice of the first one that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import torch

from ...core.device import Placement
from ...core.errors import PlacementError
from ...core.residency import current_residency
from ...core.sizes import size_text
from ..storage import STREAMABLE
from .base import TILED_STAGES, ModelOutline, Workload
from .needs import Needs

# Offload of towers, offload of text encoders and weight storage, in the order of speed. Moving a whole model costs a
# second a clip, and so does streaming a text encoder, which runs twice; streaming the towers costs every step. Casting
# fp8 weights costs every step too, and rounds them, so exact weights go first wherever they are about as fast.
ORDER = (
    ("none", "none", "native"),
    ("model", "model", "native"),
    ("model", "group", "native"),
    ("model", "model", "fp8"),
    ("model", "group", "fp8"),
    ("group", "group", "native"),
    ("group", "group", "fp8"),
    ("sequential", "sequential", "native"),
    ("sequential", "sequential", "fp8"),
)
# Kept free on a card for what is not counted: kernels' scratch memory, cuBLAS, the allocator's rounding and gaps.
RESERVE_SHARE, RESERVE_BYTES = 0.05, 256 * 2**20
FRAME_COPIES = 3


@dataclass(frozen=True)
class StagePeak:
    """What one stage takes on the device.

    Args:
        stage: One of :data:`~.needs.CLIP_STAGES` and :data:`~.needs.STAGES`.
        weights_bytes: Weights that are there at the worst moment; on a CPU those that are not in memory yet.
        activation_bytes: What the forward keeps alive beside them.
        operations: Of the whole stage; of sampling, of one step.
    """

    stage: str
    weights_bytes: int
    activation_bytes: int
    operations: int = 0

    @property
    def bytes(self) -> int:
        """Both."""
        return self.weights_bytes + self.activation_bytes


@dataclass(frozen=True)
class Plan:
    """One way to run, and what it takes.

    Args:
        offload: Of the towers: ``none``, ``model``, ``group`` or ``sequential``.
        text_offload: Of the text encoders.
        storage: How weights are kept: ``native``, ``fp8``, ``int8`` or ``nf4``.
        dtype: Type of computation, for people.
        attention: Attention kernel.
        guidance_batching: ``batched`` or ``sequential``.
        tiling: Of the video codec: ``off``, ``on``, or ``N tiles`` that are larger than those of ``on``.
        stages: Peak of every stage.
        host_bytes: Main memory: all weights, and the decoded clip.
    """

    offload: str
    text_offload: str
    storage: str
    dtype: str
    attention: str
    guidance_batching: str
    tiling: str
    stages: tuple[StagePeak, ...]
    host_bytes: int

    @property
    def worst(self) -> StagePeak:
        """The stage that takes most."""
        return max(self.stages, key=lambda peak: peak.bytes)

    @property
    def peak_bytes(self) -> int:
        """The most that any stage takes on the device."""
        return self.worst.bytes

    def peak_of(self, stages: Iterable[str]) -> int:
        """The most that these stages take; 0 when the plan has none of them."""
        wanted = set(stages)
        return max((peak.bytes for peak in self.stages if peak.stage in wanted), default=0)

    def on(self, placement: Placement, stage: str) -> Placement:
        """A placement that runs a stage as planned."""
        return replace(placement, offload=self.text_offload if stage == "encode" else self.offload)

    def describe(self, stage: str | None = None) -> str:
        """In words; with a stage only what it is about."""
        texts = "" if stage or self.text_offload == self.offload else f" (text encoders {self.text_offload})"
        offload = self.text_offload if stage == "encode" else self.offload
        said = [f"offload {offload}{texts}, {self.storage} {self.dtype} weights"]
        if stage in (None, "sample"):
            said.append(f"guidance {self.guidance_batching}")
        if stage in (None, *TILED_STAGES):
            done = "encoded" if stage == "encode video" else "decoded"
            said.append(f"picture {done} {tiling_text(self.tiling)}")
        return ", ".join(said)

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {**asdict(self), "peak_bytes": self.peak_bytes, "worst_stage": self.worst.stage}


@dataclass(frozen=True)
class Choice:
    """The plan that was picked, and why.

    Args:
        plan: What to do.
        free_bytes: What was free.
        sentence: For people.
    """

    plan: Plan
    free_bytes: int
    sentence: str


def plans(
    outline_for: Callable[[str], ModelOutline], workload: Workload, placement: Placement, **ways: Any
) -> list[Plan]:
    """Every sensible way to run, fastest first; arguments as :func:`iter_plans`."""
    return list(iter_plans(outline_for, workload, placement, **ways))


def iter_plans(
    outline_for: Callable[[str], ModelOutline],
    workload: Workload,
    placement: Placement,
    *,
    batchings: Sequence[str] = ("sequential",),
    tilings: Sequence[str] = ("off", "on"),
    stays: bool = True,
) -> Iterator[Plan]:
    """Every sensible way to run, fastest first; what a way takes is counted when it is asked for.

    Args:
        outline_for: Gives the modules with their weights stored in a way.
        workload: What is to be made.
        placement: Device and types. An ``offload`` or ``storage`` other than ``auto`` is kept.
        batchings: Ways of guidance to consider, fastest first.
        tilings: Ways of decoding to consider, fastest first.
        stays: Whether ``auto`` may leave weights on the device between stages (offload ``none``).
    """
    needs: dict[str, Needs] = {}
    for way in _ways(placement, stays=stays):
        storage = way[2]
        if needs and storage not in needs and not next(iter(needs.values())).outline.packed:
            continue  # its weights are kept in one way only
        if storage not in needs:
            needs[storage] = Needs(outline_for(storage), workload)
        outline = needs[storage].outline
        if not {*way[:2]} <= {*outline.offloads}:
            continue
        tiled = outline.tiles and set(TILED_STAGES) & set(needs[storage].stages())
        for tiling, batching in product(tilings if tiled else tilings[:1], batchings):
            yield _plan(needs[storage], placement, way, batching, tiling)


def _ways(placement: Placement, *, stays: bool) -> list[tuple[str, str, str]]:
    """Offload and storage to consider. On a CPU the weights are where they are needed already."""
    asked, kept = placement.offload, "native" if placement.storage == "auto" else placement.storage
    whole = ("none", "model")
    if placement.device.type == "cpu":
        mode = "none" if asked == "auto" else asked
        return [(mode, mode, kept)]
    native = [way for way in ORDER if way[2] == "native"]
    ways = ORDER if placement.storage == "auto" else [(*way[:2], kept) for way in native]
    if kept not in STREAMABLE:
        ways = [way for way in ways if way[0] in whole and way[1] != "group"]
    if placement.partners:
        ways = [way for way in ways if way[0] in whole and way[2] == "native"]
    if asked != "auto":
        return [way for way in ways if way[0] == way[1] == asked]
    return [way for way in ways if stays or way[0] != "none"]


def _plan(needs: Needs, placement: Placement, way: tuple[str, str, str], batching: str, tiling: str) -> Plan:
    offload, text_offload, storage = way
    is_cpu = placement.device.type == "cpu"

    def weights(stage: str) -> int:
        if is_cpu:
            return needs.weights_to_come(stage)
        mode = text_offload if stage == "encode" else offload
        return needs.weights_on_device(stage, mode, prefetch=placement.device.type == "cuda")

    variant = {"batched": batching == "batched", "tiling": tiling}
    stages = tuple(
        StagePeak(stage, weights(stage), needs.activations(stage, **variant), needs.operations(stage, **variant))
        for stage in needs.stages()
    )
    clip = FRAME_COPIES * 4 * 3 * needs.outline.num_pixels(needs.workload)
    host = needs.kept_bytes() + max(needs.freed_bytes(), clip)
    if is_cpu:
        host += max(peak.activation_bytes for peak in stages)
    dtype = str(placement.dtype).removeprefix("torch.")
    return Plan(offload, text_offload, storage, dtype, placement.attention, batching, tiling, stages, host)


def tiling_text(tiling: str) -> str:
    """``whole``, ``in tiles`` or ``in 3 tiles``."""
    return {"off": "whole", "on": "in tiles"}.get(tiling, f"in {tiling}")


def required_bytes(num_bytes: int, device: torch.device) -> int:
    """What has to be free for a counted peak: more on a card, where not everything can be counted."""
    if device.type == "cpu":
        return num_bytes
    return int(num_bytes * (1 + RESERVE_SHARE)) + RESERVE_BYTES


def choose(candidates: Iterable[Plan], free_bytes: int, device: torch.device, *, stage: str | None = None) -> Choice:
    """The first plan that fits; those behind it are not asked for.

    Args:
        candidates: From :func:`iter_plans`, fastest first.
        free_bytes: Free memory of the device.
        device: Decides how much is kept in reserve.
        stage: Look at this stage only; None looks at all.

    Raises:
        PlacementError: none fits; says what the smallest needs and what is free.
    """

    def need(plan: Plan) -> int:
        return required_bytes(plan.peak_bytes if stage is None else plan.peak_of([stage]), device)

    too_large: list[Plan] = []
    for plan in candidates:
        if need(plan) <= free_bytes:
            sentence = f"{plan.describe(stage)}: needs {size_text(need(plan))} of {size_text(free_bytes)} free memory"
            if too_large:
                faster = too_large[-1]
                sentence += f"; the next faster plan ({faster.describe(stage)}) needs {size_text(need(faster))}"
            return Choice(plan, free_bytes, sentence)
        too_large.append(plan)
    smallest = min(too_large, key=need)
    worst = smallest.worst.stage if stage is None else stage
    raise PlacementError(
        f"no plan fits the memory of {device}",
        got=f"{size_text(free_bytes)} free",
        expected=f"{size_text(need(smallest))}, which the smallest plan needs "
        f"({smallest.describe(stage)}; stage {worst})",
        remedy="Make the clip smaller or shorter, end other programs on the device, or use --device cpu.",
    )


def more_frugal(
    candidates: Sequence[Plan], stage: str, *, below: int, free_bytes: int, device: torch.device
) -> Plan | None:
    """The fastest plan that takes less than an amount in a stage and fits; where none fits, the one that takes least.

    Args:
        candidates: From :func:`plans`, fastest first.
        stage: The stage that ran out of memory.
        below: What was taken then, with everything else that was on the device.
        free_bytes: Free memory of the device.
        device: Decides how much is kept in reserve.

    Returns:
        None when nothing takes less.
    """
    less = [plan for plan in candidates if plan.peak_of([stage]) < below]
    fitting = (plan for plan in less if required_bytes(plan.peak_of([stage]), device) <= free_bytes)
    return next(fitting, min(less, key=lambda plan: plan.peak_of([stage]), default=None))


def free_bytes(device: torch.device) -> int:
    """Memory that a stage can have on a device, counting what its owner would move out for it."""
    return current_residency().free_bytes(device)
