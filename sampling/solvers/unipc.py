"""UniPC for flow matching, as the Wan 2.1 repository configures it (order 2, bh2, corrector from the second step)."""

from __future__ import annotations

from diffusers import UniPCMultistepScheduler
from torch import Tensor

from . import SOLVERS


@SOLVERS.register("unipc")
def unipc(sigmas: Tensor, timesteps: Tensor) -> UniPCMultistepScheduler:
    """A deterministic solver for a flow ``x_t = (1 − σ)·x0 + σ·ε`` whose model predicts ``ε − x0``.

    Args:
        sigmas: ``(n + 1,)`` float32 below 1, falling, the last one 0.
        timesteps: ``(n,)``, what the tower is told; only counted here.
    """
    solver = UniPCMultistepScheduler(
        solver_order=2,
        solver_type="bh2",
        prediction_type="flow_prediction",
        predict_x0=True,
        use_flow_sigmas=True,
        lower_order_final=True,
        final_sigmas_type="zero",
    )
    # set_timesteps resets the state; its own points depend on the diffusers version and are replaced.
    solver.set_timesteps(len(timesteps))
    solver.sigmas, solver.timesteps = sigmas.clone(), timesteps.clone()
    solver.set_begin_index(0)
    return solver
