"""The cross-modal rewriter: two captions, strictly from the anchors, checked for purity (BridgeDiT section 3.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import CaptionError, InputError
from ..core.progress import SILENT, Progress
from ..core.types import Captions
from .anchors import SemanticAnchors
from .backends import DEFAULT_BACKEND, make_backend
from .backends.base import ChatBackend, Message
from .dialogue import ATTEMPTS, correction, json_object, no_answer, question
from .profiles import LengthProfile
from .prompts import load_prompt, quoted
from .purity import FOREIGN, Finding, anchors_text, find_impurities, is_english, repair

CAPTIONS_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "video": {"type": "string", "minLength": 1, "maxLength": 2400},
        "audio": {"type": "string", "minLength": 1, "maxLength": 480},
    },
    "required": ["video", "audio"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Rewritten:
    """Captions and how they came about.

    Args:
        captions: English, and free of impure words.
        attempts: How often the model was asked.
        problems: What the model was told was wrong.
        repaired: What was mended without the model in the end.
        remaining: What is still not as wanted: a caption that is too short.
    """

    captions: Captions
    attempts: int
    problems: tuple[str, ...]
    repaired: tuple[str, ...]
    remaining: tuple[Finding, ...]


def rewrite(
    anchors: SemanticAnchors,
    *,
    backend: ChatBackend,
    profile: LengthProfile,
    attempts: int = ATTEMPTS,
    progress: Progress = SILENT,
) -> Rewritten:
    """Write both captions from the anchors; what the checker discarded is not shown to the model.

    A caption that stays in another language than English is written from the anchors by rules.

    Raises:
        CaptionError: the model never gave two captions, or no English ones while the anchors are not English either.
    """
    anchors = anchors.for_rewriter()
    text = json.dumps(anchors.as_json(), ensure_ascii=False)
    messages = load_prompt("rewriter").messages({"anchors": text, **_lengths(profile)}, variant=profile.name)
    return _write(messages, anchors, backend=backend, profile=profile, attempts=attempts, progress=progress)


def rewrite_directly(
    prompt: str,
    *,
    backend: ChatBackend,
    profile: LengthProfile,
    attempts: int = ATTEMPTS,
    progress: Progress = SILENT,
) -> Rewritten:
    """Write both captions in one step, without anchors (the paper's Table 4, "Direct Rewrite").

    Raises:
        CaptionError: the model never gave two captions, or never two in English.
    """
    messages = load_prompt("direct").messages({"prompt": quoted(prompt), **_lengths(profile)})
    return _write(messages, None, backend=backend, profile=profile, attempts=attempts, progress=progress)


def _lengths(profile: LengthProfile) -> dict[str, int]:
    return {
        f"{modality}_{name}": getattr(getattr(profile, modality), name)
        for modality in ("video", "audio")
        for name in ("low", "high", "target")
    }


def _write(
    messages: list[Message],
    anchors: SemanticAnchors | None,
    *,
    backend: ChatBackend,
    profile: LengthProfile,
    attempts: int,
    progress: Progress,
) -> Rewritten:
    """Ask until the captions are pure; keep the best of the impure ones and mend it."""
    conversation, problems = messages, []
    best: tuple[int, int, Captions] | None = None
    asked = 0
    while asked < attempts and (best is None or best[1]):
        text = question(backend, conversation, schema=CAPTIONS_SCHEMA, progress=progress)
        asked += 1
        try:
            captions = _parse(text)
        except InputError as error:
            told = [str(error)]
        else:
            findings = find_impurities(captions, anchors, profile)
            told = [finding.message for finding in findings]
            foreign = sum(finding.kind == FOREIGN for finding in findings)
            if best is None or (foreign, len(findings)) < best[:2]:
                best = foreign, len(findings), captions
        problems += told
        conversation = [*messages, *correction(text, told)]
    if best is None:
        raise no_answer(attempts, problems[-1])
    captions, repaired = best[2], ()
    if best[0]:
        captions, repaired = _in_english(captions, anchors, profile, attempts)
    if find_impurities(captions, anchors, profile):
        captions, mended = repair(captions, anchors, profile)
        repaired += mended
    return Rewritten(captions, asked, tuple(problems), repaired, find_impurities(captions, anchors, profile))


def _in_english(
    captions: Captions, anchors: SemanticAnchors | None, profile: LengthProfile, attempts: int
) -> tuple[Captions, tuple[str, ...]]:
    """Captions in another language replaced by ones from the anchors, and a note for each.

    Raises:
        CaptionError: there are no anchors, or they are not English.
    """
    notes = []
    texts = {"video": captions.video, "audio": captions.audio}
    for modality in (name for name, text in texts.items() if not is_english(text)):
        written = _by_rules(modality, anchors, profile)
        if not written:
            raise CaptionError(
                f"the language model wrote no English {modality} caption in {attempts} attempts",
                got=repr(texts[modality][:60]),
                expected="captions in English, which both models were trained on",
                remedy="Write the prompt in English, try a larger model, or the backend "
                f"{DEFAULT_BACKEND!r}, which needs none.",
            )
        texts[modality] = written
        notes.append(f"The model's {modality} caption is not in English; it was written from the anchors by rules.")
    return Captions(**texts), tuple(notes)


def _by_rules(modality: str, anchors: SemanticAnchors | None, profile: LengthProfile) -> str:
    """One caption without the model; "" where the rules write no English from these anchors."""
    if anchors is None or not is_english(anchors_text(anchors)):
        return ""
    try:
        return getattr(make_backend(DEFAULT_BACKEND).rewrite(anchors, profile), modality)
    except InputError:
        return ""


def _parse(text: str) -> Captions:
    value = json_object(text)
    fields = ("video", "audio")
    if set(value) != set(fields) or not all(isinstance(value[name], str) for name in fields):
        raise InputError(
            "the answer does not hold two captions",
            got="the fields " + (", ".join(map(repr, value)) or "of nothing"),
            expected="an object with the two texts 'video' and 'audio'",
        )
    return Captions(*(" ".join(value[name].split()) for name in fields))
