"""From a scene's plan to words: a visual caption, an acoustic caption and the short prompt a user would type.

In the style of BridgeDiT's captions: a few sentences for the picture without any word for sound, one sentence of up to
26 words for the sound without any word for looks. Counts, tempo, materials and colours are stated, because they are
what a model can be held to; the moments of events are not, because they are what picture and sound must agree on by
themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..core.types import Captions
from .dice import Dice, Options

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
MAX_AUDIO_WORDS = 26

_ACOUSTIC = """
acoustic audible bang banging bangs beep beeping beeps blare boom booming booms buzz buzzing chime chimes chirp chug
chugging clack clang clanging clangs clank clatter click clicking clicks clink crack crackle crackling crackles creak
deafening ding drone droning drumbeat echo echoes echoing faint hear heard hearing hiss hissing hollow hum humming
hums hush knock knocking knocks listen loud louder loudly muffled murmur musical noise noises noisy patter pattering
peal pitch pitched plink plinking plinks plop plopping plops purr purring quiet quieter quietly racket rap rapping
raps rattle reverberates reverberating reverberation ringing roar roaring rumble rumbles rumbling shrill silence
silent sound sounded sounding sounds thud thudding thuds thump thumping thumps tick ticking ticks tock tone tones
tinkle volume whir whirring whistle
"""
ACOUSTIC_WORDS = frozenset(_ACOUSTIC.split())
_VISUAL = """
appear appears backdrop background beam black blink blinking blinks blue bright brightly camera charcoal closeup color
colored colors colour coloured colours cream dark darkness dim dusk flash flashes flashing foreground frame framed
glance gleam gleaming glint glitter glow glowing glows golden gray green grey horizon image lavender lens light lights
lit looks night orange painted peach picture pink pulsing purple red reflection ripples sage sand scene see seen shade
shadow shadows shine shines shining shiny shot silhouette sky slate spark sparkle sparks stars turquoise view visible
visibly visual wall walls watch watched white yellow
"""
VISUAL_WORDS = frozenset(_VISUAL.split())


@dataclass(frozen=True)
class Wordings:
    """Templates of one scene; braces name the fields that the scene's ``words`` gives.

    Args:
        video: What is seen.
        audio: What is heard.
        prompt: What a user would type.
    """

    video: Options
    audio: Options
    prompt: Options


def compose(wordings: Wordings, fields: Mapping[str, str], dice: Dice) -> tuple[Captions, str]:
    """Pick a wording of each kind for this split and fill it in.

    Returns:
        The captions and the user's prompt.
    """
    video, audio, prompt = (
        _sentence(dice.pick(options), fields) for options in (wordings.video, wordings.audio, wordings.prompt)
    )
    return Captions(video=video, audio=audio), prompt.removesuffix(".")


def _sentence(template: str, fields: Mapping[str, str]) -> str:
    text = template.format_map(fields)
    return ". ".join(part[:1].upper() + part[1:] for part in text.split(". "))


def number(count: int) -> str:
    """``3`` to "three"; digits above twelve."""
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def times(count: int) -> str:
    """``1`` to "once", ``3`` to "three times"."""
    return {1: "once", 2: "twice"}.get(count, f"{number(count)} times")


def a(noun: str) -> str:
    """The noun with its article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def counted(count: int, noun: str) -> str:
    """``3, "drop"`` to "three drops"."""
    return f"{number(count)} {noun}{'' if count == 1 else 's'}"


def side(place: float) -> str:
    """Where -1..1 is: "on the left", "in the middle" or "on the right"."""
    return "on the left" if place < -0.25 else "on the right" if place > 0.25 else "in the middle"


def manner(count: int, rhythm: str) -> str:
    """How events follow each other, as an adverbial; nothing for one or two."""
    return "" if count < 3 else {"steady": ", evenly spaced", "uneven": ", at uneven intervals"}[rhythm]
