"""Make clips of the sounding world: ``make_clip(scene, seed, timeline=…)``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..core.clock import Timeline
from ..core.errors import GeometryError, InputError
from ..core.types import AudioClip, AVClip, Captions, VideoClip
from .canvas import Canvas
from .captions import compose
from .dice import Dice, Span, check_split, stream
from .scenes import SCENES
from .scenes.base import Scene, level_at
from .sound import Stage

SHORTEST_SECONDS = 0.25


@dataclass(frozen=True)
class WorldClip:
    """A clip and the whole truth about it.

    Args:
        clip: Frames ``(F, H, W, 3)`` and waveform ``(2, samples)``, exactly as long.
        scene: Key in ``SCENES``.
        parameters: Everything random, as plain values. ``held_out`` lists the drawn values that occur in the test
            split only; continuous scenes have ``knots``, see :func:`activity`.
        events: Seconds at which something is seen and heard to happen; empty for continuous scenes.
        captions: One text for the picture, one for the sound.
        prompt: What a user would type.
    """

    clip: AVClip
    scene: str
    parameters: dict[str, Any]
    events: tuple[float, ...]
    captions: Captions
    prompt: str


def scene_for(seed: int, split: str = "train") -> str:
    """The scene that a seed stands for where none is asked for."""
    return Dice(stream("world", split, seed, "scene"), split).choice(SCENES.names())


def make_clip(scene: str | None, seed: int, *, timeline: Timeline, split: str = "train", looks: int = 0) -> WorldClip:
    """Make one clip; the same arguments give the same bytes on every machine.

    Frames are multiples of 1/255 and samples of 1/32768. Frame ``i`` shows the middle of its time on screen,
    ``(i + ½) / fps``, so that an event is at most half a frame from the first picture that shows it. What happens
    depends on the seed and on the clip's length and frame rate, not on its size.

    Args:
        scene: Key in ``SCENES``; None lets the seed choose.
        seed: 0 or above; the same seed gives unrelated clips in different splits.
        timeline: Size, length and rates.
        split: "train", "validation" or "test".
        looks: How many looks and voices (colours, places, materials, pitch) a scene may have; the seed then decides
            which of them, when things happen and how they are told. 0: every seed has its own.

    Raises:
        InputError: unknown scene or split, a negative seed or number of looks.
        GeometryError: shorter than a quarter of a second.
    """
    check_split(split)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError("the seed cannot be used", got=repr(seed), expected="a whole number, 0 or above")
    if looks < 0:
        raise InputError("the number of looks cannot be used", got=looks, expected="a whole number; 0 for no limit")
    if timeline.seconds < SHORTEST_SECONDS:
        raise GeometryError(
            "the clip is too short for anything to happen",
            got=f"{float(timeline.seconds):.3f} s",
            expected=f"at least {SHORTEST_SECONDS} s",
            remedy="Ask for more frames or a lower frame rate.",
        )
    name = scene_for(seed, split) if scene is None else scene
    maker = SCENES.get(name)()
    key = ("world", split, seed, name)
    clock = Dice(stream(*key, "plan"), split)
    dice = Dice(stream("world", split, "look", seed % looks, name), split, clock) if looks else clock
    plan = maker.plan(dice, Span(float(timeline.seconds), float(1 / timeline.fps)))
    captions, prompt = compose(maker.wordings, maker.words(plan), clock)
    stage = Stage(timeline.num_samples, timeline.geometry.sample_rate, stream(*key, "sound"))
    maker.sound(stage, plan)
    waveform = torch.from_numpy(stage.as_words().astype(np.float32) / np.float32(32768))
    clip = AVClip(_picture(maker, plan, timeline), AudioClip(waveform, stage.sample_rate))
    held_out = dice.held_out + (clock.held_out if looks else [])
    return WorldClip(clip, name, {**plan, "held_out": held_out}, tuple(plan["events"]), captions, prompt)


def activity(parameters: dict[str, Any], num_frames: int) -> np.ndarray:
    """Level 0..1 of a continuous scene at the middle of each frame, ``(F,)``: rain's strength, the wheel's speed."""
    return level_at(parameters["knots"], (np.arange(num_frames) + 0.5) / num_frames)


def _picture(maker: Scene, plan: dict[str, Any], timeline: Timeline) -> VideoClip:
    still, canvas = Canvas(timeline.width, timeline.height), Canvas(timeline.width, timeline.height)
    maker.backdrop(still, plan)
    frames = np.empty((timeline.num_frames, timeline.height, timeline.width, 3), np.uint8)
    for index in range(timeline.num_frames):
        canvas.copy_from(still)
        maker.draw(canvas, plan, float((index + 0.5) / float(timeline.fps)))
        frames[index] = canvas.as_bytes()
    return VideoClip(torch.from_numpy(frames.astype(np.float32) / np.float32(255)), timeline.fps)
