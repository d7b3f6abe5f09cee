"""Runs a stage so that it fits: picks a plan where that was left open, and tries once more after an out-of-memory."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import nn

from ...core.device import Placement
from ...core.residency import current_residency, expecting
from ..codecs._tiles import OWN, pieces
from ..placement import on_device
from .base import ModelOutline, Workload
from .plans import Plan, choose, free_bytes, iter_plans, more_frugal, required_bytes

log = logging.getLogger(__name__)
T = TypeVar("T")
_NOTES: ContextVar[list[str] | None] = ContextVar("notes", default=None)


@contextmanager
def noted() -> Iterator[list[str]]:
    """Collects a sentence for every plan that is picked and every second attempt while the block runs."""
    notes: list[str] = []
    token = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(token)


def note(sentence: str) -> None:
    """Add a sentence for whoever collects them."""
    notes = _NOTES.get()
    if notes is not None:
        notes.append(sentence)


@dataclass(frozen=True)
class How:
    """What was decided of a stage before it begins.

    Args:
        placement: Where, with the way of offload that is used.
        batching: Of guidance: ``batched`` or ``sequential``.
        tiling: Of the picture's codec: ``on`` or ``off``.
    """

    placement: Placement
    batching: str
    tiling: str

    @property
    def device(self) -> torch.device:
        """Where the stage computes."""
        return self.placement.device


@dataclass(frozen=True)
class Stage:
    """One stage of a run: what the planner needs to know of it, and the one place where it is run.

    What a stage computes is written as if memory were endless; :meth:`run` decides how it is run, brings its module to
    the device, and repeats it with less where it ran out of memory.

    Args:
        name: One of :data:`~.base.CLIP_STAGES` and :data:`~.base.STAGES`.
        outline: Makes the outline of the modules that the stage runs.
        workload: What is to be made.
        modules: The real modules, loaded.
        batchings: Ways of guidance that may be used, fastest first.
        tilings: Ways of decoding that may be used, fastest first.
        resident: Brings the modules to the device for a block; None brings the first one.
    """

    name: str
    outline: Callable[[], ModelOutline]
    workload: Workload
    modules: tuple[nn.Module, ...]
    batchings: Sequence[str] = ("sequential",)
    tilings: Sequence[str] = ("off",)
    resident: Callable[[Placement], AbstractContextManager[Any]] | None = None

    def run(self, placement: Placement, work: Callable[[How], T]) -> T:
        """Run the stage so that it fits.

        Args:
            placement: Where; with offload ``auto`` the way is decided here.
            work: What is computed; its modules are on the device.

        Raises:
            PlacementError, torch.OutOfMemoryError: as :func:`run_fitting`.
        """
        run = self if placement.offload == "auto" else replace(self, tilings=self._tilings(placement))

        def attempt(where: Placement, plan: Plan | None) -> T:
            batching, tiling = (plan.guidance_batching, plan.tiling) if plan else (run.batchings[0], run.tilings[0])
            resident = self.resident(where) if self.resident else on_device(self.modules[0], where)
            with resident:
                return work(How(where, batching, tiling))

        return run_fitting(run, placement, attempt)

    def plans(self, placement: Placement, *, stays: bool = False) -> Iterator[Plan]:
        """Ways to run the stage; with ``auto`` and unless it ``stays``, nothing is on the device between stages."""
        outline = replace(self.outline(), is_loaded=True)
        return iter_plans(
            lambda storage: outline,  # it is that of the loaded modules, with their storage
            self.workload,
            placement,
            batchings=self.batchings,
            tilings=self.tilings,
            stays=stays,
        )

    def _tilings(self, placement: Placement) -> Sequence[str]:
        """Where all ways cut the picture, those from the first one that fits on; nobody asked for a larger one."""
        if len(self.tilings) == 1 or self.tilings[0] == "off":
            return self.tilings
        free = free_bytes(placement.device)
        for plan in self.plans(placement):
            if required_bytes(plan.peak_of([self.name]), placement.device) <= free:
                return self.tilings[self.tilings.index(plan.tiling) :]
        return self.tilings[-1:]

    def activation_bytes(self, placement: Placement, plan: Plan | None) -> int:
        """What the stage takes beside its weights, under a plan or as the placement says."""
        peaks = (plan or next(self.plans(placement))).stages
        return max((peak.activation_bytes for peak in peaks if peak.stage == self.name), default=0)


def run_fitting(
    run: Stage,
    placement: Placement,
    attempt: Callable[[Placement, Plan | None], T],
) -> T:
    """Run a stage; ``offload="auto"`` is decided here, by what is free now.

    An out-of-memory is answered once: everything leaves the device, what other stages left there too, and the stage
    runs again with the fastest plan that takes less and fits. Offload and the order of guidance do not change the
    result; tiles do a little, and are only used where the caller allows them.

    Args:
        run: What is run.
        placement: Where, and with which offload.
        attempt: Runs the stage with a placement whose offload is decided; the plan is None for what the caller asked.

    Raises:
        PlacementError: no plan fits what is free.
        torch.OutOfMemoryError: the second attempt failed too, or there is nothing more frugal.
    """
    plan = None
    if placement.offload == "auto":
        residency = current_residency()
        if not residency.evicts:  # what an earlier run with offload none left, nobody else moves off
            residency.clear(placement.device)
        candidates = run.plans(placement, stays=residency.evicts)
        choice = choose(candidates, free_bytes(placement.device), placement.device, stage=run.name)
        plan = choice.plan
        log.info("%s: %s", run.name, choice.sentence)
        note(f"{run.name}: {choice.sentence}")
    decided = plan.on(placement, run.name) if plan else placement
    try:
        with expecting(lambda: run.activation_bytes(placement, plan)):
            return attempt(decided, plan)
    except torch.OutOfMemoryError as error:
        failure = error.with_traceback(None)  # its frames hold the failed attempt's tensors
    for module in run.modules:
        module.to("cpu")
    moved = current_residency().clear(placement.device, besides=run.modules)
    gc.collect()
    if placement.device.type == "cuda":
        torch.cuda.empty_cache()
    smaller = _smaller(run, decided, plan, moved)
    if smaller is None:
        raise failure
    alone = "; what was left on the device has been moved off" if moved else ""
    sentence = f"{run.name} ran out of memory; once more with {smaller.describe(run.name)}{alone}"
    log.warning("%s", sentence)
    note(sentence)
    with expecting(lambda: run.activation_bytes(placement, smaller)):
        return attempt(smaller.on(placement, run.name), smaller)


def _smaller(run: Stage, placement: Placement, plan: Plan | None, moved: int) -> Plan | None:
    """A plan that takes less than what failed; storage stays as it is, the weights are stored already.

    Args:
        run: What failed.
        placement: On what.
        plan: With which plan, or None for the placement as it was asked for.
        moved: Bytes of others that were on the device and have left.
    """
    failed = plan or next(run.plans(placement))
    # What was foretold was wrong: of tiles only the smallest are tried then.
    words = dict.fromkeys(tiling if pieces(tiling) is None else OWN for tiling in run.tilings)
    ways = replace(run, tilings=tuple(words)).plans(replace(placement, offload="auto"))
    later = [other for other in ways if _rank(other) >= _rank(failed)]
    device, below = placement.device, failed.peak_of([run.name]) + moved
    return more_frugal(later, run.name, below=below, free_bytes=free_bytes(device), device=device)


def _rank(plan: Plan) -> int:
    return ("none", "model", "group", "sequential").index(plan.offload)
