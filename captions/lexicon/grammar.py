"""Shallow parsing: tokens become things and happenings, clause by clause, in one pass without backtracking."""

from __future__ import annotations

from dataclasses import replace

from ..english.data import Lexicon, Modifier, Place, Source, Verb
from ..english.function_words import (
    ADVERB_KINDS,
    BE,
    CONTACT,
    DETERMINERS,
    GLOBAL_KINDS,
    LATER,
    NEGATIONS,
    PREPOSITIONS,
    PRONOUNS,
    SAME_TIME,
    TIMES_OF_DAY,
    TOOLS,
    WATERS,
)
from ..english.words import plural
from .reading import WordReader
from .roles import do_alike, is_acted_on, is_weather_itself, is_wet, what_it_is
from .tokens import Token
from .understood import Happening, Parsed, Thing


class Parser:
    """Walks over the tokens once and keeps what the next word needs to know."""

    def __init__(self, tokens: list[Token], lexicon: Lexicon) -> None:
        self._tokens, self._lexicon = tokens, lexicon
        self._words = WordReader(tokens)
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
        self._last_at = -1
        self._it: Thing | None = None
        self._partners: list[Thing] = []
        self._listed: list[Thing] = []
        self._clause_at = 0
        self._shared: list[tuple[Thing, Happening]] = []
        self._toy: Source | None = None
        self._impersonal = self._of_last = self._in_picture = False
        self._carried_manner: list[Modifier] = []
        self._of_verb: Happening | None = None

    def parse(self) -> Parsed:
        """Understand all tokens."""
        for position, token in enumerate(self._tokens):
            self._step(position, token)
        self._attach_manner()
        for partner, happening in self._shared:
            partner.acts = True
            self.parsed.happenings.append(replace(happening, actor=partner))
        return self.parsed

    def _step(self, position: int, token: Token) -> None:
        text, meaning, clause = token.text, token.meaning, self._clause
        if not token.is_word:
            self._punctuation(token)
        elif text in NEGATIONS or text.endswith(("n't", "n’t")):
            self._negated = True
        elif self._is_joint(position, text):
            self._joint(position, text)
        elif self._reads_as_verb(position, token):
            self._on_verb(position, token)
        elif self._words.reads_as_place(position, token, self._preposition, compound=self._is_compound(position)):
            self._on_place(position, meaning.place)
        elif meaning.modifier is not None and not self._words.reads_as_noun(
            position, token, of_a_thing=self._is_of_last()
        ):
            self._on_modifier(meaning.modifier)
        elif meaning.source is not None and not self._words.counts(position):
            self._on_noun(position, token)
        elif meaning.number is not None and not self._words.only_names(position):
            self._on_number(position, meaning.number)
        else:
            self._on_plain(position, text)
        if self._clause != clause:
            self._clause_at = position + 1

    def _reads_as_verb(self, position: int, token: Token) -> bool:
        subject = self._subject
        acting = subject is not None and subject.acts and subject.is_plural
        return self._words.reads_as_verb(
            position, token, has_subject=subject is not None, free=self._is_free(), acting=acting
        )

    def _is_free(self) -> bool:
        """Whether the clause has no verb yet."""
        return self._verb is None or self._verb.clause != self._clause

    def _is_compound(self, position: int) -> bool:
        return self._words.is_compound(position, has_subject=self._subject is not None, free=self._is_free())

    def _is_of_last(self) -> bool:
        """Whether what follows tells what the last thing is or is made of: "a wall of glass", "a photo of a cat"."""
        return self._preposition == "of" and self._of_last and self._last is not None

    # clauses

    def _punctuation(self, token: Token) -> None:
        later = token.ends_sentence or self._waiting_after
        listed = [*self._listed, *self._lone_subject()] if token.text == "," else []
        self._new_clause(
            self._order + 1 if later and self._clause_has_verb() else self._order, keep_subject=not token.ends_sentence
        )
        self._waiting_after, self._listed = False, listed

    def _lone_subject(self) -> list[Thing]:
        """The subject of this clause while it has no verb: "a dog" in "a dog and a cat play"."""
        subject = self._subject
        alone = subject is not None and subject is self._last and subject.clause == self._clause and not subject.acts
        return [subject] if alone else []

    def _is_joint(self, position: int, text: str) -> bool:
        if text in ("as", "like", "after", "before", "during") and not self._words.verb_follows(position):
            return False
        return text in SAME_TIME or text in LATER or text == "after"

    def _joint(self, position: int, text: str) -> None:
        if text == "with":
            self._preposition, self._negated = "with", False
            return
        if text in ("and", "or") and self._last_is_picture() and not self._words.verb_follows(position):
            self._preposition, self._of_last = "of", True  # "a painting of a dog and a cat"
        elif text in ("and", "or", "but") and (text == "but" or not self._negated):
            partners = [*self._listed, *self._lone_subject()] if text == "and" else []
            self._new_clause(self._order, keep_subject=True)
            self._partners = partners
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

    def _new_clause(self, order: float, *, keep_subject: bool) -> None:
        self._attach_manner()
        self._clause += 1
        self._order = max(order, 0.5)
        self._preposition = ""
        self._negated = self._passive = self._impersonal = self._in_picture = False
        self._partners, self._listed = [], []
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
        if text in ("a", "an"):
            self._number = None  # "after two beats a dog barks"
        if text in BE:
            self._passive = True
        elif text in TIMES_OF_DAY or (text in DETERMINERS and self._words.starts_phrase(position)):
            self._preposition = ""  # "on a hot day a dog pants"
        elif text == "of" and self._words.is_measured(position):
            return  # "a piece of paper" is paper
        elif text in PREPOSITIONS:
            self._preposition = text
            made = position > 0 and self._tokens[position - 1].text == "made"
            self._of_last = text == "of" and (made or self._last_at == position - 1)
            self.parsed.outdoors |= text == "outside" and self._words.stands_alone(position)
            self._of_verb = (
                self._verb if text in ("of", "from") and self._verb and self._verb.nominal else self._of_verb
            )
        elif text in ("once", "twice"):
            self._count_event(1 if text == "once" else 2)
        elif text in PRONOUNS:
            self._on_pronoun(text)
        elif text in ("sound", "sounds", "noise", "music") and self._negated:
            self.parsed.muted = text != "music"

    def _on_pronoun(self, text: str) -> None:
        """What was acted on before: "throws it away", "drops a glass and it shatters"."""
        before = [item.target for item in self.parsed.happenings if item.actor is self._subject and item.target]
        if not self._is_free():
            if self._verb.target is None and self._preposition == "" and before:
                self._verb.target = before[-1]
        elif text == "it":
            self._impersonal = True
            self._it = before[-1] if before else None
        self._preposition = ""

    def _on_number(self, position: int, number: int) -> None:
        following = self._words.at(position + 1)
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
            self._preposition = "" if modifier.kind == "time" and modifier.word in TIMES_OF_DAY else self._preposition
        elif modifier.kind in ADVERB_KINDS:
            self._carried_manner.append(modifier)
        else:
            made_of = self._is_of_last() and modifier.kind == "material" and not self._last_is_picture(empty=True)
            (self._last.modifiers if made_of else self._pending).append(modifier)

    def _on_place(self, position: int, place: Place) -> None:
        if not self._negated and (self.parsed.place is None):
            self.parsed.place = place
        if self._preposition == "into" and place.name in WATERS and not self._is_free():
            self._verb.splashes = not is_wet(self._verb.actor)
        if not self._is_compound(position):
            self._preposition = ""
        self._pending, self._number = [], None

    def _on_noun(self, position: int, token: Token) -> None:
        meaning = token.meaning
        following = self._words.at(position + 1)
        beside = (following.text if following else "", "" if self._is_free() else f"<{self._verb.verb.lemma}")
        senses = (self._lexicon.senses.get((token.text, word)) for word in beside)
        source, shown = next(filter(None, senses), (meaning.source, meaning.shown))
        if self._in_picture:
            return
        if self._is_compound(position):
            if meaning.modifier is not None:
                self._pending.append(meaning.modifier)
            self._toy = source if source.name == "toy" else self._toy
            return
        if self._toy is not None:
            source, shown, self._toy = self._toy, f"toy {shown}", None
        role = self._preposition
        if role == "of" and self._of_verb is None and (self._last is None or self._last.clause != self._clause):
            role = ""  # "the sound of rain", "a group of dogs": this is the noun that counts
        role = "owner" if self._words.owns(position) else role
        count, self._number = self._number, None
        single = plural(token.text) == token.text and self._words.is_single(position)
        is_plural = (meaning.is_plural and not single) or bool(count and count > 1)
        shown = plural(shown) if is_plural and not meaning.is_plural and shown == token.text else shown  # "three dog"
        thing = Thing(source, shown, is_plural, role, self._clause, count)
        thing.modifiers, self._pending = self._pending, []
        thing.negated = self._negated
        if self._words.is_named_again(position):
            earlier = [one for one in self.parsed.things if (one.source, one.shown) == (source, shown)]
            thing.same = earlier[0] if earlier else None
        if self._is_of_last() and self._last_is_picture(empty=True):
            self._last.depicted.append(thing)
            self._attributive, self._preposition, self._last_at = None, "", position
            return
        self.parsed.things.append(thing)
        self._place_thing(thing, token)
        self._preposition = ""
        self._last, self._last_at = thing, position

    def _last_is_picture(self, *, empty: bool = False) -> bool:
        """Whether the last thing of this clause is a picture or a statue that shows something."""
        last = self._last
        shows = last is not None and last.source.kind == "depiction" and last.clause == self._clause
        return shows and (empty or bool(last.depicted))

    def _place_thing(self, thing: Thing, token: Token) -> None:
        """Subject, object, instrument, or what a contact is made with."""
        if self._attributive is not None:
            self._add(self._attributive, actor=thing)
            self._attributive = None
            if not self._is_free() and self._verb.target is None and thing.role == "":
                self._verb.target, thing.role = thing, "object"  # "an alarm wakes a sleeping man"
            else:
                self._verb, self._subject = None, thing
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
        if thing.role == "into" and thing.source.kind == "water":
            verb.splashes = not is_wet(verb.actor)

    # verbs

    def _on_verb(self, position: int, token: Token) -> None:
        verb, tenses = token.meaning.verb, token.meaning.tenses
        before, following = self._words.at(position - 1), self._words.at(position + 1)
        if self._words.is_phase(verb, following):
            return
        if self._last_is_picture() and self._last_at == position - 1 and "ing" in tenses:
            self._in_picture = True  # "a photo of a dog chasing a ball"
            return
        self._in_picture = False
        described = before is None or not before.is_word or before.text in DETERMINERS | PREPOSITIONS | {"and"}
        described = described or before.meaning.number is not None or before.meaning.modifier is not None
        leads_noun = following is not None and (
            following.meaning.source is not None
            or (following.meaning.modifier is not None and following.meaning.verb is None)
        )
        free_subject = self._words.subject_stands_before(position)
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

    def _start_happening(self, verb: Verb, tenses: set[str], position: int, *, nominal: bool) -> None:
        before = self._words.at(position - 1)
        happening = Happening(verb, self._clause, self._order, nominal=nominal, negated=self._negated)
        happening.unread = self._words.object_is_unread(position)
        if self._number is not None:
            happening.count, self._number = self._number, None
        if self._impersonal and self._is_free():
            self._subject = what_it_is(verb, self._it, self._subject)
        subject = self._subject
        if nominal and before is not None and before.possessive and self._last is not None:
            subject = self._last
        with_thing = self._last if self._last is not None and self._last.role == "with" else None
        if with_thing is not None and with_thing.clause == self._clause:
            if "ing" in tenses and before is not None and before.meaning.source is with_thing.source:
                subject = with_thing  # "a line with sheets flapping"
            elif with_thing.source.kind in TOOLS:
                happening.tool = with_thing
        carried = subject is not None and subject.clause != self._clause
        if is_weather_itself(verb, subject, impersonal=self._impersonal, carried=carried):
            subject, happening.impersonal = None, True
        elif not nominal and self._words.subject_is_unread(self._clause_at, position):
            subject, happening.unnamed = None, True
        happening.actor = subject
        if subject is not None:
            subject.acts = True
            if is_acted_on(verb, tenses, subject, passive=self._passive):
                happening.actor, happening.target, happening.passive = None, subject, True
        if subject is not None and subject.clause == self._clause and "s" not in tenses:
            self._shared += [(one, happening) for one in self._partners if do_alike(one, subject)]
        self._pending = []
        self.parsed.happenings.append(happening)
        self._verb, self._preposition, self._passive = happening, "", False
        if happening.negated:
            self._negated = False

    def _add(self, verb: Verb, *, actor: Thing) -> None:
        actor.acts = True
        self.parsed.happenings.append(Happening(verb, self._clause, self._order, actor=actor, negated=self._negated))
