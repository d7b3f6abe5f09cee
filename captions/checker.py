"""The semantic checker: from a prompt, or from two raw descriptions, to grounded anchors (BridgeDiT section 3.2)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..core.errors import InputError
from ..core.progress import SILENT, Progress
from .anchors import SemanticAnchors, anchors_schema, from_values
from .backends.base import ChatBackend
from .dialogue import ATTEMPTS, Answer, ask, json_object
from .prompts import load_prompt, quoted
from .purity import anchors_text, is_english


def deduce(
    prompt: str, *, backend: ChatBackend, attempts: int = ATTEMPTS, progress: Progress = SILENT
) -> Answer[SemanticAnchors]:
    """Inference: what a short prompt in any language entails, in English.

    Raises:
        CaptionError: the model gave no usable answer, or none in English.
        MissingPackageError: pydantic is not installed.
    """
    return _check("checker_infer", {"prompt": quoted(prompt)}, backend, attempts, progress)


def verify(
    video: str, audio: str, *, backend: ChatBackend, attempts: int = ATTEMPTS, progress: Progress = SILENT
) -> Answer[SemanticAnchors]:
    """Training: keep of the audio description what the video description bears out; the rest is ``discarded``.

    Raises:
        CaptionError: the model gave no usable answer.
        MissingPackageError: pydantic is not installed.
    """
    return _check("checker_train", {"video": quoted(video), "audio": quoted(audio)}, backend, attempts, progress)


def _check(
    name: str, values: Mapping[str, Any], backend: ChatBackend, attempts: int, progress: Progress
) -> Answer[SemanticAnchors]:
    schema = anchors_schema(discarded=name == "checker_train")
    messages = load_prompt(name).messages({**values, "schema": json.dumps(schema)})
    return ask(backend, messages, _parse, schema=schema, attempts=attempts, progress=progress)


def _parse(text: str) -> SemanticAnchors:
    anchors = from_values(json_object(text))
    if not is_english(anchors_text(anchors)):
        raise InputError(
            "the anchors are not in English",
            got=repr(anchors.entities[0].visual[:60]),
            expected="every field in English, whatever the language of the prompt",
        )
    return anchors
