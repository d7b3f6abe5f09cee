"""Progress and cancel inside one stock forward: hooks on the modules it calls again and again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from ..core.progress import Progress


@contextmanager
def counted(parts: Iterable[nn.Module], stage: str, total: int, progress: Progress, *, done: int = 0) -> Iterator[None]:
    """Report each call of one of ``parts`` as a unit, and give the user the chance to stop after it.

    Args:
        parts: Modules whose calls are the units: a decoder that runs once a latent frame, the blocks of an encoder.
        stage: Name of the stage.
        total: Units in the stage.
        progress: Told of ``done`` at once and after every call.
        done: Units of the stage that are behind already.
    """

    def count(*_: Any) -> None:
        nonlocal done
        done += 1
        progress.step(stage, done, total)

    progress.step(stage, done, total)
    with ExitStack() as hooks:
        for part in parts:
            hooks.callback(part.register_forward_hook(count).remove)
        yield
