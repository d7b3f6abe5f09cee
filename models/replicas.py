"""Two devices for one step: each has the whole model and computes some of the guidance passes.

Threads and no processes: nothing but latents and predictions goes between the devices, and they wait for each other
once a step; so there is one loop, one progress and one way out, as with one device.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..core.device import Placement
from ..core.errors import InputError, PlacementError
from ..core.pair import MODALITIES
from ..core.progress import Progress, ask_to_stop, stoppable
from ..core.protocols import Denoiser
from ..core.types import Heard, Modality
from .counting import stopping
from .joint import JointModel
from .storage import packing_of

if TYPE_CHECKING:
    from ..core.clock import ClipTimes
    from .families.base import FamilyModel

Outputs = tuple[Tensor | None, Tensor | None]
# Copies stay for the next clip, as long as the model itself does.
_COPIES: WeakKeyDictionary[JointModel, dict[torch.device, JointModel]] = WeakKeyDictionary()


def require_shared(root: nn.Module, placement: Placement, batching: str) -> None:
    """Refuse what cannot be shared between devices.

    Args:
        root: What denoises.
        placement: With the other devices; without them nothing is refused.
        batching: Of guidance, as asked for.

    Raises:
        InputError: a model of one piece, packed weights, streamed layers, passes asked for one after the other.
    """
    problems = {
        "a model that is not made of two towers": not isinstance(root, JointModel),
        f"weights kept as {packing_of(root)}": packing_of(root) != "native",
        f"offload {placement.offload}": placement.offload in ("group", "sequential"),
        f"guidance batching {batching}": batching == "sequential",
    }
    why = next((problem for problem, is_there in problems.items() if is_there), None)
    if placement.partners and why is not None:
        raise InputError(
            "guidance cannot be shared between two devices",
            got=why,
            expected="two towers, native weights, offload auto, none or model, guidance batching auto or batched",
            remedy="Name one device with --device instead of --devices.",
        )


def copy_on(joint: JointModel, device: torch.device) -> JointModel:
    """The model once more on another device, made once; the device that it is on has nothing to hold for it."""
    copies = _COPIES.setdefault(joint, {})
    if device not in copies:
        moved: dict[int, Any] = {}
        for tensor in joint.parameters():
            moved[id(tensor)] = nn.Parameter(tensor.detach().to(device, copy=True), requires_grad=False)
        for tensor in joint.buffers():
            moved[id(tensor)] = tensor.detach().to(device, copy=True)
        twin = copy.deepcopy(joint, moved)
        twin.forget_tables()
        copies[device] = twin
    return copies[device]


def is_copied(joint: JointModel, device: torch.device) -> bool:
    """Whether the copy is there already."""
    return device in _COPIES.get(joint, {})


@contextmanager
def denoisers(model: FamilyModel, placement: Placement) -> Iterator[Callable[[ClipTimes | None], Denoiser]]:
    """What makes a model's denoiser for the times of a clip or window; over all devices, where there are several.

    Args:
        model: Its root is on the placement's own device.
        placement: Names the others.
    """
    if not placement.partners:
        yield model.denoiser
        return
    models = [model.root, *(copy_on(model.root, device) for device in placement.partners)]
    with ExitStack() as stack:
        for twin in models[1:]:
            stack.enter_context(stopping(twin))
        pool = stack.enter_context(ThreadPoolExecutor(len(placement.partners), thread_name_prefix="guidance"))
        places = (placement.device, *placement.partners)
        yield lambda times: Replicas([partial(each, times=times) for each in models], places, pool)


class Replicas:
    """A denoiser that lets each device run some passes of a forward; the first one has the positive pass.

    Args:
        denoisers: One a device.
        devices: The first is where inputs come from and predictions go to.
        pool: Runs all but the first.
    """

    def __init__(
        self, denoisers: Sequence[Denoiser], devices: Sequence[torch.device], pool: ThreadPoolExecutor
    ) -> None:
        self._denoisers, self._devices, self._pool = denoisers, devices, pool

    def __call__(self, video: Modality | None, audio: Modality | None) -> Outputs:
        """As one denoiser.

        Raises:
            PlacementError: another device than the first has no memory left.
        """
        shares = _shares(len((video or audio).passes), len(self._devices))
        if len(shares) < 2:
            return self._denoisers[0](video, audio)
        jobs = [
            (self._denoisers[index], device, *(one and self._part(one, rows, device) for one in (video, audio)))
            for index, (rows, device) in enumerate(zip(shares, self._devices, strict=False))
        ]
        halt = _Halt()
        others = [self._pool.submit(copy_context().run, halt.there, _run_on, *job) for job in jobs[1:]]
        results = _gathered(halt, lambda: jobs[0][0](*jobs[0][2:]), others)
        return tuple(self._joined([result[side] for result in results], shares) for side in range(len(MODALITIES)))

    def _part(self, modality: Modality, rows: range, device: torch.device) -> Modality:
        """Some passes of a modality, on a device."""

        def cut(tensor: Tensor) -> Tensor:
            size = len(tensor) // len(modality.passes)  # 0 for a time that all rows share
            return (tensor[rows.start * size : rows.stop * size] if size else tensor).to(device)

        tensors = {name: cut(value) for name, value in vars(modality).items() if isinstance(value, Tensor)}
        heard = None if modality.heard is None else modality.heard.part(rows.start, rows.stop)
        return replace(
            modality,
            **tensors,
            passes=modality.passes[rows.start : rows.stop],
            heard=heard and _HeardElsewhere(heard, device, self._devices[0]),
        )

    def _joined(self, parts: Sequence[Tensor | None], shares: Sequence[range]) -> Tensor | None:
        """Predictions of all passes in their order, on the first device."""
        if any(part is None for part in parts):
            return None
        ordered = sorted(zip(shares, parts, strict=True), key=lambda one: one[0].start)
        return torch.cat([part.to(self._devices[0]) for _, part in ordered])


def _shares(num_passes: int, num_devices: int) -> list[range]:
    """Which passes each device runs, as even as can be; the positive one, which is the last, goes to the first."""
    ends = [num_passes - share * num_passes // num_devices for share in range(num_devices + 1)]
    return [range(stop, start) for start, stop in pairwise(ends) if start > stop]


@torch.no_grad()
def _run_on(denoiser: Denoiser, device: torch.device, *modalities: Modality | None) -> Outputs:
    """One device's part, in a thread of its own: gradients and the current card are a thread's own business."""
    try:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            return denoiser(*modalities)
    except torch.OutOfMemoryError as error:
        raise PlacementError(
            f"{device} has no memory left for its part of the guidance",
            got=str(error).splitlines()[0],
            expected="room for the towers, the bridges and one pass",
            remedy="End other programs on it, make the clip smaller or shorter, or name one device with --device.",
        ) from error


class _HeardElsewhere:
    """What the sound hears on one device, kept on another.

    Args:
        heard: Of these passes.
        device: Where they run.
        home: Where it is kept.
    """

    def __init__(self, heard: Heard, device: torch.device, home: torch.device) -> None:
        self._heard, self._device, self._home = heard, device, home

    def note(self, bridge: int, change: Tensor) -> None:
        """Keep what a bridge added."""
        self._heard.note(bridge, change.to(self._home))

    def change(self, bridge: int) -> Tensor | None:
        """What it would add here."""
        change = self._heard.change(bridge)
        return None if change is None else change.to(self._device)


class _Halted(Exception):
    """Another device failed first."""


class _Halt:
    """Lets the failure of one device stop the others within one layer."""

    def __init__(self) -> None:
        self._is_set = threading.Event()

    def there(self, work: Callable[..., Outputs], *args: Any) -> Outputs:
        """Work of another thread. Only the first asks the user: a host's own interrupt is raised once."""
        return self._watched(self._ask, work, *args)

    def here(self, work: Callable[[], Outputs]) -> Outputs:
        """Work of this thread."""
        outer = copy_context()

        def ask() -> None:
            self._ask()
            outer.run(ask_to_stop)

        return self._watched(ask, work)

    def _watched(self, ask: Callable[[], None], work: Callable[..., Outputs], *args: Any) -> Outputs:
        try:
            with stoppable(Progress(check_cancelled=ask)):
                return work(*args)
        except BaseException:
            self._is_set.set()
            raise

    def _ask(self) -> None:
        if self._is_set.is_set():
            raise _Halted


def _gathered(halt: _Halt, first: Callable[[], Outputs], others: Sequence[Future[Outputs]]) -> list[Outputs]:
    """All results, once every device is done; else what failed first."""
    failures: list[BaseException | None] = []
    try:
        results = [halt.here(first)]
    except BaseException as error:  # noqa: BLE001 - raised again below, when the other threads are done
        failures.append(error)
    wait(others)
    failures += [future.exception() for future in others]
    failure = next((each for each in failures if each is not None and not isinstance(each, _Halted)), None)
    if failure is not None:
        raise failure
    return [*results, *(future.result() for future in others)]
