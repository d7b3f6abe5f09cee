"""Bridges between two forwards that are not ours: each runs as it is and stops where its bridge stands.

A foreign model offers a hook behind each block, but no way to run it piecewise. So the audio forward runs in a thread
of its own, which stands still while the video forward runs, and the other way round: at every pair of bridge points the
two meet, the bridge changes both residual streams, and both go on. Nothing of either forward is written again here, so
whatever its host does to it (patches, wrappers, casts) stays in effect.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from ..core.clock import ClipTimes
from ..core.errors import InputError
from ..core.types import Heard
from .bridges.base import BridgeInputs
from .joint import BOTH, BridgeStack, note_heard
from .rope import Rope, bridge_rope, on_clock
from .towers.base import TokenGrid, TowerState

T = TypeVar("T")
# Called by a forward behind a bridge point's block, with the block's number; gives the stream to go on with.
Stop = Callable[[int, TowerState], Tensor]
Forward = Callable[[Stop], Tensor]
_SKIPPING = (
    "Take patches that skip steps or blocks (TeaCache, EasyCache, skip-layer guidance), context windows and combined "
    "conditionings off this model."
)


class _Abandoned(BaseException):
    """Unwinds a strand that nobody waits for any more; not an Exception, so that nothing on its way holds it up."""


class Strand(Generic[T]):
    """A call in a thread of its own that stands still between ``resume`` and its next meeting.

    Only one of the two threads runs at any time. What torch and the host keep per thread (inference mode, gradients,
    device, context variables) is taken over from the thread that makes the strand.

    Args:
        work: The call; it is given ``meet``, which hands a value over and waits for the answer.
    """

    def __init__(self, work: Callable[[Callable[[Any], Any]], T]) -> None:
        self._work = work
        self._answers: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
        self._events: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._modes = (torch.is_inference_mode_enabled(), torch.is_grad_enabled())
        self._device = torch.cuda.current_device() if torch.cuda.is_initialized() else None
        self._context = contextvars.copy_context()
        self.done = False
        self.result: T | None = None

    def resume(self, answer: Any = None) -> Any:
        """Let it run to its next meeting, or its end; what it handed over there, None at the end.

        Raises:
            BaseException: whatever the call raised.
        """
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._context.run, args=(self._run,), name="audio tower", daemon=True
            )
            self._thread.start()
        else:
            self._answers.put((True, answer))
        kind, value = self._events.get()
        if kind == "meeting":
            return value
        self.done = True
        if kind == "error":
            raise value
        self.result = value
        return None

    def close(self) -> None:
        """End it wherever it stands; the thread is gone afterwards."""
        if self._thread is not None:
            self._answers.put((False, None))
            self._thread.join()

    def _run(self) -> None:
        if self._device is not None:
            torch.cuda.set_device(self._device)
        inference, grad = self._modes
        with torch.inference_mode(inference), torch.set_grad_enabled(grad):
            try:
                event = ("end", self._work(self._meet))
            except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that waits
                event = ("error", error)
        self._events.put(event)

    def _meet(self, value: Any) -> Any:
        self._events.put(("meeting", value))
        wanted, answer = self._answers.get()
        if not wanted:
            raise _Abandoned
        return answer


class BridgedForwards:
    """Runs a video and an audio forward together, with the bridges between them.

    Args:
        stack: The bridges, on the device and in the type they compute in. Streams of another type are cast to theirs
            and back.
        times: When the latent steps lie; None takes it from their numbers.
    """

    def __init__(self, stack: BridgeStack, times: ClipTimes | None = None) -> None:
        self._stack, self._times = stack, times
        self._ropes: tuple[tuple[object, ...], tuple[Rope, Rope]] | None = None

    def __call__(
        self, video: Forward, audio: Forward, given: frozenset[str] = frozenset(), heard: Heard | None = None
    ) -> tuple[Tensor, Tensor]:
        """Both predictions; that of a given side, whose forward runs like the other one, means nothing.

        Args:
            video: Runs the picture.
            audio: Runs the sound.
            given: Sides that are given.
            heard: Told what each bridge adds to the sound.

        Raises:
            InputError: a forward did not come by each of its bridge points once, in order.
        """
        points = self._stack.points
        strand = Strand(lambda meet: audio(_in_order("audio", points.audio, meet)))
        answer: Tensor | None = None
        num_bridges = 0

        def meet_at(video_state: TowerState) -> Tensor:
            nonlocal answer, num_bridges
            audio_state = strand.resume(answer)
            if audio_state is None:
                raise _skipped("audio", num_bridges, points.audio)
            new_video, answer = self._cross(num_bridges, video_state, audio_state, given)
            note_heard(heard, num_bridges, audio_state.hidden, answer)
            num_bridges += 1
            return new_video

        try:
            video_result = video(_in_order("video", points.video, meet_at))
            if num_bridges < len(points.video):
                raise _skipped("video", num_bridges, points.video)
            strand.resume(answer)
            return video_result, strand.result
        finally:
            strand.close()

    def said_again(self, audio: Forward, heard: Heard) -> Tensor:
        """The prediction of the sound alone, with what the bridges would add.

        Raises:
            InputError: as when called.
        """
        points, bridges = self._stack.points.audio, iter(range(len(self._stack)))

        def meet(state: TowerState) -> Tensor:
            change = heard.change(next(bridges))
            return state.hidden if change is None else state.hidden + change

        result = audio(_in_order("audio", points, meet))
        passed = next(bridges, len(points))
        if passed < len(points):
            raise _skipped("audio", passed, points)
        return result

    def _cross(self, index: int, video: TowerState, audio: TowerState, given: frozenset[str]) -> tuple[Tensor, Tensor]:
        bridge, is_last = self._stack[index], index == len(self._stack) - 1
        like = next(bridge.parameters())
        streams = (video.hidden, audio.hidden, video.time_embedding, audio.time_embedding)
        grids = on_clock(video.grid, audio.grid, self._times)
        inputs = BridgeInputs(
            *(stream.to(like) for stream in streams),
            *self._tables(grids, like.device),
            *grids,
            given=given,
            wanted=BOTH - given if is_last else BOTH,
        )
        new_video, new_audio = bridge(inputs)
        # A stream that a bridge leaves alone is given back as it came, not by way of the bridges' type.
        return (
            video.hidden if new_video is inputs.video else new_video.to(video.hidden),
            audio.hidden if new_audio is inputs.audio else new_audio.to(audio.hidden),
        )

    def _tables(self, grids: tuple[TokenGrid, TokenGrid], device: torch.device) -> tuple[Rope, Rope]:
        config = self._stack.config
        key = (grids, device)
        if self._ropes is None or self._ropes[0] != key:
            pairs = bridge_rope(config.rope, config.head_width, *grids)
            self._ropes = (key, tuple(tuple(table.to(device) for table in pair) for pair in pairs))
        return self._ropes[1]


def _in_order(modality: str, points: tuple[int, ...], meet: Callable[[TowerState], Tensor]) -> Stop:
    """Lets a forward through to the meeting when it comes by its points once and in order."""
    passed = 0

    def stop(number: int, state: TowerState) -> Tensor:
        nonlocal passed
        if passed == len(points) or number != points[passed]:
            raise InputError(
                f"the {modality} model runs its blocks in another way than the bridges need",
                got=f"block {number} after {passed} of {len(points)} bridge points",
                expected=f"each of the blocks {list(points)} once, in this order, at every step",
                remedy=_SKIPPING,
            )
        if state.hidden.shape[1] != state.grid.num_tokens:
            raise InputError(
                f"the {modality} model adds tokens that the bridges do not know",
                got=f"{state.hidden.shape[1]} tokens",
                expected=f"{state.grid.num_tokens}, one for each position of the latent",
                remedy="Reference images and in-context frames cannot pass the bridges; use plain text to video.",
            )
        passed += 1
        return meet(state)

    return stop


def _skipped(modality: str, passed: int, points: tuple[int, ...]) -> InputError:
    return InputError(
        f"the {modality} model skips bridges",
        got=f"{passed} of {len(points)} bridge points passed in one forward",
        expected=f"every one of the blocks {list(points)}",
        remedy=_SKIPPING,
    )
