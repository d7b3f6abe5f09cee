"""Keeps the model libraries' own talk off the screen, and turns a full memory into a sentence."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ..core.errors import PlacementError

UNTRAINED = "The model is untrained: picture and sound are noise that only shows that every part works."


# Packages of the extras: diffusers and transformers import them where they are installed, whatever a run uses, and they
# complain of what they miss themselves.
_BYSTANDERS = ("bitsandbytes", "torchao", "kernels", "peft", "accelerate")


def quiet_libraries() -> None:
    """Errors only and no progress bars from diffusers and transformers: they report each file they open.

    Likewise from packages that these import and the run does not use.
    """
    for name in _BYSTANDERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    from diffusers.utils import logging as diffusers_log
    from transformers.utils import logging as transformers_log

    for log in (diffusers_log, transformers_log):
        log.set_verbosity_error()
        log.disable_progress_bar()


@contextmanager
def explain_full_memory() -> Iterator[None]:
    """Turn a device's out-of-memory error into one that names the way out.

    Raises:
        PlacementError: the device is full.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise PlacementError(
            "the device's memory is full",
            got=str(error).splitlines()[0],
            expected="a smaller clip or less on the device at a time",
            remedy="Leave --offload at auto, or try a smaller --size; sounding-video doctor --plan says what fits.",
        ) from error
