"""Solvers: one configured diffusers scheduler a file. The schedule says where to stop, the solver how to get there.

A variant says which processes it walks. ``start(process, sigmas, timesteps, **bounds)`` gives a fresh solver, which
walks ``sigmas`` ``(n + 1,)``, the last one 0, counts its steps from 0 and never looks a timestep up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ...core.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from ...core.protocols import Solver


class SolverVariant(Protocol):
    """How to make one kind of solver."""

    processes: frozenset[str]
    order: int  # the error of a step falls with this power of its width

    @classmethod
    def start(cls, process: str, sigmas: Tensor, timesteps: Tensor, **bounds: float) -> Solver:
        """A fresh solver."""
        ...


SOLVERS: Registry[SolverVariant] = Registry("solver", __name__)
