"""Does the sound follow what is audible, and leave alone what is not? SAVA's appendix E on the pocket towers.

Prompts in fours with one seed: one; the same in another colour, which nobody hears; with another number of events; of
another material. All run text, picture, sound. What is compared is how far the sound's latents move.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from clips import NO_NEGATIVES
from intervals import Estimate, ratio_of
from sava_clips import Maker
from sounding_video.captions.backends.lexicon import LexiconBackend
from sounding_video.captions.crr import expand
from sounding_video.core.types import Captions
from sounding_video.models.weights.alignment import load_alignment
from sounding_video.tasks.base import Run, made_alone
from sounding_video.tasks.reading import Reading
from sounding_video.world.captions import a, times
from torch import Tensor

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white")
NUMBERS = (1, 2, 3, 4)
# What the world's training prompts say, and materials that sound differently.
SCENES = (
    ("{a_colour} {kind} ball bounces {times}", ("wooden", "metal", "rubber")),
    ("someone beats {a_colour} {kind} drum {times}", ("bass", "tom", "snare")),
    ("a fist in {a_colour} sleeve knocks on {a_kind} door {times}", ("wooden", "metal")),
    ("hammer with {a_colour} handle on {a_kind} anvil, {times}", ("iron", "steel")),
)
QUIET, LOUD = "colour", ("number", "material")
SUPPORTS = ("learned", "all")
# Whether the sound's own caption changes with the prompt, or stays that of the first one.
WAYS = {"whole": "the whole prompt changes", "picture": "the picture alone changes"}


def prompts_of(index: int) -> dict[str, str]:
    """One prompt, and the same with one thing changed."""
    dice = random.Random(index)
    template, kinds = SCENES[index % len(SCENES)]
    colours, numbers, materials = dice.sample(COLOURS, 2), dice.sample(NUMBERS, 2), dice.sample(kinds, 2)

    def prompt(colour: str, number: int, kind: str) -> str:
        return template.format(a_colour=a(colour), kind=kind, a_kind=a(kind), times=times(number))

    return {
        "": prompt(colours[0], numbers[0], materials[0]),
        QUIET: prompt(colours[1], numbers[0], materials[0]),
        LOUD[0]: prompt(colours[0], numbers[1], materials[0]),
        LOUD[1]: prompt(colours[0], numbers[0], materials[1]),
    }


def moved(maker: Maker, index: int, file: str = "video_frames") -> dict[str, float]:
    """How far the sound moves, by ``support.way.change``; what is there is kept."""
    note = maker.folder / "sensitivity" / f"{file}-{index:03d}.json"
    if not note.is_file():
        note.parent.mkdir(parents=True, exist_ok=True)
        found = _moved(maker, index, maker.alignment(file))
        part = note.with_suffix(".part")
        part.write_text(json.dumps(found) + "\n", encoding="utf-8")
        part.replace(note)
    return json.loads(note.read_text(encoding="utf-8"))


def _moved(maker: Maker, index: int, alignment: Path) -> dict[str, float]:
    timeline = maker.timeline()
    captions = {
        change: expand(prompt, backend=LexiconBackend(), profile="short").captions
        for change, prompt in prompts_of(index).items()
    }
    options = replace(maker.options, seed=index)
    run = Run(maker.model(), captions[""], NO_NEGATIVES, options)

    def alone(said: Captions, side: str, reading: Reading | None = None, picture: Tensor | None = None) -> Tensor:
        told = replace(run, captions=said, reading=reading)
        return made_alone(told, side, timeline, told.conditioning(timeline), told_of=picture)

    pictures = {change: alone(each, "video") for change, each in captions.items()}
    loaded, found = load_alignment(alignment), {}
    for support in SUPPORTS:
        reading = Reading(loaded, support=support)
        first = alone(captions[""], "audio", reading, pictures[""])
        for change in (QUIET, *LOUD):
            for way in WAYS:
                said = captions[change if way == "whole" else ""]
                sound = alone(said, "audio", reading, pictures[change])
                found[f"{support}.{way}.{change}"] = float((sound - first).square().mean().sqrt())
    return found


def ratios(rows: Mapping[int, Mapping[str, float]]) -> dict[str, dict[str, Estimate]]:
    """By ``support.way``, for each audible change: mean distance over that of another colour; resampled prompts."""
    return {
        f"{support}.{way}": {
            change: ratio_of(
                {index: row[f"{support}.{way}.{change}"] for index, row in rows.items()},
                {index: row[f"{support}.{way}.{QUIET}"] for index, row in rows.items()},
            )
            for change in LOUD
        }
        for support in SUPPORTS
        for way in WAYS
    }


def table(rows: Mapping[int, Mapping[str, float]]) -> str:
    """Markdown, one line a support and way."""
    lines = [f"| support | what changes | another {LOUD[0]} / another colour | another {LOUD[1]} / another colour |"]
    lines.append("|---|---|---:|---:|")
    for name, each in ratios(rows).items():
        support, way = name.split(".")
        lines.append(f"| {support} | {WAYS[way]} | {each[LOUD[0]]} | {each[LOUD[1]]} |")
    return "\n".join(lines)
