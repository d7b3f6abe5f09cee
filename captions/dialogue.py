"""Ask a chat model until its answer can be read, and tell it each time exactly what was wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..core.errors import CaptionError, InputError, TextError
from ..core.json_text import first_object
from ..core.progress import SILENT, Progress
from .backends import DEFAULT_BACKEND
from .backends.base import ChatBackend, Message

T = TypeVar("T")
ATTEMPTS = 3
# As the published pipeline: near-greedy, answers up to 1536 tokens (BridgeDiT reference, section 7).
TEMPERATURE = 0.1
MAX_TOKENS = 1536
_MAX_QUOTED = 4000  # characters of a refused answer that are shown to the model again


@dataclass(frozen=True)
class Answer(Generic[T]):
    """A readable answer.

    Args:
        value: What ``parse`` made of it.
        attempts: How often the model was asked.
        problems: What was wrong with the answers before, one text each.
    """

    value: T
    attempts: int
    problems: tuple[str, ...]


def ask(
    backend: ChatBackend,
    messages: Sequence[Message],
    parse: Callable[[str], T],
    *,
    schema: Mapping[str, Any] | None = None,
    attempts: int = ATTEMPTS,
    progress: Progress = SILENT,
) -> Answer[T]:
    """Ask, read, and on a bad answer ask again with the reason.

    Args:
        backend: The model.
        messages: The conversation so far.
        parse: Reads an answer, raises :class:`InputError` with the reason when it cannot.
        schema: Handed to the backend.
        attempts: Most questions.
        progress: Its cancel check is also handed to the backend.

    Raises:
        CaptionError: no answer could be read.
    """
    conversation = list(messages)
    problems: list[str] = []
    for attempt in range(1, attempts + 1):
        text = question(backend, conversation, schema=schema, progress=progress)
        try:
            return Answer(parse(text), attempt, tuple(problems))
        except InputError as error:
            problems.append(str(error))
            conversation = [*messages, *correction(text, [str(error)])]
    raise no_answer(attempts, problems[-1])


def question(
    backend: ChatBackend, messages: Sequence[Message], *, schema: Mapping[str, Any] | None, progress: Progress
) -> str:
    """One question with the agents' sampling settings."""
    progress.check_cancelled()
    return backend.complete(
        messages,
        schema=schema,
        max_tokens=MAX_TOKENS,
        temperature=TEMPERATURE,
        check_cancelled=progress.check_cancelled,
    )


def no_answer(attempts: int, problem: str) -> CaptionError:
    """The error for a model that was asked often enough."""
    return CaptionError(
        f"the language model gave no usable answer in {attempts} attempts",
        got=problem.rstrip("."),
        expected="an answer in the form asked for",
        remedy=f"Try a larger model, or the backend {DEFAULT_BACKEND!r}, which needs none.",
    )


def correction(answer: str, problems: Sequence[str]) -> list[Message]:
    """The refused answer and what is wrong with it, as the next turns of the conversation."""
    listed = "\n".join(f"- {problem}" for problem in problems)
    return [
        {"role": "assistant", "content": answer[:_MAX_QUOTED] or "(nothing)"},
        {
            "role": "user",
            "content": f"This answer cannot be used:\n{listed}\nAnswer again, complete and corrected, "
            "with the JSON object only.",
        },
    ]


def json_object(text: str) -> dict[str, Any]:
    """The one JSON object in an answer, whatever stands around it: thoughts, code fences, prose.

    Raises:
        InputError: there is none, or it is cut off.
    """
    text = text.rpartition("</think>")[2]
    for match in re.finditer(r"\{\s*", text):
        if text[match.end() : match.end() + 1] not in ('"', "}", ""):
            continue  # a brace in prose: no object begins with anything but a key
        try:
            return first_object(text, match.start())
        except TextError as error:
            # The outermost object must be whole: reading on would find one of its parts.
            raise InputError(
                "the JSON object in the answer is broken or cut off",
                got=f"{text[match.start() :][:60]!r} … {text[-30:]!r} ({error.got})",
                expected="one whole JSON object and nothing else",
            ) from None
    raise InputError("there is no JSON object in the answer", got=repr(text[:80]), expected="one JSON object")
