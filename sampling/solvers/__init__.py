"""Solvers: one configured diffusers scheduler a file. The schedule says where to stop, the solver how to get there.

A variant is a function ``(sigmas, timesteps, **settings) -> Solver`` that gives a fresh solver, which walks
``sigmas`` ``(n + 1,)``, the last one 0, counts its steps from 0 and never looks a timestep up.
"""

from __future__ import annotations

from collections.abc import Callable

from ...core.protocols import Solver
from ...core.registry import Registry

SOLVERS: Registry[Callable[..., Solver]] = Registry("solver", __name__)
