"""Shallow parsing: tokens become things and happenings, clause by clause, in one pass without backtracking."""

from __future__ import annotations

from .data import ANIMATE, Lexicon, Modifier, Place, Verb
from .tokens import Token
from .understood import Happening, Parsed, Thing


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
SAME_TIME = _words("while as when whenever with during meanwhile whereas and but or because so simultaneously together")
LATER = _words("then before finally until till afterwards later eventually followed")
PHASES = _words("start stop come move ease") | frozenset({"set-down"})
RELATIVES = _words("that which who")
PRONOUNS = _words("it they")
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


class Parser:
    """Walks over the tokens once and keeps what the next word needs to know."""

    def __init__(self, tokens: list[Token], lexicon: Lexicon) -> None:
        self._tokens, self._lexicon = tokens, lexicon
        self.parsed = Parsed()
        self._clause, self._order = 0, 1.0
        self._subject: Thing | None = None
        self._pending: list[Modifier] = []
        self._number: int | None = None
        self._preposition = ""
        self._negated = self._waiting_after = self._passive = False
        self._verb: Happening | None = None
        self._attributive: Verb | None = None
        self._last: Thing | None = None
        self._carried_manner: list[Modifier] = []
        self._of_verb: Happening | None = None

    def parse(self) -> Parsed:
        """Understand all tokens."""
        for position, token in enumerate(self._tokens):
            self._step(position, token)
        self._attach_manner()
        return self.parsed

    def _step(self, position: int, token: Token) -> None:
        text, meaning = token.text, token.meaning
        if not token.is_word:
            self._punctuation(token)
        elif text in NEGATIONS or text.endswith(("n't", "n’t")):
            self._negated = True
        elif self._is_joint(position, text):
            self._joint(text)
        elif self._reads_as_verb(position, token):
            self._on_verb(position, token)
        elif self._reads_as_place(position, token):
            self._on_place(meaning.place)
        elif meaning.modifier is not None and not self._reads_as_noun(position, token):
            self._on_modifier(meaning.modifier)
        elif meaning.source is not None:
            self._on_noun(position, token)
        elif meaning.number is not None:
            self._on_number(position, meaning.number)
        else:
            self._on_plain(position, text)

    # clauses

    def _punctuation(self, token: Token) -> None:
        later = token.ends_sentence or self._waiting_after
        self._new_clause(
            self._order + 1 if later and self._clause_has_verb() else self._order, keep_subject=not token.ends_sentence
        )
        self._waiting_after = False

    def _is_joint(self, position: int, text: str) -> bool:
        if text in ("as", "like", "after", "before", "during") and not self._clause_words_follow(position):
            return False
        return text in SAME_TIME or text in LATER or text == "after"

    def _clause_words_follow(self, position: int) -> bool:
        return any(token.meaning.verb for token in self._tokens[position + 1 : position + 7])

    def _joint(self, text: str) -> None:
        if text == "with":
            self._preposition, self._negated = "with", False
            return
        if text in ("and", "or", "but") and (text == "but" or not self._negated):
            self._new_clause(self._order, keep_subject=True, keep_role=self._preposition if text == "and" else "")
        elif text in LATER:
            self._new_clause(
                self._order + 1 if self._clause_has_verb() or self.parsed.things else self._order, keep_subject=True
            )
        elif text == "after":
            if self._clause_has_verb() or (self._last and self._last.clause == self._clause):
                self._new_clause(self._order - 0.5, keep_subject=True)
            else:
                self._waiting_after = True
        elif text not in ("and", "or"):
            self._new_clause(self._order, keep_subject=True)

    def _clause_has_verb(self) -> bool:
        return any(happening.clause == self._clause for happening in self.parsed.happenings) or bool(
            self._last and self._last.clause == self._clause
        )

    def _new_clause(self, order: float, *, keep_subject: bool, keep_role: str = "") -> None:
        self._attach_manner()
        self._clause += 1
        self._order = max(order, 0.5)
        self._preposition = keep_role if keep_role in SETTING_BEFORE else ""
        self._negated = self._passive = False
        self._verb = self._attributive = self._of_verb = None
        self._pending, self._number = [], None
        if not keep_subject:
            self._last = None

    def _attach_manner(self) -> None:
        """Adverbs and loudness belong to this clause's last happening, else to its last thing."""
        found = [happening for happening in self.parsed.happenings if happening.clause == self._clause]
        if found:
            found[-1].manner += self._carried_manner
        elif self._last is not None and self._last.clause == self._clause:
            self._last.modifiers += self._carried_manner
        self._carried_manner = []

    # words

    def _on_plain(self, position: int, text: str) -> None:
        if text in BE:
            self._passive = True
        elif text in PREPOSITIONS:
            self._preposition = text
            self._of_verb = (
                self._verb if text in ("of", "from") and self._verb and self._verb.nominal else self._of_verb
            )
        elif text in ("once", "twice"):
            self._count_event(1 if text == "once" else 2)
        elif text in PRONOUNS:
            self._preposition = ""
        elif text in ("sound", "sounds", "noise", "music") and self._negated:
            self.parsed.muted = text != "music"

    def _on_number(self, position: int, number: int) -> None:
        following = self._tokens[position + 1] if position + 1 < len(self._tokens) else None
        if following is not None and following.text in ("times", "time"):
            self._count_event(number)
        else:
            self._number = number

    def _count_event(self, count: int) -> None:
        if self._verb is not None:
            self._verb.count = count
        else:
            self._number = count

    def _on_modifier(self, modifier: Modifier) -> None:
        if modifier.kind in GLOBAL_KINDS:
            self.parsed.settings.append(modifier)
        elif modifier.kind in ADVERB_KINDS:
            self._carried_manner.append(modifier)
        else:
            after_of = self._preposition == "of" and self._last is not None
            (self._last.modifiers if after_of else self._pending).append(modifier)

    def _on_place(self, place: Place) -> None:
        if not self._negated and (self.parsed.place is None):
            self.parsed.place = place
        self._preposition, self._pending, self._number = "", [], None

    def _on_noun(self, position: int, token: Token) -> None:
        meaning = token.meaning
        following = self._tokens[position + 1].text if position + 1 < len(self._tokens) else ""
        source, shown = self._lexicon.senses.get((token.text, following), (meaning.source, meaning.shown))
        if self._is_compound(position):
            if meaning.modifier is not None:
                self._pending.append(meaning.modifier)
            return
        role = self._preposition
        if role == "of" and self._of_verb is None and (self._last is None or self._last.clause != self._clause):
            role = ""  # "the sound of rain", "a group of dogs": this is the noun that counts
        count, self._number = self._number, None
        thing = Thing(source, shown, meaning.is_plural or bool(count and count > 1), role, self._clause, count)
        thing.modifiers, self._pending = self._pending, []
        thing.negated = self._negated
        self.parsed.things.append(thing)
        self._place_thing(thing, token)
        self._preposition = ""
        self._last = thing

    def _is_compound(self, position: int) -> bool:
        """Whether another noun follows at once, so that this one only describes it: "metal roof", "kitchen door"."""
        if position + 1 >= len(self._tokens) or self._tokens[position].possessive:
            return False
        following = self._tokens[position + 1]
        return (
            following.meaning.source is not None
            and not (following.meaning.verb and self._reads_as_verb(position + 1, following))
            and not self._tokens[position].meaning.is_plural
        )

    def _place_thing(self, thing: Thing, token: Token) -> None:
        """Subject, object, instrument, or what a contact is made with."""
        if self._attributive is not None:
            self._add(self._attributive, actor=thing)
            self._attributive = None
            self._verb = None
            self._subject = thing
        elif self._of_verb is not None and self._of_verb.actor is None and thing.role in ("of", "from"):
            self._of_verb.actor, thing.acts = thing, True
        elif thing.role == "":
            if self._verb is not None and self._verb.target is None and self._verb.clause == self._clause:
                self._verb.target = thing
                thing.role = "object"
            elif not thing.negated:
                self._subject = thing
        elif self._verb is not None:
            self._as_complement(thing)

    def _as_complement(self, thing: Thing) -> None:
        verb = self._verb
        if (thing.role == "by" and verb.passive) or (thing.role == "with" and verb.passive and verb.actor is None):
            verb.actor, verb.passive, thing.acts = thing, False, True
        elif thing.role == "with" and thing.source.kind in TOOLS:
            verb.tool = thing
        elif thing.role in CONTACT and verb.target is None:
            verb.target = thing
        elif thing.role == "of" and verb.target is self._last and verb.target.source.kind in ("body", "surface"):
            thing.role = verb.target.role  # "on the skin of a drum": the drum is what is touched
            verb.target = thing

    def _reads_as_place(self, position: int, token: Token) -> bool:
        meaning = token.meaning
        following = self._tokens[position + 1].meaning.place if position + 1 < len(self._tokens) else None
        if meaning.place is not None and following is not None:
            return False  # "a mountain village" is a village
        if meaning.place is None or (self._is_compound(position) and self._preposition == ""):
            return False
        return meaning.source is None or (self._preposition in SETTING_BEFORE and self._preposition != "of")

    def _reads_as_noun(self, position: int, token: Token) -> bool:
        """A word that is both modifier and noun is a noun at the end of its phrase: "glass", "metal", "snow"."""
        if token.meaning.source is None:
            return False
        following = self._tokens[position + 1] if position + 1 < len(self._tokens) else None
        if self._preposition == "of" and self._last is not None and token.meaning.modifier.kind == "material":
            return False
        if following is None or not following.is_word:
            return True
        return following.meaning.source is None and following.meaning.modifier is None

    # verbs

    def _reads_as_verb(self, position: int, token: Token) -> bool:
        meaning = token.meaning
        if meaning.verb is None:
            return False
        before = self._tokens[position - 1] if position else None
        following = self._tokens[position + 1] if position + 1 < len(self._tokens) else None
        if meaning.source is None and meaning.modifier is None and meaning.place is None and not meaning.plain:
            return True
        if before is not None and before.text in AUXILIARIES:
            return True
        noun_like = before is None or not before.is_word or before.text in DETERMINERS or before.text in PREPOSITIONS
        noun_like = (
            noun_like or (before.meaning.number is not None and before.meaning.source is None) or before.possessive
        )
        noun_like = noun_like or (before.meaning.modifier is not None and before.meaning.source is None)
        carried = before is not None and before.text in ("and", "then", ",") and self._subject is not None
        if (
            carried
            and meaning.tenses & {"s", "past"}
            and not (following and following.meaning.verb and not following.meaning.source)
        ):
            return True
        if noun_like:
            return False
        after_noun = before.meaning.source is not None or before.text in PRONOUNS | RELATIVES
        adverb = before.meaning.modifier is not None or before.text.endswith("ly")
        free = self._verb is None or self._verb.clause != self._clause
        strong_next = (
            following is not None
            and following.meaning.source is None
            and bool(following.meaning.tenses & {"s", "base"})
            and not following.meaning.plain
            and following.meaning.modifier is None
        )
        if meaning.modifier is not None and meaning.source is None:
            return after_noun and free and not (following and following.meaning.source)
        return (after_noun or adverb) and free and not strong_next

    def _on_verb(self, position: int, token: Token) -> None:
        verb, tenses = token.meaning.verb, token.meaning.tenses
        before = self._tokens[position - 1] if position else None
        following = self._tokens[position + 1] if position + 1 < len(self._tokens) else None
        if self._is_phase(verb, following):
            return
        described = before is None or not before.is_word or before.text in DETERMINERS | PREPOSITIONS | {"and"}
        described = described or before.meaning.number is not None or before.meaning.modifier is not None
        leads_noun = following is not None and (
            following.meaning.source is not None
            or (following.meaning.modifier is not None and following.meaning.verb is None)
        )
        free_subject = self._subject_here(position)
        if (
            described
            and leads_noun
            and tenses & {"ing"}
            and not ((before and before.text in ("without", "by")) or free_subject)
        ):
            self._attributive = verb
            return
        if described and leads_noun and tenses & {"pp"} and not tenses & {"base", "s"} and not free_subject:
            return
        nominal = bool(before) and (
            before.text in DETERMINERS
            or before.possessive
            or before.meaning.number is not None
            or (before.meaning.modifier is not None and not free_subject)
            or before.text in ("of", "with", "without")
        )
        self._start_happening(verb, tenses, position, nominal=nominal)

    def _is_phase(self, verb: Verb, following: Token | None) -> bool:
        """In "starts barking" the second verb is what happens."""
        if verb.lemma not in PHASES or following is None:
            return False
        return (
            following.meaning.verb is not None and bool(following.meaning.tenses & {"ing", "base"})
        ) or following.text == "to"

    def _subject_here(self, position: int) -> bool:
        """Whether the subject stands right before, so that an -ing form is its verb: "a dog barking"."""
        for token in reversed(self._tokens[max(0, position - 4) : position]):
            if token.meaning.source is not None or token.text in BE:
                return True
            if not token.is_word or token.text in DETERMINERS | {"and"}:
                return False
        return False

    def _start_happening(self, verb: Verb, tenses: set[str], position: int, *, nominal: bool) -> None:
        before = self._tokens[position - 1] if position else None
        happening = Happening(verb, self._clause, self._order, nominal=nominal, negated=self._negated)
        if self._number is not None:
            happening.count, self._number = self._number, None
        subject = self._subject
        if nominal and before is not None and before.possessive and self._last is not None:
            subject = self._last
        with_thing = self._last if self._last is not None and self._last.role == "with" else None
        if with_thing is not None and with_thing.clause == self._clause:
            if "ing" in tenses and before is not None and before.meaning.source is with_thing.source:
                subject = with_thing  # "a line with sheets flapping"
            elif with_thing.source.kind in TOOLS:
                happening.tool = with_thing
        happening.actor = subject
        past_only = bool(tenses & {"pp"}) and not tenses & {"base", "s"}
        acted_on = subject is not None and subject.source.kind in INANIMATE and verb.kind in ACTED_ON
        if (
            subject is not None
            and past_only
            and (self._passive or acted_on)
            and subject.source.kind not in ANIMATE | {"weather"}
        ) or (
            self._passive and "pp" in tenses and subject is not None and verb.kind in ACTED_ON and "ing" not in tenses
        ):
            happening.actor, happening.target, happening.passive = None, subject, True
        if subject is not None:
            subject.acts = True
        self._pending = []
        self.parsed.happenings.append(happening)
        self._verb, self._preposition, self._passive = happening, "", False
        if happening.negated:
            self._negated = False

    def _add(self, verb: Verb, *, actor: Thing) -> None:
        actor.acts = True
        self.parsed.happenings.append(Happening(verb, self._clause, self._order, actor=actor, negated=self._negated))
