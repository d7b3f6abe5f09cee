"""The CRR framework as one call: a short prompt in, two captions, their anchors and a report out (BridgeDiT eq. 4)."""

from __future__ import annotations

import logging
import unicodedata
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..core.dialect import MOST_NAMED, brief, read
from ..core.errors import InputError, require_choice
from ..core.progress import SILENT, Progress
from ..core.types import Captions
from .anchors import SemanticAnchors, from_values
from .backends.base import ChatBackend, RuleBackend
from .cache import CaptionCache
from .checker import deduce
from .dialogue import MAX_TOKENS, TEMPERATURE
from .lines import as_sentences
from .profiles import PROFILES, LengthProfile
from .prompts import load_prompt, quoted
from .purity import Finding, find_impurities, repair
from .rewriter import Rewritten, rewrite, rewrite_directly

LOGGER = logging.getLogger(__name__)
Backend = ChatBackend | RuleBackend
# The rows of the paper's Table 4: no expansion; both captions together for both towers; unverified captions; one step
# without anchors; checker, anchors and rewriter; the video caption alone for both towers.
MODES = ("off", "shared", "raw", "direct", "full", "shared_video")
MAX_PROMPT_CHARS = 10_000
_CACHE_FORMAT = 2
_PROMPT_FILES = ("checker_infer", "rewriter", "direct", "raw_prompt")


@dataclass(frozen=True)
class Report:
    """How an expansion came about.

    Args:
        mode: One of :data:`MODES`, "edited" for captions from anchors that a user gave, or "training" for those of a
            clip.
        profile: Name of the length profile.
        backend: What wrote it; empty for mode off.
        attempts: Questions to each agent.
        problems: What the model was told was wrong on the way.
        repaired: What was mended without the model.
        remaining: What is still not as wanted.
        notes: Remarks of the checker.
        unknown: Words of the prompt that were not understood.
        cached: Whether it was read from the cache.
    """

    mode: str
    profile: str
    backend: str = ""
    attempts: tuple[tuple[str, int], ...] = ()
    problems: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()
    remaining: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    cached: bool = False

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        lists = {name: list(getattr(self, name)) for name in ("problems", "repaired", "notes", "unknown")}
        remaining = [finding.as_json() for finding in self.remaining]
        return {**asdict(self), **lists, "attempts": dict(self.attempts), "remaining": remaining}


@dataclass(frozen=True)
class Expansion:
    """Captions, what they were written from, and how.

    Args:
        captions: For the towers.
        anchors: None in the modes that have none.
        report: For the user.
    """

    captions: Captions
    anchors: SemanticAnchors | None
    report: Report

    def as_json(self) -> dict[str, Any]:
        """``{"video", "audio", "anchors", "report"}``."""
        return {
            "video": self.captions.video,
            "audio": self.captions.audio,
            "anchors": None if self.anchors is None else self.anchors.as_json(),
            "report": self.report.as_json(),
        }


def clean_prompt(prompt: str) -> str:
    """The prompt without control characters and lone surrogates, white space collapsed.

    Raises:
        InputError: nothing is left, or it is too long.
    """
    kept = ["" if unicodedata.category(char) == "Cs" else char for char in prompt]
    kept = [" " if unicodedata.category(char) == "Cc" else char for char in kept if char]
    text = " ".join("".join(kept).split())
    if not text:
        raise InputError("the prompt is empty", expected="a description of what is seen and heard")
    if len(text) > MAX_PROMPT_CHARS:
        raise InputError(
            "the prompt is too long", got=f"{len(text)} characters", expected=f"at most {MAX_PROMPT_CHARS} characters"
        )
    return text


