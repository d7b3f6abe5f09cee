"""Keeps the model libraries' own talk off the screen, and turns a full memory into a sentence."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..core.errors import PlacementError

UNTRAINED = "The model is untrained: picture and sound are noise that only shows that every part works."


# Packages of the extras: diffusers and transformers import them where they are installed, whatever a run uses, and they
# complain of what they miss themselves.
_BYSTANDERS = ("bitsandbytes", "torchao", "kernels", "peft", "accelerate")


# Of these they import much without need: scipy for losses and for noise levels that no solver of ours has, torchvision
# and torchaudio for pictures and sounds that a language model is shown. GGUF files have a reader of ours.
_COSTLY = ("bitsandbytes", "gguf", "kernels", "peft", "scipy", "torchao", "torchaudio", "torchvision")


def leave_out_unused(args: argparse.Namespace) -> None:
    """Let diffusers and transformers begin without packages that are installed but not used: a quarter of a start.

    They ask once what is installed, and import it. Who asks afterwards finds everything. Where they are imported
    already, and in a process that does other things than this command, nothing happens.

    Args:
        args: Of a command that makes clips. ``alone``: the process is its own.
    """
    if not args.alone or {"diffusers", "transformers"} & set(sys.modules) or _uses_packed_weights(args):
        return
    hidden = [name for name in _COSTLY if name not in sys.modules]
    try:
        # What stands there as None cannot be found (the import system's own rule).
        sys.modules.update(dict.fromkeys(hidden))
        with suppress(ImportError):  # whoever needs them says what is missing
            importlib.import_module("diffusers.utils")
            transformers = importlib.import_module("transformers.utils")
            for name in hidden:
                getattr(transformers, f"is_{name}_available", bool)()
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


def _uses_packed_weights(args: argparse.Namespace) -> bool:
    """Whether bitsandbytes or torchao may be needed: for a tower's weights, or for a language model's."""
    return args.storage in ("int8", "nf4") or args.backend == "transformers_local"


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
