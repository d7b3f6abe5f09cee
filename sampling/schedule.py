"""A run's schedule: the points of both modalities and the solvers that walk them."""

from __future__ import annotations

from ..core.errors import InputError
from ..core.pair import Pair
from .processes import PROCESSES
from .schedules import SCHEDULES
from .schedules.base import ModalitySchedule, Points, Schedule, Steps
from .solvers import SOLVERS
from .words import AUTO


def build_schedule(
    name: str,
    num_steps: int,
    *,
    flow_sigmas: str = "diffusers-0.36",
    flow_shift: float = 3.0,
    solver: str = AUTO,
    audio_solver: str = AUTO,
    step_bend: float = 1.0,
    video: bool = True,
    audio: bool = True,
    processes: Pair[str] | None = None,
) -> Schedule:
    """Compute a schedule; it does not depend on the diffusers version that is installed.

    Args:
        name: A key of ``SCHEDULES``.
        num_steps: 1 to 1000.
        flow_sigmas: How the flow grid is spaced: as diffusers does up to 0.36 (what the authors' pins imply) or from
            0.37 on.
        flow_shift: Wan's shift towards high noise, 0.1 to 100; 3 for 480p, 5 for 720p.
        solver: A key of ``SOLVERS``, or ``auto`` for the one that belongs to the schedule and the process.
        audio_solver: The same for the sound alone; ``auto`` is ``solver``.
        step_bend: See :meth:`~.schedules.base.Steps.bent`.
        video: Whether a video is generated.
        audio: Whether sound is generated.
        processes: How the model's modalities are noised; None leaves it to the schedule. Where both are noised in one
            way they go together, along the points of the one whose process that is.

    Raises:
        InputError: a word that is not a choice, a number out of range, a solver that does not walk the process, a
            process for which the schedule has no points.
    """
    points = SCHEDULES.get(name)(Steps(num_steps, flow_sigmas, flow_shift, step_bend))
    points = points if processes is None else points.zip(processes).map(lambda own: _of_process(*own, points, name))
    wanted = Pair(points.video if video else None, points.audio if audio else None)
    solvers = (solver, solver if audio_solver == AUTO else audio_solver)
    return Schedule(name, num_steps, *(one and _modality(one, own) for one, own in zip(wanted, solvers, strict=True)))


def _of_process(own: Points, process: str | None, points: Pair[Points], schedule: str) -> Points:
    """A modality's points; those of the other one where they are of its process and its own are not."""
    found = next((one for one in (own, *points) if process in (None, one.process)), None)
    if found is None:
        raise InputError(
            f"the schedule {schedule} has no points for the process of this model",
            got=process,
            expected=" or ".join(dict.fromkeys(one.process for one in points)),
        )
    return found


def _modality(points: Points, solver: str) -> ModalitySchedule:
    """One modality's points with the solver that walks them."""
    chosen = (points.solver or PROCESSES.get(points.process).solver) if solver == AUTO else solver
    variant = SOLVERS.get(chosen)
    if points.process not in variant.processes:
        raise InputError(
            f"the solver {chosen} does not walk the process {points.process}",
            got=f"solver {chosen}, which walks {', '.join(sorted(variant.processes))}",
            expected="auto or " + ", ".join(name for name in SOLVERS if points.process in SOLVERS.get(name).processes),
        )
    return ModalitySchedule(points.process, points.sigmas, points.timesteps, variant, points.bounds)
