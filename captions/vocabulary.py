"""Words that only the ear or only the eye can verify, and families of sounding things. English, base forms.

Words that serve both (a splash, a knock, a bright tone, light rain) are left out on purpose: flagging them would make
the validator drop good captions.
"""

from __future__ import annotations

import re
from functools import lru_cache

_ACOUSTIC_VERBS = """
sound hear listen echo reverberate resound resonate shout yell scream shriek whisper murmur mutter sing hum chant
chatter applaud cheer bark woof yap growl howl meow mew purr moo neigh whinny bleat oink quack cluck caw chirp tweet
twitter warble trill hoot squawk screech croak buzz hiss roar bray squeal squeak bang boom thud thump clang clank
clink clatter rattle jingle tinkle jangle crackle sizzle crunch creak groan rumble thunder whir whirr whoosh honk blare
beep toot whistle wail patter gurgle babble burble rustle clop clip-clop twang
"""
_ACOUSTIC_OTHERS = """
noise noises audible audibly inaudible audio sonic acoustics heard loudness louder voice voices vocals song songs
sang sung applause music melody melodies tune tunes harmony harmonies din cacophony clamor clamour decibel decibels
soundscape soundtrack soundlessly silence reverberation resonance ribbit tick-tock ticking tolling pealing ringing
chiming droning pitter-patter noisily loudly silently
"""
# Adjectives can be taken out of a sentence before a noun and leave it whole.
_ACOUSTIC_ADJECTIVES = """
acoustic loud noisy deafening silent soundless hushed muffled shrill raucous high-pitched low-pitched sonorous
vocal musical melodic resonant
"""
_VISUAL_ADJECTIVES = """
red orange yellow green blue purple violet pink brown black white gray grey golden crimson scarlet turquoise beige
colored coloured colorful colourful glowing gleaming glittering sunlit moonlit backlit shadowy luminous neon blurred
blurry photorealistic cinematic visible visual invisible transparent translucent panoramic
"""
_VISUAL_VERBS = "color colour glow gleam glitter glint zoom gaze stare smile"
_VISUAL_OTHERS = """
hue hues sunlight moonlight dimly shadow shadows silhouette silhouettes camera cameras close-up close-ups closeup
framing lens bokeh photograph photographs photo photos image images picture pictures visibly visually seen looking
wearing wears clad dressed panorama skyline horizon pixel pixels
"""
# A harmless use of a listed word, as whole phrases.
_TREES = "tree|trunk|oak|birch|pine|cedar|willow"
VIDEO_EXEMPT = re.compile(
    rf"\b(?:(?:{_TREES}|rough|peeling|gnarled|flaky|textured|wet|dry) bark|"
    rf"bark of (?:the|a|an|its) (?:\w+ )?(?:{_TREES})|"
    r"acoustic guitars?|an? whistle|the whistle|musical instruments?|sheet music|"
    r"(?:music|song) (?:stand|sheet|box|book)s?)\b",
    re.IGNORECASE,
)
AUDIO_EXEMPT = re.compile(
    r"\b(?:(?:white|pink|brown) noise|golden retrievers?|blue jays?|camera shutters?|(?:shutter|click) of a camera|"
    r"camera(?:'s)? clicks?)\b",
    re.IGNORECASE,
)
# Things that sound, with what they sound like. A caption may use a word of a family only if the anchors have one too.
_FAMILIES = """
dog puppy hound terrier retriever husky bark woof yap
cat kitten meow mew purr
horse pony stallion mare foal neigh whinny hoof hooves clop clip-clop
cow cattle moo
sheep lamb goat bleat
pig piglet oink
duck goose geese quack
chicken hen rooster cluck
crow raven caw
owl hoot
bird sparrow robin songbird canary parrot seagull gull chirp tweet twitter warble trill squawk
frog toad croak ribbit
lion tiger
wolf wolves coyote
elephant
monkey ape
snake rattlesnake
bee wasp mosquito insect cricket cicada
baby babies infant toddler
crowd audience spectator applause applaud
car automobile sedan taxi vehicle
truck lorry vehicle
bus vehicle
motorcycle motorbike scooter vehicle
train locomotive railway
tram streetcar trolley
airplane aeroplane jet aircraft
helicopter chopper aircraft
boat ship ferry vessel motorboat
siren ambulance police
hammer anvil blacksmith
jackhammer
chainsaw
gun rifle pistol gunshot gunfire
explosion explode bomb detonation detonate
firework firecracker
thunder thunderstorm lightning thunderclap storm
rain raindrop drizzle downpour storm rainstorm
hail hailstone storm
campfire bonfire fireplace fire flame
waterfall cascade
guitar
piano
violin fiddle viola cello
drum drummer snare cymbal drumstick
trumpet trombone tuba
flute
saxophone clarinet
accordion
bell belfry
telephone phone
typewriter
lawnmower mower
"""
WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")


def _verb_forms(base: str) -> frozenset[str]:
    """Every plausible inflection, wrong ones included: they do no harm in a look-up."""
    found = {base, base + "s", base + "es", base + "ed", base + "ing"}
    if base.endswith("e"):
        found |= {base + "d", base[:-1] + "ing"}
    if base[-1] not in "aeiouywxh":
        found |= {base + base[-1] + "ed", base + base[-1] + "ing"}
    return frozenset(found)


def _all_verb_forms(words: str) -> frozenset[str]:
    return frozenset(form for word in words.split() for form in _verb_forms(word))


ACOUSTIC_ADJECTIVES = frozenset(_ACOUSTIC_ADJECTIVES.split())
VISUAL_ADJECTIVES = frozenset(_VISUAL_ADJECTIVES.split())
# What a video caption must not say, and what an audio caption must not say.
ACOUSTIC_WORDS = ACOUSTIC_ADJECTIVES | frozenset(_ACOUSTIC_OTHERS.split()) | _all_verb_forms(_ACOUSTIC_VERBS)
VISUAL_WORDS = VISUAL_ADJECTIVES | frozenset(_VISUAL_OTHERS.split()) | _all_verb_forms(_VISUAL_VERBS)


@lru_cache(maxsize=1)
def family_index() -> dict[str, frozenset[int]]:
    """Word form to the families it belongs to."""
    verbs = {*_ACOUSTIC_VERBS.split(), "explode", "detonate"}
    index: dict[str, set[int]] = {}
    for number, family in enumerate(_FAMILIES.strip().splitlines()):
        for base in family.split():
            for form in _verb_forms(base) if base in verbs else (base, base + "s", base + "es"):
                index.setdefault(form, set()).add(number)
    return {form: frozenset(numbers) for form, numbers in index.items()}