def understood(prompt: str) -> tuple[str, tuple[str, ...]]:
    """A prompt as it is expanded: one line, in words alone; and what was done to it, as sentences.

    Raises:
        InputError: nothing is left, or it is too long.
    """
    clean_prompt(prompt)
    reading = read(prompt)
    pieces = [f"“{brief(piece)}”" for piece, _ in reading.weights[:MOST_NAMED]]
    notes = [f"Weights do not count in a prompt that is expanded: {', '.join(pieces)}."] if pieces else []
    return clean_prompt(as_sentences(reading.plain)), (*notes, *reading.notes)


def _telling(notes: tuple[str, ...], made: Expansion) -> Expansion:
    """The expansion with notes in front of its own."""
    return replace(made, report=replace(made.report, notes=(*notes, *made.report.notes))) if notes else made


def expand(
    prompt: str,
    *,
    backend: Backend | None,
    mode: str = "full",
    profile: str = "bridgedit",
    cache: CaptionCache | None = None,
    progress: Progress = SILENT,
) -> Expansion:
    """Two captions for a short prompt.

    Args:
        prompt: What is seen and heard; any language that the backend reads.
        backend: What writes; None only for mode off.
        mode: One of :data:`MODES`.
        profile: A key of :data:`~.profiles.PROFILES`.
        cache: Where answers of chat models are kept; rules are deterministic and are not cached.
        progress: Told after each agent; its cancel check stops a waiting request.

    Raises:
        InputError: an empty prompt, an unknown mode or profile, or a mode that the backend does not have.
        CaptionError: the model gave no usable answer.
    """
    require_choice("expansion mode", mode, MODES)
    lengths = PROFILES.get(profile)
    if mode == "off":
        text = clean_prompt(prompt)
        return Expansion(Captions(text, text), None, Report(mode, profile))
    text, told = understood(prompt)
    if backend is None:
        raise InputError(f"the mode {mode!r} needs a caption backend", expected="a backend, or the mode 'off'")
    if isinstance(backend, RuleBackend):
        return _telling(told, _by_rules(text, backend, mode, lengths))
    key = _cache_key(text, backend, mode, lengths) if cache else ""
    kept = _from_cache(cache.load(key)) if cache else None
    if kept is not None:
        return _telling(told, kept)
    expansion = _by_model(text, backend, mode, lengths, progress)
    if cache:
        cache.store(key, expansion.as_json())
    return _telling(told, expansion)


def expand_anchors(
    anchors: SemanticAnchors, *, backend: Backend, profile: str = "bridgedit", progress: Progress = SILENT
) -> Expansion:
    """The rewriter alone, for anchors that a user wrote or edited.

    Raises:
        InputError: unknown profile.
        CaptionError: the model gave no usable answer.
    """
    lengths = PROFILES.get(profile)
    anchors = anchors.for_rewriter()
    if isinstance(backend, RuleBackend):
        return _by_rules_checked(backend.rewrite(anchors, lengths), anchors, Report("edited", profile, backend.name))
    written = rewrite(anchors, backend=backend, profile=lengths, progress=progress)
    return expansion_of(written, anchors, Report("edited", profile, backend.identity))


def _by_rules(text: str, backend: RuleBackend, mode: str, profile: LengthProfile) -> Expansion:
    if mode == "raw":
        raise InputError(
            f"the caption backend {backend.name!r} has no raw captions",
            got="mode 'raw'",
            expected="shared, direct or full",
            remedy="Raw captions are a language model's unchecked answer: choose a backend with one.",
        )
    report = Report(mode, profile.name, backend.name)
    if mode == "direct":
        return _by_rules_checked(backend.rewrite_directly(text, profile), None, report)
    checked = backend.check(text)
    report = replace(report, notes=checked.notes, unknown=checked.unknown)
    made = _by_rules_checked(backend.rewrite(checked.anchors, profile), checked.anchors, report)
    return _shared(made, mode)


