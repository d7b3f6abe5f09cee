"""Limits on what a file may have us do: modules that are made, numbers that are asked for, numbers that are none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_modules

from ...core.errors import CorruptWeightsError, IncompatibleWeightsError, SoundingVideoError
from ..empty import on_meta

P, T = ParamSpec("P"), TypeVar("T")
# Parameters beside those of a header: tied tables, and what weight normalisation makes and removes.
FACTOR, SPARE = 2, 256
# Modules of a model have few parts without parameters: activations, lists, dropout.
MODULES_A_PARAMETER = 8
# Tables that follow from a configuration, such as those of positions: Wan's has 1 MB.
MOST_TABLE_BYTES = 1 << 28
# Norms, biases, gates and scales: a look at them costs nothing, and a NaN in one reaches every number.
SMALL = 1 << 16


@contextmanager
def bounded(num_tensors: int, where: object) -> Iterator[None]:
    """While a module is made, stop it at many more parameters than the file has, and at tables of gigabytes.

    Args:
        num_tensors: In the file's header.
        where: For messages.

    Raises:
        IncompatibleWeightsError: as soon as a limit is passed.
    """
    owner, counts = threading.get_ident(), {"parameters": 0, "modules": 0, "bytes": 0}
    most = FACTOR * num_tensors + SPARE
    limits = {"parameters": most, "modules": MODULES_A_PARAMETER * most, "bytes": MOST_TABLE_BYTES}

    def count(what: str, number: int) -> None:
        if threading.get_ident() != owner:  # the hooks hear of every thread's modules
            return
        counts[what] += number
        if counts[what] > limits[what]:
            unit = "bytes of tables" if what == "bytes" else what
            raise IncompatibleWeightsError(
                "the configuration asks for more than the weight file has",
                got=f"more than {limits[what]} {unit} for {where} with {num_tensors} tensors",
                expected="a configuration that belongs to the weights",
            )

    handles = [
        torch_modules.register_module_parameter_registration_hook(lambda *_: count("parameters", 1)),
        torch_modules.register_module_module_registration_hook(lambda *_: count("modules", 1)),
        torch_modules.register_module_buffer_registration_hook(
            lambda _, __, table: count("bytes", 0 if table is None else table.numel() * table.element_size())
        ),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def outlined(make: Callable[[], nn.Module], num_tensors: int, where: object) -> nn.Module:
    """A module on the ``meta`` device, which takes no memory whatever its sizes are.

    Raises:
        IncompatibleWeightsError: it cannot be made, or asks for more than the file has.
    """
    with on_meta(), bounded(num_tensors, where):
        return made(make, where)


def made(make: Callable[[], T], where: object) -> T:
    """What a function makes of sizes and settings that a file gives.

    Raises:
        IncompatibleWeightsError: whatever a library raised for them.
    """
    try:
        return make()
    except Exception as error:
        if isinstance(error, SoundingVideoError):
            raise
        raise IncompatibleWeightsError(
            "no model has such sizes or settings",
            got=f"{where} ({in_words(error)})",
            expected="those of a model that this loads",
        ) from error


def in_words(error: BaseException) -> str:
    """A library's error in one line, for messages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)[:300]}" if lines else type(error).__name__


def by_shapes(load: Callable[P, T]) -> Callable[P, T]:
    """A loader that reads a model's sizes from its tensors: those that cannot be are refused with a sentence."""

    @wraps(load)
    def loader(*args: P.args, **kwargs: P.kwargs) -> T:
        return made(lambda: load(*args, **kwargs), getattr(args[0], "path", "the file"))

    return loader


def require_numbers(tensors: Iterable[tuple[str, Tensor]], where: object) -> None:
    """Refuse NaN and infinity in small tensors: norms, biases, gates, scales.

    A large matrix is not looked at, which would cost as much as reading it: NaN in one is found in the first result.

    Args:
        tensors: By name.
        where: For the message.

    Raises:
        CorruptWeightsError: it names the tensor.
    """
    for name, tensor in tensors:
        small = tensor.numel() <= SMALL and tensor.is_floating_point() and not tensor.is_meta
        if small and not torch.isfinite(tensor.float()).all():
            raise CorruptWeightsError(
                "the weights hold NaN or infinity",
                got=f"{name} in {where}",
                expected="finite numbers",
                remedy="Download or copy the file again; if it stays so, it was saved broken.",
            )
