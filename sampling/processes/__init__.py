"""Processes: how a modality is noised and what its tower predicts, one a file, written once for everybody.

A tower sees ``x_t = α·x0 + σ·ε`` at its own time t in 0..1. A solver walks a state at its own level, which is called
sigma here as diffusers calls it: the flow time for ``flow``, the noise-to-signal ratio for ``cosine_v``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.registry import Registry

if TYPE_CHECKING:
    from ...core.protocols import Process

PROCESSES: Registry[Process] = Registry("process", __name__)


def equal_time(time: float, source: str, target: str) -> float:
    """The time of another process at the same ratio of signal to noise.

    Args:
        time: 0..1 of ``source``.
        source: Key of a process.
        target: Key of another.
    """
    return PROCESSES.get(target).from_flow(PROCESSES.get(source).to_flow(time))