def _by_rules_checked(captions: Captions, anchors: SemanticAnchors | None, report: Report) -> Expansion:
    """Rules are checked like models: what slipped through is mended and reported."""
    profile = PROFILES.get(report.profile)
    repaired: tuple[str, ...] = ()
    if find_impurities(captions, anchors, profile):
        captions, repaired = repair(captions, anchors, profile)
    remaining = find_impurities(captions, anchors, profile)
    return Expansion(captions, anchors, replace(report, repaired=repaired, remaining=remaining))


def _by_model(text: str, backend: ChatBackend, mode: str, profile: LengthProfile, progress: Progress) -> Expansion:
    report = Report(mode, profile.name, backend.identity)
    if mode == "raw":
        return Expansion(_raw(text, backend, progress), None, replace(report, attempts=(("raw", 2),)))
    if mode == "direct":
        written = rewrite_directly(text, backend=backend, profile=profile, progress=progress)
        progress.step("captions", 1, 1)
        return expansion_of(written, None, report)
    checked = deduce(text, backend=backend, progress=progress)
    progress.step("captions", 1, 2)
    report = replace(report, attempts=(("checker", checked.attempts),), problems=checked.problems)
    written = rewrite(checked.value, backend=backend, profile=profile, progress=progress)
    progress.step("captions", 2, 2)
    made = expansion_of(written, checked.value, report)
    return _shared(made, mode)


def expansion_of(written: Rewritten, anchors: SemanticAnchors | None, report: Report) -> Expansion:
    """What the rewriter wrote, with how it came about added to the report."""
    report = replace(
        report,
        attempts=(*report.attempts, ("rewriter", written.attempts)),
        problems=(*report.problems, *written.problems),
        repaired=written.repaired,
        remaining=written.remaining,
    )
    return Expansion(written.captions, anchors, report)


def _shared(made: Expansion, mode: str) -> Expansion:
    """One content for both towers: the paper's audio-video caption, or its video caption; other modes keep two.

    Text encoders read so many tokens and no more (Stable Audio's 128), so each tower gets its own part first.
    """
    video, audio = made.captions.video, made.captions.audio
    if mode == "shared":
        return replace(made, captions=Captions(f"{video} {audio}", f"{audio} {video}"))
    return replace(made, captions=Captions(video, video)) if mode == "shared_video" else made


def _raw(text: str, backend: ChatBackend, progress: Progress) -> Captions:
    """Two answers that know nothing of each other and are not checked."""
    answers = []
    for number, thing in enumerate(("picture", "sound"), start=1):
        answer = backend.complete(
            load_prompt("raw_prompt").messages({"thing": thing, "prompt": quoted(text)}),
            max_tokens=MAX_TOKENS,
            temperature=TEMPERATURE,
            check_cancelled=progress.check_cancelled,
        )
        answers.append(" ".join(answer.rpartition("</think>")[2].split()))
        progress.step("captions", number, 2)
    return Captions(*answers)


def _cache_key(text: str, backend: ChatBackend, mode: str, profile: LengthProfile) -> str:
    prompts = {name: load_prompt(name).sha256 for name in _PROMPT_FILES}
    values = {"prompt": text, "backend": backend.identity, "mode": mode, "profile": asdict(profile)}
    return CaptionCache.key({**values, "prompts": prompts, "format": _CACHE_FORMAT})


def _from_cache(kept: dict[str, Any] | None) -> Expansion | None:
    """The kept expansion; one of another form counts as none."""
    if kept is None:
        return None
    try:
        values = dict(kept["report"])
        lists = {name: tuple(values[name]) for name in ("problems", "repaired", "notes", "unknown")}
        remaining = tuple(Finding(**finding) for finding in values["remaining"])
        attempts = tuple((name, number) for name, number in values["attempts"].items())
        report = Report(**{**values, **lists, "remaining": remaining, "attempts": attempts, "cached": True})
        anchors = None if kept["anchors"] is None else from_values(kept["anchors"])
        return Expansion(Captions(kept["video"], kept["audio"]), anchors, report)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        LOGGER.warning("cached captions are not in the form of this version (%r); they are made anew", error)
        return None
