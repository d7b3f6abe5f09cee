"""Purity by check: sound words in the video caption, sight words in the audio caption, events in no anchor, lengths.

The check reads English, which is what both towers' captions are written in; a caption in another language is found too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..core.errors import InputError
from ..core.types import Captions
from .anchors import SemanticAnchors
from .english.foreign import is_foreign
from .profiles import LengthProfile, num_words
from .vocabulary import (
    ACOUSTIC_ADJECTIVES,
    ACOUSTIC_WORDS,
    AUDIO_EXEMPT,
    CONTEXT_ADJECTIVES,
    VIDEO_EXEMPT,
    VISUAL_ADJECTIVES,
    VISUAL_IN_CONTEXT,
    VISUAL_WORDS,
    WORD,
    family_index,
)

MODALITIES = ("video", "audio")
# Kinds of finding that repair() can take out; lengths below the range it cannot.
IMPURE = ("acoustic word", "visual word", "event in no anchor")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+")
_CLAUSE_END = re.compile(
    r"\s*[,;:—–]\s+|\s+(?=(?:and|while|as|with|followed by|accompanied by|punctuated by|that|which)\s)"
)
_LEADING_JOINT = re.compile(r"^(?:and|while|as|with|but|or|that|which|then)\s+", re.IGNORECASE)
_MIN_CLAUSE_WORDS = 4
_MAX_FOREIGN_SHARE = 0.3  # of the letters, beyond Latin script
FOREIGN = "not in English"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a caption.

    Args:
        kind: One of :data:`IMPURE`, :data:`FOREIGN`, or "empty", "too short", "too long", "too many sentences".
        modality: "video" or "audio".
        text: The offending words; empty for a length.
        start: First character in the caption.
        end: Character after the last.
        message: A sentence that tells the writer what to change.
    """

    kind: str
    modality: str
    text: str
    start: int
    end: int
    message: str

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def find_impurities(
    captions: Captions, anchors: SemanticAnchors | None = None, profile: LengthProfile | None = None
) -> tuple[Finding, ...]:
    """Everything that is wrong with both captions.

    Args:
        captions: What to check.
        anchors: Where every event must come from; None skips that check.
        profile: Wanted lengths; None skips that check.
    """
    found = [*_acoustic_words(captions.video), *_visual_words(captions.audio)]
    if anchors is not None:
        found += [*_unanchored(captions.video, "video", anchors), *_unanchored(captions.audio, "audio", anchors)]
    for modality in MODALITIES:
        found += _lengths(getattr(captions, modality), modality, profile)
    return tuple(sorted(found, key=lambda finding: (MODALITIES.index(finding.modality), finding.start)))


def is_english(text: str) -> bool:
    """Whether a text is in Latin script and enough of its words are known as English; a few words always are."""
    letters = [char for char in text if char.isalpha()]
    return sum(char > "\u024f" for char in letters) <= _MAX_FOREIGN_SHARE * len(letters) and not is_foreign(text)


def anchors_text(anchors: SemanticAnchors) -> str:
    """Everything that the anchors say, as one text."""
    texts = [anchors.environment, anchors.ambient_sound, anchors.mood, anchors.style, anchors.camera]
    for entity in anchors.entities:
        texts += [entity.name, entity.visual, *entity.attributes]
    for event in anchors.events:
        texts += [event.visual_action] + ([event.sound.heard, event.sound.source] if event.sound else [])
    return "\n".join(texts)


def _listed_words(text: str, listed: frozenset[str], exempt: re.Pattern[str]) -> Iterator[re.Match[str]]:
    spared = [match.span() for match in exempt.finditer(text)]
    for match in WORD.finditer(text):
        word = match[0].lower().replace("’", "'").removesuffix("'s")
        parts = {word, *word.split("-")}
        if parts & listed and not any(start <= match.start() < end for start, end in spared):
            yield match


def _acoustic_words(text: str) -> Iterator[Finding]:
    for match in _listed_words(text, ACOUSTIC_WORDS, VIDEO_EXEMPT):
        yield Finding(
            "acoustic word",
            "video",
            match[0],
            *match.span(),
            f"The video caption says {match[0]!r}, which cannot be seen: describe the visible action instead.",
        )


def _visual_words(text: str) -> Iterator[Finding]:
    for match in (*_listed_words(text, VISUAL_WORDS, AUDIO_EXEMPT), *VISUAL_IN_CONTEXT.finditer(text)):
        yield Finding(
            "visual word",
            "audio",
            match[0],
            *match.span(),
            f"The audio caption says {match[0]!r}, which cannot be heard: leave it out.",
        )


