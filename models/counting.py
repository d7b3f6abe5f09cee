"""Progress and cancel inside one stock forward: hooks on the modules it calls again and again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ..core.progress import Progress, ask_to_stop, can_be_stopped


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


@contextmanager
def stopping(root: nn.Module) -> Iterator[None]:
    """Every layer of ``root`` asks before it computes whether the user wants out (:func:`~..core.progress.stoppable`).

    So a stop is honoured within one layer of whatever runs, however large it is: a text encoder, a tower, a bridge, a
    codec in the middle of a frame. Asking takes a microsecond, a layer at least ten.
    """
    with ExitStack() as hooks:
        if can_be_stopped():
            for part in root.modules():
                if next(part.children(), None) is None:
                    hooks.callback(part.register_forward_pre_hook(_ask).remove)
        yield


def _ask(*_: Any) -> None:
    # Inside a compiled block nobody is asked, but before each (models/compiled.py).
    if not torch.compiler.is_compiling():
        ask_to_stop()


@contextmanager
def stopping_calls() -> Iterator[None]:
    """Every tensor operation inside the block asks: for loops that are not ours, such as a library's loader."""
    with _AskingCalls() if can_be_stopped() else nullcontext():
        yield


class _AskingCalls(TorchFunctionMode):
    """Asks at every operation of this thread."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Ask, then do it."""
        # Leaving ``no_grad`` is such a call too: stopped there, the thread would stay without gradients.
        if function is not torch._C._set_grad_enabled:
            ask_to_stop()
        return function(*args, **(kwargs or {}))
