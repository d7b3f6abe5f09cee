"""The joint model: two towers run block by block, with bridges between them. One ``nn.Module``, one ``forward``.

Bridge i runs after video block ``points.video[i]`` and audio block ``points.audio[i]`` (0-based, inclusive).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from torch import Tensor, nn

from ..core.clock import ClipTimes
from ..core.errors import IncompatibleWeightsError, InputError
from ..core.types import Heard, Modality
from .bridges import BRIDGES
from .bridges.base import SIDES, BridgeInputs
from .bridges.config import BridgeConfig
from .points import PLACEMENTS, BridgePoints, placement
from .rope import Rope, bridge_rope, on_clock
from .towers.base import Tower, TowerState

BOTH = frozenset(SIDES)

__all__ = ["PLACEMENTS", "BridgePoints", "BridgeStack", "JointModel", "placement"]


class BridgeStack(nn.ModuleList):
    """Bridges of one kind and where they stand. Its state dict has the official names ``{i}.attn.q_proj_1.weight``.

    Args:
        kind: Key in the bridge registry.
        config: Sizes of every block, of the kind's own ``Config``.
        points: Where they stand.

    Raises:
        InputError: an unknown kind, or another kind's configuration.
    """

    def __init__(self, kind: str, config: BridgeConfig, points: BridgePoints) -> None:
        bridge_class = BRIDGES.get(kind)
        if not isinstance(config, bridge_class.Config):
            expected = f"{bridge_class.Config.__qualname__}, the one of {kind} bridges"
            raise InputError("this configuration is another bridge's", got=type(config).__qualname__, expected=expected)
        super().__init__(bridge_class(config) for _ in points.video)
        self.kind, self.points = kind, points

    @property
    def config(self) -> BridgeConfig:
        """Sizes of every block; how new ones begin may add to what they were made with."""
        return self[0].config

    def hears(self, side: str) -> bool:
        """Whether a side, ``video`` or ``audio``, receives something of the other one."""
        return side in BRIDGES.get(self.kind).listeners


class JointModel(nn.Module):
    """Video tower, bridges and audio tower under one root; offload, compile and cache hooks act on its forward.

    Args:
        video: Video tower, or None for sound alone.
        audio: Audio tower, or None for pictures alone.
        bridges: Bridges between them, or None: then the two towers run side by side without hearing each other.

    Raises:
        IncompatibleWeightsError: bridges whose widths or points do not fit the towers.
    """

    def __init__(self, video: Tower | None, audio: Tower | None, bridges: BridgeStack | None = None) -> None:
        super().__init__()
        if video is None and audio is None:
            raise InputError("a joint model needs a tower", expected="a video tower, an audio tower or both")
        self.video, self.audio = video, audio
        self.bridges = bridges
        if bridges is not None and video is not None and audio is not None:
            require_fit(bridges, video, audio)
        self._rope_cache: tuple[tuple[object, ...], tuple[Rope, Rope]] | None = None

    def forward(
        self, video: Modality | None = None, audio: Modality | None = None, *, times: ClipTimes | None = None
    ) -> tuple[Tensor | None, Tensor | None]:
        """One denoising step of both modalities.

        The walk of a given modality ends at the last bridge, whose own part in it is left out: nobody reads it.

        Args:
            video: Latents ``(B, C, T, H, W)``, timestep 0..1000, text; None to leave the video out.
            audio: Latents ``(B, C, L)``, timestep 0..1, text, duration; None to leave the sound out.
            times: When the latent steps lie, for bridges; None takes it from their numbers.

        Returns:
            Predictions shaped like the latents: flow ``noise − x0`` for video, v for audio; None for one that is absent
            or given. Bridges act only when both modalities are present; a side that is there alone and has ``heard``
            something is told that in their place. Of a side of which only the ``first_block`` is wanted, its part.

        Raises:
            InputError: a given modality without a tower to read it.
        """
        if any(side is not None and side.first_block for side in (video, audio)):
            return _first_block(self.video, video), _first_block(self.audio, audio)
        sides = (("video", self.video, video), ("audio", self.audio, audio))
        given = frozenset(name for name, tower, modality in sides if _is_given(name, tower, modality))
        states = [None if tower is None or modality is None else tower.begin(modality) for _, tower, modality in sides]
        if self.bridges is not None and states[0] is not None and states[1] is not None:
            points = list(zip(self.bridges.points.video, self.bridges.points.audio, strict=True))
            grids = on_clock(states[0].grid, states[1].grid, times)
            states = [replace(state, grid=grid) for state, grid in zip(states, grids, strict=True)]
            ropes = self._ropes(states[0], states[1])
        else:
            points, ropes = [], None
        starts = [0, 0]
        for index, (bridge, stops) in enumerate(zip(self.bridges or (), points, strict=False)):
            wanted = BOTH - given if stops is points[-1] else BOTH
            for side, tower in enumerate((self.video, self.audio)):
                states[side] = tower.walk(_taken(states, side), starts[side], stops[side] + 1)
                starts[side] = stops[side] + 1
            crossed = self._cross(bridge, states, ropes, given, wanted)
            _note_heard(index, (video, audio), states, crossed)
            states = crossed
        if self.bridges is not None and not points:
            for side, (name, tower, modality) in enumerate(sides):
                if states[side] is not None and modality.heard is not None:
                    stops = getattr(self.bridges.points, name)
                    states[side], starts[side] = _said_again(tower, _taken(states, side), stops, modality.heard)
        return tuple(
            None
            if states[side] is None or name in given
            else tower.leave(tower.walk(_taken(states, side), starts[side], tower.num_blocks))
            for side, (name, tower, _) in enumerate(sides)
        )

    def forget_tables(self) -> None:
        """Let go of positions that are kept for the next forward of the same size."""
        self._rope_cache = None
        for tower in filter(None, (self.video, self.audio)):
            tower.forget_tables()

    @staticmethod
    def _cross(
        bridge: nn.Module,
        states: Sequence[TowerState],
        ropes: tuple[Rope, Rope],
        given: frozenset[str],
        wanted: frozenset[str],
    ) -> list[TowerState]:
        hidden, times, grids = zip(*((one.hidden, one.time_embedding, one.grid) for one in states), strict=True)
        new = bridge(BridgeInputs(*hidden, *times, *ropes, *grids, given=given, wanted=wanted))
        return [state.with_hidden(stream) for state, stream in zip(states, new, strict=True)]

    def _ropes(self, video: TowerState, audio: TowerState) -> tuple[Rope, Rope]:
        """Tables for this size, kept until the size or the device changes."""
        config = self.bridges.config
        key = (config.rope, config.head_width, video.grid, audio.grid, video.hidden.device)
        if self._rope_cache is None or self._rope_cache[0] != key:
            tables = bridge_rope(config.rope, config.head_width, video.grid, audio.grid)
            on_device = tuple(tuple(table.to(video.hidden.device) for table in pair) for pair in tables)
            self._rope_cache = (key, on_device)
        return self._rope_cache[1]


def _first_block(tower: Tower, modality: Modality | None) -> Tensor | None:
    """What the first block adds to the stream ``(B, L, D)`` of a side that is asked for it."""
    if modality is None or not modality.first_block:
        return None
    state = tower.begin(modality)
    return tower.walk(state, 0, 1).hidden - state.hidden


def _taken(states: list[TowerState | None], side: int) -> TowerState:
    """A side's state, which the list holds no longer: a walk lets go of its first stream while it goes on."""
    state, states[side] = states[side], None
    return state


