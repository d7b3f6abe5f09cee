"""Small words and kinds that steer the grammar."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CONTACT = frozenset({"on", "onto", "against", "at", "into", "over", "upon", "through", "across", "along"})
PREPOSITIONS = CONTACT | _words(
    "in inside of with by from under near beside behind between among around above below off down up past via for "
    "toward towards about underneath beneath like as to outside amid during within without before after"
)
DETERMINERS = _words("a an the this that these those its his her their my our your some any each every both no another")
BE = _words("is are was were be been being gets get got")
AUXILIARIES = BE | _words("to can could will would may might must should do does did let lets")
NEGATIONS = _words("no not never without none nobody nor neither cannot zero")
SAME_TIME = _words(
    "while as when whenever where with during meanwhile whereas and but or because so simultaneously together"
)
LATER = _words("then before finally until till afterwards later eventually followed")
PHASES = _words("start stop come move ease") | frozenset({"set-down"})
RELATIVES = _words("that which who")
PRONOUNS = _words("it they them")
# Words before "of" that only tell how much of it: what follows is the thing.
MEASURES = _words(
    "piece pieces pair pairs bunch lot lots kind group groups sheet sheets pile heap stack deck slice slices bit bits "
    "set row rows line number handful series couple"
)
# Plain words that end a phrase of time: what follows them is another phrase.
TIMES_OF_DAY = _words("day days night nights morning mornings evening afternoon week time times moment summer winter")
INANIMATE = _words(
    "drum bell instrument surface door object kitchen food toy clock tool body water liquid nature weapon"
)
ACTED_ON = _words("impact operate string scrape flow burst rattle wind")
TOOLS = frozenset({"tool", "machine", "instrument", "weapon"})
ADVERB_KINDS = frozenset({"tempo", "loudness", "distance", "pitch", "mood"})
GLOBAL_KINDS = frozenset({"camera", "style", "time", "season", "weather"})
SETTING_BEFORE = _words(
    "in at inside on near by beside through across along over under above outside within of from around"
)
# Kinds that rage, lash and thunder by themselves.
NATURE = _words("weather nature water fire event city")
# Places into which things fall with a splash.
WATERS = _words("lake pond riverbank harbour basin") | frozenset({"open sea", "swimming pool"})
