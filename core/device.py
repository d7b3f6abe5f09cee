"""Placement: device, dtype, offload mode and attention kernel as one frozen value that is passed in."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .errors import InputError, PlacementError, require_choice

OFFLOAD_MODES = ("none", "model", "group", "sequential")
# "auto" stands in a placement until the size of the clip is known; then the planner puts one of the four in its place.
OFFLOAD_CHOICES = (*OFFLOAD_MODES, "auto")
# How weights are kept; "auto" keeps them as they are unless only fp8 makes a fast plan fit.
STORAGES = ("native", "fp8", "int8", "nf4", "auto")
ATTENTION_KERNELS = ("auto", "sdpa", "xformers", "flash", "sage")
# "official-bf16" casts everything, also what diffusers keeps in float32, and keeps latents in bfloat16:
# the published system's rounding, for comparison only (BridgeDiT reference, section 3).
DTYPE_NAMES = ("auto", "float32", "bfloat16", "float16", "official-bf16")
_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "official-bf16": torch.bfloat16,
}


@dataclass(frozen=True)
class Placement:
    """Where and how a model runs. Build it with :func:`resolve_placement`.

    Args:
        device: Where the computation happens.
        dtype: Type of the tower weights and activations.
        offload: ``none`` keeps all on the device; ``model`` moves each whole model in and out; ``group`` streams
            groups of layers; ``sequential`` streams layer by layer (least memory, slowest); ``auto``: still open.
        attention: ``auto``, or the one kernel to use in towers and bridges.
        cast_everything: True only for ``official-bf16``.
        storage: How the weights of towers, bridges and text encoders are kept between uses: ``native`` in ``dtype``;
            ``fp8``, ``int8`` and ``nf4`` smaller and rounded; ``auto``: still open.
        partners: Other devices that run some of the guidance passes, each with the model once more.
    """

    device: torch.device
    dtype: torch.dtype
    offload: str = "none"
    attention: str = "auto"
    cast_everything: bool = False
    storage: str = "native"
    partners: tuple[torch.device, ...] = ()

    @property
    def rest_device(self) -> torch.device:
        """Where weights wait when they are not in use."""
        return self.device if self.offload == "none" else torch.device("cpu")


def resolve_device(name: str = "auto") -> torch.device:
    """``auto`` picks CUDA, then Apple's MPS, then the CPU; an explicit device must exist.

    Raises:
        PlacementError: the named device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise PlacementError(
            "the device cannot be used",
            got=name,
            expected="auto, cpu, or a device that this torch sees",
            remedy=str(error).splitlines()[0],
        ) from error
    return device


def resolve_devices(names: str) -> tuple[torch.device, torch.device]:
    """Two devices that share the work of a step, ``cuda:0,cuda:1``.

    Raises:
        InputError: another number of them, or one device twice. Only the CPU may be named twice, to try it.
        PlacementError: one is not there.
    """
    parts = [part.strip() for part in names.split(",")]
    expected = "two different devices, such as cuda:0,cuda:1"
    if len(parts) != 2 or not all(parts) or "auto" in parts:
        raise InputError("the devices cannot be used", got=names[:80], expected=expected)
    first, second = map(resolve_device, parts)
    if first.type != "cpu" and _numbered(first) == _numbered(second):
        raise InputError("one device cannot share with itself", got=names[:80], expected=expected)
    return first, second


def _numbered(device: torch.device) -> torch.device:
    return device if device.index is not None else torch.device(device.type, 0)


def resolve_dtype(name: str, device: torch.device) -> torch.dtype:
    """``auto`` is float32 on the CPU, bfloat16 on cards that compute in it, else float16."""
    require_choice("dtype", name, DTYPE_NAMES)
    if name != "auto":
        return _DTYPES[name]
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if _computes_bfloat16(device) else torch.float16


def _computes_bfloat16(device: torch.device) -> bool:
    """CUDA tells, and knows emulation from the real thing; any other device (MPS before macOS 14) is tried."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        numbers = torch.eye(2, device=device).to(torch.bfloat16)
        return bool((numbers @ numbers == numbers).all())
    except (RuntimeError, TypeError):
        return False


def resolve_placement(
    *,
    device: str | torch.device = "auto",
    dtype: str = "auto",
    offload: str = "none",
    attention: str = "auto",
    storage: str = "native",
) -> Placement:
    """Turn what a user typed into a :class:`Placement`.

    Raises:
        InputError: a word that is not a choice.
        PlacementError: an explicit device that does not exist.
    """
    require_choice("offload mode", offload, OFFLOAD_CHOICES)
    require_choice("weight storage", storage, STORAGES)
    require_choice("attention kernel", attention, ATTENTION_KERNELS)
    where = device if isinstance(device, torch.device) else resolve_device(device)
    return Placement(
        device=where,
        dtype=resolve_dtype(dtype, where),
        offload=offload,
        attention=attention,
        cast_everything=dtype == "official-bf16",
        storage=storage,
    )
