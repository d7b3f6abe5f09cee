"""Blocks of towers and bridges compiled by region: each class of blocks once, whatever their number and their weights.

diffusers' ``compile_repeated_blocks`` knows the classes of stock models only, no bridges, and leaves blocks compiled
for everybody who shares them, also for twins with a LoRA.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from ..core.device import Placement
from ..core.progress import ask_to_stop
from .joint import JointModel
from .storage import packing_of

_log = logging.getLogger(__name__)
BACKEND = "inductor"
# A text's tokens may be of any number: another prompt must not compile anew. Fewer than these are no text.
_FEW_TOKENS = 8


def regions(joint: JointModel) -> list[nn.Module]:
    """What is compiled: every block of the towers, and every bridge."""
    towers = [tower for tower in (joint.video, joint.audio) if tower is not None]
    return [*(block for tower in towers for block in tower.blocks), *(joint.bridges or ())]


def why_not_compiled(root: nn.Module, placement: Placement) -> str:
    """A sentence where blocks of a model cannot be compiled; empty where they can."""
    if not isinstance(root, JointModel):
        return "this model is not made of two towers, so its blocks are not compiled"
    if placement.partners:
        return "on two devices blocks are not compiled"
    if placement.offload in ("group", "sequential"):
        return f"with offload {placement.offload} the layers of a block come and go, so blocks are not compiled"
    if packing_of(root) != "native":
        return f"weights that are kept as {packing_of(root)} are unpacked layer by layer, so blocks are not compiled"
    from torch._dynamo import is_dynamo_supported

    if not is_dynamo_supported():
        return "torch.compile does not run with this Python, so blocks are not compiled"
    return ""


@contextmanager
def compiled(joint: JointModel, tell: Callable[[str], None], backend: str | Callable[..., Any] = "") -> Iterator[None]:
    """The blocks run compiled inside; where the compiler fails they run as they are, and that is told once.

    What was compiled is kept for later runs: a block of the same class, type and sizes is compiled once a process.

    Args:
        joint: Its blocks get a forward of their own for as long as this lasts.
        tell: Given a sentence.
        backend: Of ``torch.compile``; empty for the usual one.
    """
    attempt = _Attempt(tell)
    blocks = regions(joint)
    try:
        for block in blocks:
            block.forward = partial(attempt.run, block, _of_class(type(block), backend or BACKEND))
        yield
    finally:
        for block in blocks:
            block.__dict__.pop("forward", None)


@lru_cache
def _of_class(kind: type[nn.Module], backend: str | Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(kind.forward, backend=backend)


class _Attempt:
    """Runs blocks compiled, until the compiler fails."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self._failed = tell, False

    def run(self, block: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """One forward of a block; the user is asked before it whether he wants out."""
        ask_to_stop()
        if not self._failed:
            for argument in args[1:]:
                if isinstance(argument, Tensor) and argument.ndim == 3 and argument.shape[1] > _FEW_TOKENS:
                    torch._dynamo.maybe_mark_dynamic(argument, 1)
            try:
                return forward(block, *args, **kwargs)
            except _compiler_errors() as error:
                self._failed = True
                reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
                _log.warning("compiling failed", exc_info=error)
                self._tell(f"the compiler does not run here, so blocks run as they are ({reason})")
        return type(block).forward(block, *args, **kwargs)


def _compiler_errors() -> tuple[type[Exception], ...]:
    """What a compiler that is missing or fails raises, and no fault of the model."""
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor import exc

    return (TorchDynamoException, getattr(exc, "InductorError", TorchDynamoException))
