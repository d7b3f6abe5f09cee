"""What bridges were trained for, as their file says it, and what follows from that for sampling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..core.errors import InputError
from ..core.pair import THINGS
from .own import OwnSettings

# What a bridge file may say under ``task``, in words. The third and the fourth have a given side (AV-Link).
USES = {
    "joint": "picture and sound made together",
    "v2a": "the sound of a given picture",
    "a2v": "the picture of a given sound",
    "both": "the sound of a given picture and the picture of a given sound",
}
# Which file is taken for what is made, the best first; one that says nothing is as good as one for joint making.
_FIRST = {
    "joint": ("joint", "both", "v2a", "a2v"),
    "v2a": ("v2a", "both", "joint", "a2v"),
    "a2v": ("a2v", "both", "joint", "v2a"),
}
SIDE_GIVEN = {"v2a": "video", "a2v": "audio"}
# Published AV-Link: 64 even steps of Euler, guidance 5 away from the tower alone.
_STEPS, _SCALE = 64, 5.0
# Levels that differ less are one: no bridge tells them apart.
_NEAR = 0.05


@dataclass(frozen=True)
class BridgeUse:
    """What a bridge file says of its training.

    Args:
        task: One of :data:`USES`.
        given_video_time: The one flow time of a given picture; None where none was given.
        given_audio_time: Likewise of a given sound, in the audio tower's own time.
        any_time: Whether what was given had any level.
        least_audio_time: The least time at which the audio tower was asked.
        one_level: Whether both sides always stood at one flow level (SyncFlow).
    """

    task: str = "joint"
    given_video_time: float | None = None
    given_audio_time: float | None = None
    any_time: bool = False
    least_audio_time: float = 0.0
    one_level: bool = False

    @classmethod
    def read(cls, notes: Mapping[str, str]) -> BridgeUse | None:
        """From a file's notes; None where they say nothing of it.

        Raises:
            InputError: a time that is none.
        """
        task = notes.get("task")
        if task not in USES:  # another program's word, or none
            return None
        times = {name: _time(name, notes[name]) for name in ("given_video_time", "given_audio_time") if name in notes}
        least = _time("least_audio_time", notes.get("least_audio_time", "0"))
        drawn = {"any_time": notes.get("given_draw") == "uniform", "one_level": notes.get("times") == "flow"}
        return cls(task, **times, **drawn, least_audio_time=least)

    def serves(self, made: str) -> bool:
        """Whether it was trained for ``joint``, ``v2a`` or ``a2v``."""
        return self.task == made or (self.task == "both" and made in SIDE_GIVEN)

    def given_time(self, side: str) -> float | None:
        """At which time a side is given, ``video`` or ``audio``; None where it never was."""
        return {"video": self.given_video_time, "audio": self.given_audio_time}[side]

    @property
    def words(self) -> str:
        """What it was trained for, with the times of what is given."""
        times = {side: self.given_time(side) for side in THINGS}
        told = [f"{THINGS[side]} given at {time:g}" for side, time in times.items() if time is not None]
        told = ["given at any level of noise"] if self.any_time else told
        told += ["always equally clear"] * self.one_level
        return f"{USES[self.task]} ({', '.join([self.task, *told])})"


def _time(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise InputError(f"{name} is no time", got=repr(text[:40]), expected="a number from 0 to 1")
    return value


def rank(use: BridgeUse | None, made: str) -> int:
    """How well bridges suit what is made; the least is the best.

    Args:
        use: What they were trained for; None where their file does not say it.
        made: ``joint``, ``v2a`` or ``a2v``.
    """
    return _FIRST[made].index("joint" if use is None else use.task)


def settings_for(own: OwnSettings, use: BridgeUse | None, made: str) -> OwnSettings:
    """What a model was made for where these bridges do what they were trained for, as AV-Link and SyncFlow sample.

    Args:
        own: The towers'.
        use: The bridges'.
        made: ``joint``, ``v2a`` or ``a2v``.
    """
    if use is None:
        return own
    # Even levels end below what some audio towers were trained on; lockstep ends where Stable Audio ends.
    even = use.least_audio_time == 0
    if use.one_level and even:
        return replace(own, schedule="flow", flow_shift=1.0, solver="auto")
    if made not in SIDE_GIVEN or not use.serves(made):
        return own
    scale = "audio_guidance_scale" if made == "v2a" else "video_guidance_scale"
    return replace(
        own,
        num_steps=_STEPS,
        schedule="flow" if even else "lockstep",
        flow_shift=1.0 if even else own.flow_shift,
        solver="euler",
        unconditional="alone",
        video_modality_scale=1.0,
        audio_modality_scale=1.0,
        given_how="fixed",
        **{scale: _SCALE},
    )


def given_level(use: BridgeUse | None, side: str, asked: float | None) -> float | None:
    """The one level at which a side is given.

    Args:
        use: What the bridges were trained for.
        side: ``video`` or ``audio``.
        asked: What the user wants; None leaves it to the bridges.

    Returns:
        A time of the side's own process; None for AV-Link's.
    """
    return asked if asked is not None or use is None else use.given_time(side)


def misused(use: BridgeUse | None, made: str, *, how: str = "", level: float | None = None) -> str:
    """A sentence where bridges are used for something else than they were trained for; else empty.

    Args:
        use: What their file says; None for nothing, and then nothing is said here.
        made: ``joint``, ``v2a`` or ``a2v``.
        how: How a given side is shown.
        level: The level of ``fixed``; None for the bridges' own.
    """
    if use is None:
        return ""
    if not use.serves(made):
        # Bridges that made both hear a side that is noised like the other: shown so, they need no other training.
        if use.task == "joint" and how != "fixed":
            return ""
        return f"these bridges were trained for {use.words}, and are used for {_used(made, how)}: expect less of them"
    if made not in SIDE_GIVEN:
        return ""
    side = SIDE_GIVEN[made]
    thing, trained = THINGS[side], use.given_time(side)
    if how != "fixed":
        return f"the {thing} is given by {how}, but these bridges were trained with it at one level of noise (fixed)"
    if level is None or trained is None or use.any_time or abs(level - trained) <= _NEAR:
        return ""
    return f"the {thing} is given at {level:g}, but these bridges were trained with it at {trained:g}"


def apart(use: BridgeUse | None, schedule: str) -> str:
    """A sentence where a schedule shows both sides at other levels together than training did; else empty.

    Args:
        use: What the bridges were trained for.
        schedule: Its name. ``coupled`` is within 0.05 of one level.
    """
    if use is None or not use.one_level or use.least_audio_time or schedule != "lockstep":
        return ""
    return (
        "these bridges were trained with picture and sound equally clear (schedule flow), which lockstep does not show"
    )


def _used(made: str, how: str) -> str:
    return USES[made] + (", given at one level of noise" if how == "fixed" and made in SIDE_GIVEN else "")
