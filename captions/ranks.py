"""One process of several that ``accelerate launch`` started: its share of the clips, and its card.

accelerate's PartialState would connect the processes with each other. These have nothing to tell each other: one that
dies or waits for a server stops no other, and ``RANK`` and ``WORLD_SIZE`` set by hand are enough.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TypeVar

import torch

T = TypeVar("T")


def process_rank() -> int:
    """This process's number among those that were started together."""
    return int(os.environ.get("RANK", "0"))


def share_of(items: Iterable[T]) -> list[T]:
    """What this process takes of a list that all processes have alike; all of it for a process alone."""
    return list(items)[process_rank() :: int(os.environ.get("WORLD_SIZE", "1"))]


def own_device(name: str) -> str:
    """The device that ``auto`` means for this process: a card of its own where there are several.

    Args:
        name: Torch device, or auto. An explicit device is taken as it is.
    """
    rank = os.environ.get("LOCAL_RANK")
    if name != "auto" or rank is None or not torch.cuda.is_available():
        return name
    # Some launchers show each process one card only.
    return f"cuda:{int(rank) % torch.cuda.device_count()}"