def _anchored_families(anchors: SemanticAnchors) -> frozenset[int]:
    index = family_index(grounds=True)
    return frozenset(number for word in _anchor_words(anchors) for number in index.get(word, ()))


def _anchor_words(anchors: SemanticAnchors) -> set[str]:
    return {part for match in WORD.finditer(anchors_text(anchors)) for part in _parts(match[0])}


def _parts(word: str) -> set[str]:
    plain = word.lower().replace("’", "'").removesuffix("'s")
    return {plain, *plain.split("-")}


def _unanchored(text: str, modality: str, anchors: SemanticAnchors) -> Iterator[Finding]:
    index, held, words = family_index(), _anchored_families(anchors), _anchor_words(anchors)
    for match in WORD.finditer(text):
        parts = _parts(match[0])
        families = {number for part in parts for number in index.get(part, ())}
        if families and not families & held and not parts & words:
            yield Finding(
                "event in no anchor",
                modality,
                match[0],
                *match.span(),
                f"The {modality} caption mentions {match[0]!r}, which is in no anchor: leave it out.",
            )


def _lengths(text: str, modality: str, profile: LengthProfile | None) -> Iterator[Finding]:
    words = num_words(text)
    if words == 0:
        yield Finding("empty", modality, "", 0, 0, f"The {modality} caption is empty: write one.")
    if not is_english(text):
        message = f"The {modality} caption is not in English: write English."
        yield Finding(FOREIGN, modality, "", 0, len(text), message)
    if profile is None or words == 0:
        return
    wanted = getattr(profile, modality)
    if not wanted.low <= words <= wanted.high:
        kind = "too short" if words < wanted.low else "too long"
        yield Finding(
            kind,
            modality,
            "",
            0,
            len(text),
            f"The {modality} caption has {words} words and is {kind}: write {wanted.low} to {wanted.high} words, "
            f"best about {wanted.target}.",
        )
    sentences = len(_SENTENCE_END.split(text.strip()))
    if wanted.sentences is not None and sentences > wanted.sentences:
        yield Finding(
            "too many sentences",
            modality,
            "",
            0,
            len(text),
            f"The {modality} caption has {sentences} sentences: write {wanted.sentences}.",
        )


def repair(
    captions: Captions, anchors: SemanticAnchors | None = None, profile: LengthProfile | None = None
) -> tuple[Captions, tuple[str, ...]]:
    """Take out what should not be there, without a model: words and clauses first, sentences where little is left.

    Args:
        captions: What the writer left.
        anchors: As for :func:`find_impurities`; also the source when nothing is left of a caption, or when it is in
            another language.
        profile: As for :func:`find_impurities`.

    Returns:
        The captions, free of impure words, and one sentence for each repair. A caption that is too short stays so.

    Raises:
        InputError: nothing is left of a caption, or it is not in English, and the anchors cannot replace it.
    """
    notes: list[str] = []
    texts: dict[str, str] = {}
    for modality in MODALITIES:
        text = getattr(captions, modality)
        foreign = not is_english(text)
        text = "" if foreign else _purify(text, modality, anchors, notes)
        if not text and anchors is not None and is_english(_from_anchors(anchors, modality)):
            text = _delete_words(_from_anchors(anchors, modality), modality)
            why = (
                f"The {modality} caption is not in English"
                if foreign
                else f"Nothing was left of the {modality} caption"
            )
            notes.append(f"{why}; it was put together from the anchors.")
        if not text and foreign:
            raise InputError(
                f"the {modality} caption is not in English",
                got=repr(getattr(captions, modality)[:60]),
                expected="English, which both models were trained on",
                remedy="Try a larger model, or edit the captions.",
            )
        if not text:
            raise InputError(
                f"no {modality} caption could be written",
                expected=f"something that can be {'seen' if modality == 'video' else 'heard'}",
                remedy="Describe it in the prompt, or edit the anchors.",
            )
        texts[modality] = _shorten(text, modality, profile, notes)
    return Captions(**texts), tuple(notes)


def _impure(text: str, modality: str, anchors: SemanticAnchors | None) -> list[Finding]:
    captions = replace(Captions("", ""), **{modality: text})
    findings = find_impurities(captions, anchors)
    return [finding for finding in findings if finding.modality == modality and finding.kind in IMPURE]