def _note_heard(
    bridge: int, modalities: tuple[Modality, Modality], before: list[TowerState], after: list[TowerState]
) -> None:
    for modality, old, new in zip(modalities, before, after, strict=True):
        note_heard(modality.heard, bridge, old.hidden, new.hidden)


def note_heard(heard: Heard | None, bridge: int, old: Tensor, new: Tensor) -> None:
    """Tell whoever wants to know what a bridge added to a stream; a stream that it left alone is not told."""
    if heard is not None and new is not old:
        heard.note(bridge, new - old)


def _said_again(tower: Tower, state: TowerState, stops: Sequence[int], heard: Heard) -> tuple[TowerState, int]:
    """A side alone up to its last bridge, with what the bridges would add; and the block that comes next."""
    start = 0
    for index, stop in enumerate(stops):
        state = tower.walk(state, start, stop + 1)
        change, start = heard.change(index), stop + 1
        state = state if change is None else state.with_hidden(state.hidden + change)
    return state, start


def _is_given(name: str, tower: Tower | None, modality: Modality | None) -> bool:
    given = modality is not None and modality.given
    if given and tower is None:
        raise InputError(
            f"the {name} is given, but the model cannot read it",
            expected=f"a model with a tower for {name}",
            remedy=f"Join a {name} tower to the model, or generate without {name}.",
        )
    return given


class TowerSize(Protocol):
    """What bridges ask of a tower, ours or another's."""

    num_blocks: int
    width: int
    time_width: int


def require_fit(bridges: BridgeStack, video: TowerSize, audio: TowerSize) -> None:
    """Refuse bridges whose points or widths are not the towers'.

    Raises:
        IncompatibleWeightsError: names the point or the width.
    """
    bridges.points.require_depth(video.num_blocks, audio.num_blocks)
    config = bridges.config
    wanted = {
        "video_width": video.width,
        "audio_width": audio.width,
        "video_time_width": video.time_width,
        "audio_time_width": audio.time_width,
    }
    wrong = [
        f"{name} {getattr(config, name)} (tower: {width})"
        for name, width in wanted.items()
        if getattr(config, name) != width
    ]
    if wrong:
        raise IncompatibleWeightsError(
            "the bridges do not fit the towers",
            got=", ".join(wrong),
            expected="equal widths",
            remedy="Use the towers these bridges were trained with: 1.3B bridges need Wan 1.3B, 14B bridges Wan 14B.",
        )
