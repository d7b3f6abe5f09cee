"""Runs a stage so that it fits: picks a plan where that was left open, and tries once more after an out-of-memory."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import nn

from ...core.device import Placement
from ...core.residency import expecting
from .needs import Workload
from .outline import Outline
from .plans import Plan, choose, free_bytes, more_frugal, plans

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
class StageRun:
    """One stage of a run, as the planner needs to know it.

    Args:
        stage: One of :data:`~.needs.STAGES`.
        outline: Makes the outline of the modules that the stage runs.
        workload: What is to be made.
        modules: The real modules; after an out-of-memory they are moved off the device.
        batchings: Ways of guidance that may be used, fastest first.
        tilings: Ways of decoding that may be used, fastest first.
    """

    stage: str
    outline: Callable[[], Outline]
    workload: Workload
    modules: tuple[nn.Module, ...]
    batchings: Sequence[str] = ("sequential",)
    tilings: Sequence[str] = ("off",)

    def plans(self, placement: Placement) -> list[Plan]:
        """Ways to run the stage; between stages nothing stays on the device."""
        outline = self.outline()
        return plans(
            lambda storage: outline,  # it is that of the loaded modules, with their storage
            self.workload,
            placement,
            batchings=self.batchings,
            tilings=self.tilings,
            stays=placement.offload == "none",
        )

    def activation_bytes(self, placement: Placement, plan: Plan | None) -> int:
        """What the stage takes beside its weights, under a plan or as the placement says."""
        peaks = (plan or self.plans(placement)[0]).stages
        return max((peak.activation_bytes for peak in peaks if peak.stage == self.stage), default=0)


def run_fitting(
    run: StageRun,
    placement: Placement,
    attempt: Callable[[Placement, Plan | None], T],
) -> T:
    """Run a stage; ``offload="auto"`` is decided here, by what is free now.

    An out-of-memory is answered once: everything leaves the device and the stage runs again with the next plan that
    takes less. Offload and the order of guidance do not change the result; tiles do a little, and are only used where
    the caller allows them.

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
        choice = choose(run.plans(placement), free_bytes(placement.device), placement.device, stages=[run.stage])
        plan = choice.plan
        log.info("%s: %s", run.stage, choice.sentence)
        note(f"{run.stage}: {choice.sentence}")
    decided = plan.on(placement, run.stage) if plan else placement
    try:
        with expecting(lambda: run.activation_bytes(placement, plan)):
            return attempt(decided, plan)
    except torch.OutOfMemoryError as error:
        failure = error.with_traceback(None)  # its frames hold the failed attempt's tensors
    for module in run.modules:
        module.to("cpu")
    gc.collect()
    if placement.device.type == "cuda":
        torch.cuda.empty_cache()
    smaller = _smaller(run, decided, plan)
    if smaller is None:
        raise failure
    sentence = f"{run.stage} ran out of memory; once more with {smaller.describe()}"
    log.warning("%s", sentence)
    note(sentence)
    with expecting(lambda: run.activation_bytes(placement, smaller)):
        return attempt(smaller.on(placement, run.stage), smaller)


def _smaller(run: StageRun, placement: Placement, plan: Plan | None) -> Plan | None:
    """The next plan that takes less than what failed; storage stays as it is, the weights are stored already."""
    failed = plan or run.plans(placement)[0]
    candidates = run.plans(replace(placement, offload="auto"))
    later = [other for other in candidates if _rank(other) >= _rank(failed)]
    return more_frugal(later, failed, run.stage)


def _rank(plan: Plan) -> int:
    return ("none", "model", "group", "sequential").index(plan.offload)