def _purify(text: str, modality: str, anchors: SemanticAnchors | None, notes: list[str]) -> str:
    kept = []
    for sentence in _SENTENCE_END.split(text.strip()):
        findings = _impure(sentence, modality, anchors)
        rest = sentence
        if findings:
            rest = _without_adjectives(sentence, modality, findings)
        if _impure(rest, modality, anchors):
            rest = _without_clauses(rest, modality, anchors)
        if findings:
            what = ", ".join(sorted({f"{finding.kind} {finding.text!r}" for finding in findings}))
            notes.append(f"Dropped {'a part of ' if rest else ''}a sentence of the {modality} caption: {what}.")
        kept.append(rest)
    return " ".join(part for part in kept if part)


def _without_adjectives(sentence: str, modality: str, findings: list[Finding]) -> str:
    """Take out listed adjectives that stand before another word; the sentence stays whole without them."""
    adjectives = ACOUSTIC_ADJECTIVES if modality == "video" else VISUAL_ADJECTIVES | CONTEXT_ADJECTIVES
    for finding in reversed(findings):
        before, after = sentence[: finding.start], sentence[finding.end :]
        if finding.text.lower() in adjectives and re.match(r"\s+[^\W\d_]", after):
            after = after.lstrip()
            if article := re.search(r"\b([Aa])n?\s+$", before):
                before = before[: article.start()] + article[1] + ("n " if after[0].lower() in "aeiou" else " ")
            sentence = before + (after if before else after[:1].upper() + after[1:])
    return sentence


def _without_clauses(sentence: str, modality: str, anchors: SemanticAnchors | None) -> str:
    """The clean clauses of a sentence whose first clause is clean; nothing when too little is left."""
    clauses = _CLAUSE_END.split(sentence)
    if _impure(clauses[0], modality, anchors):
        return ""
    rest = _as_sentence([clause for clause in clauses if not _impure(clause, modality, anchors)])
    return rest if num_words(rest) >= _MIN_CLAUSE_WORDS and not _impure(rest, modality, anchors) else ""


def _as_sentence(clauses: list[str]) -> str:
    """Clauses joined again; a joint word in front has lost its partner and goes."""
    stripped = [clause.strip(" ,;:.!?") for clause in clauses]
    text = _LEADING_JOINT.sub("", ", ".join(clause for clause in stripped if clause))
    text = re.sub(r",\s+(?=(?:and|while|as|with|that|which|followed|accompanied|punctuated)\s)", " ", text)
    return text[:1].upper() + text[1:] + "." if text else ""


def _from_anchors(anchors: SemanticAnchors, modality: str) -> str:
    if modality == "audio":
        return _as_sentence(list(dict.fromkeys(anchors.heard)))
    looks = [_as_sentence([entity.visual]) for entity in anchors.entities]
    actions = [_as_sentence([f"the {event.entity} {event.visual_action}"]) for event in anchors.in_order]
    return " ".join([_as_sentence([anchors.environment]), *looks, *actions, _as_sentence([anchors.camera])])


def _delete_words(text: str, modality: str) -> str:
    for finding in reversed(_impure(text, modality, None)):
        text = text[: finding.start] + text[finding.end :]
    text = re.sub(r"\s+", " ", text).strip(" ,.;")
    return text[:1].upper() + text[1:] + "." if WORD.search(text) else ""


def _shorten(text: str, modality: str, profile: LengthProfile | None, notes: list[str]) -> str:
    """Drop trailing sentences, then trailing clauses, then trailing words, until the caption fits."""
    if profile is None:
        return text
    wanted = getattr(profile, modality)
    sentences = _SENTENCE_END.split(text.strip())
    if wanted.sentences is not None and len(sentences) > wanted.sentences == 1:
        first, *others = sentences
        sentences = [_as_sentence([first, *(other[:1].lower() + other[1:] for other in others)])]
        notes.append(f"Joined the sentences of the {modality} caption into one.")
    before = num_words(" ".join(sentences))
    while len(sentences) > 1 and num_words(" ".join(sentences)) > wanted.high:
        sentences.pop()
    text = " ".join(sentences)
    clauses = _CLAUSE_END.split(text)
    while len(clauses) > 1 and num_words(" ".join(clauses)) > wanted.high:
        clauses.pop()
        text = _as_sentence(clauses)
    if num_words(text) > wanted.high:
        text = _as_sentence([" ".join(text.split()[: wanted.high])])
    after = num_words(text)
    if after < before:
        notes.append(f"Shortened the {modality} caption from {before} to {after} words.")
    return text
