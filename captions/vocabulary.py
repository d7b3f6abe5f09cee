"""Words that only the ear or only the eye can verify, and families of sounding things. English, base forms.

Words that serve both (a splash, a knock, light rain) are left out on purpose: flagging them would make the validator
drop good captions. Of "bright" and "dark", which are also said of tones, only those before something visible are found.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from .english.families import Family, players, source_families, speech_verbs

_ACOUSTIC_VERBS = """
sound hear listen echo reverberate resound resonate shout yell scream shriek whisper murmur mutter sing hum chant
chatter applaud cheer bark woof yap growl howl meow mew purr moo neigh whinny bleat oink quack cluck caw chirp tweet
twitter warble trill hoot squawk screech croak buzz hiss roar bray squeal squeak bang boom thud thump clang clank
clink clatter rattle jingle tinkle jangle crackle sizzle crunch creak groan rumble thunder whir whirr whoosh honk blare
beep toot whistle wail patter gurgle babble burble rustle clop clip-clop twang giggle chuckle cackle sob snore yelp
snarl whine whimper grunt moan mumble yowl coo gobble wheeze croon jabber clack sniffle hiccup
"""
_ACOUSTIC_OTHERS = """
noise noises audible audibly inaudible audio sonic acoustics heard loudness louder voice voices vocals song songs
sang sung applause music melody melodies tune tunes harmony harmonies din cacophony clamor clamour decibel decibels
soundscape soundtrack soundlessly silence reverberation resonance ribbit tick-tock ticking tolling pealing ringing
chiming droning pitter-patter noisily loudly silently quietly laughter knocking knockings
"""
# Adjectives can be taken out of a sentence before a noun and leave it whole.
_ACOUSTIC_ADJECTIVES = """
acoustic loud noisy deafening silent soundless hushed muffled shrill raucous high-pitched low-pitched sonorous
vocal musical melodic resonant
"""
_VISUAL_ADJECTIVES = """
red orange yellow green blue purple violet pink brown black white gray grey golden crimson scarlet turquoise beige
colored coloured colorful colourful glowing gleaming glittering sunlit moonlit backlit shadowy luminous neon blurred
blurry photorealistic cinematic visible visual invisible transparent translucent panoramic silver shiny striped spotted
maroon teal mauve blond blonde bearded freckled sunny starry sun-drenched
"""
# Seen only before something that is seen: a tone can be bright too.
CONTEXT_ADJECTIVES = frozenset(("bright", "dark", "pale", "dim"))
_SIGHTS = (
    "sky|skies|sun|moon|day|daylight|morning|night|evening|room|street|forest|woods?|alley|alleyway|corridor|hallway|hall|"
    "cave|tunnel|windows?|lamps?|lights?|colou?rs?|eyes?|hair|fur|skin|coats?|clothes|clothing|suits?|dress|dresses|face|"
    "faces|corner|road|path|sea|water|landscape|background|clouds?|paint|walls?|stage|screen|kitchen|bedroom|house|garden|"
    "workshop|basement|cellar|figure|shapes?|beard|red|green|blue|brown|grey|gray|feathers|leaves|fabric"
)
VISUAL_IN_CONTEXT = re.compile(
    rf"\b(?:{'|'.join(sorted(CONTEXT_ADJECTIVES))})\b(?=\s+(?:[a-z-]+\s+)?(?:{_SIGHTS})\b)", re.IGNORECASE
)
_VISUAL_VERBS = "color colour glow gleam glitter glint zoom gaze stare smile grin frown smirk blink wink"
_VISUAL_OTHERS = """
hue hues sunlight moonlight dimly shadow shadows silhouette silhouettes camera cameras close-up close-ups closeup
framing lens bokeh photograph photographs photo photos image images picture pictures visibly visually seen looking
wearing wears clad dressed panorama skyline horizon pixel pixels backdrop foreground sunset sunsets sunrise sunrises
starlight lamplight candlelight daylight rainbow beard beards moustache mustache freckles eyebrow eyebrows coat coats
raincoat raincoats jacket jackets shirt shirts t-shirt t-shirts skirt skirts dress dresses trousers jeans sweater
sweaters
scarf scarves apron aprons hat hats
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
    r"camera(?:'s)? clicks?|hi-hats?|silver (?:bells?|coins?|spoons?|flutes?|bowls?|chains?|cutlery|whistles?))\b",
    re.IGNORECASE,
)
# Things that sound, with what they sound like, beside the families of the word lists. A caption may use a word of a
# family only if the anchors hold one of it too. After the bar: words that allow the others and may stand alone.
_FAMILIES = """
dog puppy hound terrier retriever husky bark woof yap
cat kitten meow mew purr
horse pony stallion mare foal neigh whinny hoof hooves clop clip-clop | donkey mule cart carriage rider jockey
cow cattle moo
sheep lamb goat bleat
pig piglet oink
duck goose geese quack
chicken hen rooster cluck
crow raven caw
owl hoot
bird sparrow robin songbird canary parrot seagull gull chirp tweet twitter warble trill squawk | birdsong dove pigeon
frog toad croak ribbit
lion tiger
wolf wolves coyote
elephant
monkey ape
snake rattlesnake
bee wasp mosquito insect cricket cicada
baby babies infant toddler | newborn
crowd audience spectator applause applaud | clap cheer ovation concert stadium arena fans supporters protesters people
car automobile sedan taxi vehicle | engine motor traffic van
truck lorry vehicle | engine motor traffic
bus vehicle | engine motor traffic
motorcycle motorbike scooter vehicle | engine motor biker
train locomotive railway | subway metro tram
tram streetcar trolley
airplane aeroplane jet aircraft | plane
helicopter chopper aircraft
boat ship ferry vessel motorboat
siren ambulance police | alarm firetruck
hammer anvil blacksmith
jackhammer
chainsaw
gun rifle pistol gunshot gunfire | shoot shot shots soldier
explosion explode bomb detonation detonate | blast erupt burst grenade firework fireworks
firework firecracker | rocket rockets
thunder thunderstorm lightning thunderclap storm
rain raindrop drizzle downpour storm rainstorm
hail hailstone storm
campfire bonfire fireplace fire flame
waterfall cascade
guitar | guitarist
piano | pianist
violin fiddle viola cello | violinist fiddler cellist
drum drummer snare cymbal drumstick
trumpet trombone tuba | trumpeter brass
flute | flutist flautist
saxophone clarinet | saxophonist
accordion | accordionist
bell belfry | bells doorbell chime
telephone phone | smartphone call
typewriter
lawnmower mower
laugh laughter giggle chuckle | cackle party joke clown
sob weep sniffle | cry wail tears
scream shriek | shout yell cry squeal howl siren kettle brake monkey fox peacock eagle
shout yell | call scream cheer crowd vendor referee commentator fans protest command
sing singer choir | chant hum lullaby carol opera vocalist song music melody voice bird birdsong whale bowl
footstep footfall | step walk stroll march run jog sprint stomp tiptoe stride pace tread climb approach enter cross \
wander hike chase dance stair stairs shoe boot heel foot feet paw hoof hooves limp shuffle hurry arrive follow
door slam | gate lid hatch drawer cupboard cabinet trunk shutter window knock hinge elevator
glass shatter | window pane bottle jar mirror bulb vase cup goblet lens wineglass windshield crystal chandelier break \
smash crash clink champagne wine drink aquarium greenhouse plate dish porcelain ceramic
snore | sleep
cough | choke
sneeze |
"""
# Families whose grounds come from the word lists.
_SPEECH = "talk speak chat conversation speech dialogue voice | word narrator announcer commentator radio television"
_MUSIC = (
    "music melody tune song | concert sing hum chime jingle radio stereo dance musical band orchestra dj lullaby rhythm"
)
_BIRDS = (
    "crow raven magpie owl eagle hawk falcon duck goose turkey pigeon dove peacock woodpecker cuckoo penguin swan "
    "hummingbird rooster chicken hen flock macaw cockatoo nightingale wren finch blackbird"
)
_FAMILY_VERBS = """
explode detonate talk speak chat laugh weep cry clap shoot slam shatter cough sneeze sleep choke step walk stroll
march run jog sprint stomp tiptoe stride pace tread climb approach enter cross wander hike chase dance limp
shuffle hurry arrive follow knock break smash crash clink drink erupt burst call
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
def families() -> tuple[Family, ...]:
    """Every family of sounding things: the listed ones and those of the word lists."""
    listed = [_family(line) for line in _FAMILIES.strip().splitlines()]
    listed += [_family(_SPEECH, speech_verbs()), _family(_MUSIC, players()), _family("bird |", _forms(_BIRDS.split()))]
    return (*listed, *source_families())


def _family(line: str, grounds: Iterable[str] = ()) -> Family:
    claims, _, others = line.partition("|")
    claimed = _forms(claims.split())
    return Family(claimed, claimed | _forms(others.split()) | frozenset(grounds))


def _forms(bases: Iterable[str]) -> frozenset[str]:
    verbs = {*_ACOUSTIC_VERBS.split(), *_FAMILY_VERBS.split()}
    return frozenset(
        form for base in bases for form in (_verb_forms(base) if base in verbs else (base, base + "s", base + "es"))
    )


@lru_cache(maxsize=2)
def family_index(*, grounds: bool = False) -> dict[str, frozenset[int]]:
    """Word form to the families that it claims, or that it allows to be claimed."""
    index: dict[str, set[int]] = {}
    for number, family in enumerate(families()):
        for form in family.grounds if grounds else family.claims:
            index.setdefault(form, set()).add(number)
    return {form: frozenset(numbers) for form, numbers in index.items()}
