"""What one word of a sentence is: verb, noun or place, judged by the words around it."""

from __future__ import annotations

from ..english.data import Verb
from ..english.function_words import (
    AUXILIARIES,
    BE,
    DETERMINERS,
    LATER,
    MEASURES,
    PHASES,
    PREPOSITIONS,
    PRONOUNS,
    RELATIVES,
    SAME_TIME,
    SETTING_BEFORE,
)
from .tokens import Token

_WINDOW = 6
# What bears a number as its name.
LABELS = frozenset(
    {"route", "room", "number", "no", "flight", "track", "gate", "platform", "level", "scene", "highway"}
)


class WordReader:
    """Judges the words of one text.

    Args:
        tokens: The whole text.
    """

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens

    def at(self, position: int) -> Token | None:
        """The token at a position, None outside the text."""
        return self._tokens[position] if 0 <= position < len(self._tokens) else None

    def counts(self, position: int) -> bool:
        """Whether a noun before "of" only counts: "a couple of dogs" are no dancers, "a group of monks" is monks."""
        token, following = self._tokens[position], self.at(position + 1)
        counting = token.meaning.number is not None or token.text in MEASURES
        return counting and following is not None and following.text == "of"

    def only_names(self, position: int) -> bool:
        """Whether a number in digits tells which, and not how many: "a 747", "room 101 door", "route 66"."""
        before, following = self.at(position - 1), self.at(position + 1)
        if before is None or not self._tokens[position].text.isdecimal() or (following and following.text == "times"):
            return False
        is_noun = (before.meaning.source or before.meaning.place) and not before.meaning.is_plural
        several = following is not None and following.meaning.source is not None and following.meaning.is_plural
        return before.text in ("a", "an") or before.text in LABELS or bool(is_noun and not several)

    def starts_phrase(self, position: int) -> bool:
        """Whether a determiner begins another phrase than the one of the preposition before it."""
        for token in reversed(self._tokens[max(0, position - _WINDOW) : position]):
            if token.text in PREPOSITIONS or not token.is_word:
                return False
            if token.text in DETERMINERS:
                return token is not self._tokens[position - 1]
        return False

    def owns(self, position: int) -> bool:
        """Whether a noun only tells whose the next one is: "a blacksmith's hammer"."""
        following = [token for token in self._tokens[position + 1 : position + 4] if token.meaning.modifier is None]
        if not self._tokens[position].possessive or not following or following[0].meaning.source is None:
            return False
        return not self._is_doing(self._tokens[position], following[0])

    @staticmethod
    def _is_doing(owner: Token, token: Token) -> bool:
        """Whether a word is what its owner does: "a dog's bark" is no bark of a tree."""
        verb, source = token.meaning.verb, owner.meaning.source
        return owner.possessive and verb is not None and source is not None and verb.lemma in source.actions

    def is_measured(self, position: int) -> bool:
        """Whether "of" follows a word that only tells how much: "a piece of paper" is paper."""
        before = self.at(position - 1)
        return before is not None and before.text in MEASURES

    def stands_alone(self, position: int) -> bool:
        """Whether a preposition has nothing after it: "a dog barks outside and a car honks"."""
        following = self.at(position + 1)
        return following is None or not following.is_word or following.text in SAME_TIME | LATER

    def verb_follows(self, position: int, window: int = _WINDOW) -> bool:
        """Whether one of the next words can be a verb."""
        return any(token.meaning.verb for token in self._tokens[position + 1 : position + 1 + window])

    def subject_stands_before(self, position: int) -> bool:
        """Whether the subject stands right before, so that an -ing form is its verb: "a dog barking"."""
        for token in reversed(self._tokens[max(0, position - 4) : position]):
            if token.meaning.source is not None or token.text in BE:
                return True
            if not token.is_word or token.text in DETERMINERS | {"and"}:
                return False
        return False

    def is_single(self, position: int) -> bool:
        """Whether an article before a noun makes it one: "a deer", "another sheep"."""
        for token in reversed(self._tokens[max(0, position - 4) : position]):
            if token.text in ("a", "an", "one", "another", "this", "that"):
                return True
            if token.meaning.modifier is None:
                return False
        return False

    def is_named_again(self, position: int) -> bool:
        """Whether the noun has the definite article, which points back: "a dog barks, then the dog runs"."""
        for token in reversed(self._tokens[max(0, position - 4) : position]):
            if token.meaning.modifier is None:
                return token.text == "the"
        return False

    def subject_is_unread(self, start: int, position: int) -> bool:
        """Whether the clause up to a verb names somebody without any meaning and nobody else: "the zebras run"."""
        before = [token for token in self._tokens[start:position] if token.is_word]
        unread = any(not token.meaning.known for token in before)
        return unread and not any(token.meaning.source or token.text in PRONOUNS for token in before)

    def object_is_unread(self, position: int) -> bool:
        """Whether an article and a word without any meaning follow a verb: "plays the hurdy-gurdy"."""
        article, noun = self.at(position + 1), self.at(position + 2)
        return (
            article is not None
            and article.text in DETERMINERS
            and noun is not None
            and noun.is_word
            and not noun.meaning.known
        )

    def is_phase(self, verb: Verb, following: Token | None) -> bool:
        """In "starts barking" the second verb is what happens."""
        if verb.lemma not in PHASES or following is None:
            return False
        return (
            following.meaning.verb is not None and bool(following.meaning.tenses & {"ing", "base"})
        ) or following.text == "to"

    def is_compound(self, position: int, *, has_subject: bool, free: bool) -> bool:
        """Whether another noun follows at once, so that this one only describes it: "metal roof", "kitchen door"."""
        following = self.at(position + 1)
        if following is None or self._tokens[position].possessive:
            return False
        return (
            following.meaning.source is not None
            and not (
                following.meaning.verb
                and self.reads_as_verb(position + 1, following, has_subject=has_subject, free=free)
            )
            and not self._tokens[position].meaning.is_plural
        )

    def reads_as_place(self, position: int, token: Token, preposition: str, *, compound: bool) -> bool:
        """Whether a word that can be a place and a thing is the place."""
        meaning = token.meaning
        following = self.at(position + 1)
        if meaning.place is not None and following is not None and following.meaning.place is not None:
            return False  # "a mountain village" is a village
        if meaning.place is None or (compound and preposition == ""):
            return False
        return meaning.source is None or (preposition in SETTING_BEFORE and preposition != "of")

    def reads_as_noun(self, position: int, token: Token, *, of_a_thing: bool) -> bool:
        """A word that is both modifier and noun is a noun at the end of its phrase: "glass", "metal", "snow"."""
        if token.meaning.source is None:
            return False
        following = self.at(position + 1)
        if of_a_thing and token.meaning.modifier.kind == "material":
            return False
        if following is None or not following.is_word:
            return True
        return following.meaning.source is None and following.meaning.modifier is None

    def reads_as_verb(
        self, position: int, token: Token, *, has_subject: bool, free: bool, acting: bool = False
    ) -> bool:
        """Whether a word that can be a verb is one.

        Args:
            position: Its place.
            token: The word.
            has_subject: Whether somebody is there who could do it.
            free: Whether the clause has no verb yet.
            acting: Whether several do something already, so that "and" can add a verb without an ending.
        """
        meaning = token.meaning
        if meaning.verb is None:
            return False
        before, following = self.at(position - 1), self.at(position + 1)
        if meaning.source is None and meaning.modifier is None and meaning.place is None and not meaning.plain:
            return True
        if before is not None and (before.text in AUXILIARIES or before.text.endswith("n't")):
            return True
        if before is not None and self._is_doing(before, token):
            return True
        noun_like = before is None or not before.is_word or before.text in DETERMINERS or before.text in PREPOSITIONS
        noun_like = (
            noun_like or (before.meaning.number is not None and before.meaning.source is None) or before.possessive
        )
        noun_like = noun_like or (before.meaning.modifier is not None and before.meaning.source is None)
        carried = before is not None and before.text in ("and", "then", ",") and has_subject
        if (
            carried
            and meaning.tenses & ({"s", "past", "base"} if acting else {"s", "past"})
            and not (following and following.meaning.verb and not following.meaning.source)
        ):
            return True
        if noun_like:
            return False
        after_noun = before.meaning.source is not None or before.text in PRONOUNS | RELATIVES
        adverb = before.meaning.modifier is not None or before.text.endswith("ly")
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
