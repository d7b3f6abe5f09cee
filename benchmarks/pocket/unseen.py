"""Clips whose looks, tempi and materials no training saw.

Of the world's test split those with a held-out material, colour or place (wordings do not count), played 1.5 times as
fast, which no scene's rhythm reaches and which moves every voice a fifth up, in colours of which red, green and blue
have changed places, seen from the other side.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import torch
from clips import FPS, NUM_FRAMES, Wish
from sounding_video.core.clock import Timeline, samples_for
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.media.audio import fit_length, resample
from sounding_video.world.scenes import SCENES
from sounding_video.world.synth import WorldClip, make_clip

SPEED_NUM, SPEED_DEN = 3, 2
# 4k+1 frames, of which every 1.5th is shown: 33 of them.
WORLD_FRAMES = (NUM_FRAMES - 1) * SPEED_NUM // SPEED_DEN + 1
OTHER_COLOURS = [2, 0, 1]


def unseen_wishes(num: int, size: int, *, first_seed: int = 0) -> list[Wish]:
    """As ``clips.wishes``, of clips that nothing was trained on the like of; scenes with events in turn."""
    timeline, scenes, made = Timeline(WORLD_FRAMES, FPS, size, size), SCENES.names(), []
    seeds = count(100_000 + first_seed)
    while len(made) < num:
        clip = make_clip(scenes[len(made) % len(scenes)], next(seeds), timeline=timeline, split="test")
        if any(" " not in value for value in clip.parameters["held_out"]):
            index = len(made)
            made.append(Wish(f"{index:03d}-{clip.scene}", changed(clip), first_seed + index))
    return made


def changed(clip: WorldClip) -> WorldClip:
    """The clip faster, in other colours and mirrored, with its event times."""
    frames, sound = clip.clip.video.frames, clip.clip.audio
    shown = torch.arange(NUM_FRAMES) * SPEED_NUM // SPEED_DEN
    picture = frames[shown].flip(2)[..., OTHER_COLOURS].contiguous()
    rate = sound.sample_rate
    faster = resample(AudioClip(sound.waveform, rate * SPEED_NUM // SPEED_DEN), rate)
    heard = fit_length(faster, samples_for(NUM_FRAMES / FPS, rate))
    events = tuple(time * SPEED_DEN / SPEED_NUM for time in clip.events)
    return replace(clip, clip=AVClip(VideoClip(picture, FPS), heard), events=events)
