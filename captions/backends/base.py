"""The two kinds of caption backend: a chat model that is instructed, and rules that need no model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from ...core.options import TIMEOUT
from ..anchors import SemanticAnchors
from ..profiles import LengthProfile

if TYPE_CHECKING:
    from ...core.types import Captions

Message = Mapping[str, Any]  # {"role": "system" | "user" | "assistant", "content": text}


def never_cancel() -> None:
    """Never cancel."""


@dataclass(frozen=True)
class BackendOptions:
    """What a user may set; a backend names the ones it has in its ``OPTIONS``.

    Args:
        server: Base URL of an OpenAI-compatible server, e.g. ``http://127.0.0.1:11434/v1``.
        model: Model name on the server, hub id, or local folder.
        device: Torch device, or auto.
        dtype: Weight type, or auto.
        quantization: ``none``, or the way to load the weights smaller.
        allow_download: Whether a hub id may be downloaded.
        timeout_seconds: Longest wait for one answer; None for the backend's own.
        trust_server: The user typed the server's address, so the key in the environment is meant for it. An address
            that came in a workflow file is not trusted: it would be a way to collect keys.

    Raises:
        InputError: a timeout that is not a positive number.
    """

    server: str | None = None
    model: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    quantization: str = "none"
    allow_download: bool = False
    timeout_seconds: float | None = None
    trust_server: bool = False

    def __post_init__(self) -> None:
        if self.timeout_seconds is not None:
            TIMEOUT.check(self.timeout_seconds)

    def changed(self) -> set[str]:
        """Names of the options that are not at their default."""
        names = [field.name for field in fields(self) if field.name != "trust_server"]
        return {name for name in names if getattr(self, name) != getattr(BackendOptions, name)}


@dataclass(frozen=True)
class Checked:
    """What a checker found.

    Args:
        anchors: The grounded description.
        notes: Sentences for the report, for example on a word that is not known.
        unknown: Words of the prompt that were not understood, as written.
    """

    anchors: SemanticAnchors
    notes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@runtime_checkable
class ChatBackend(Protocol):
    """A language model that answers messages. The checker and the rewriter are prompts over it."""

    OPTIONS: ClassVar[frozenset[str]]
    name: str

    @property
    def identity(self) -> str:
        """What answers: backend and model, without addresses' secrets; part of the cache's key."""
        ...

    def complete(
        self,
        messages: Sequence[Message],
        *,
        schema: Mapping[str, Any] | None = None,
        max_tokens: int = 1536,
        temperature: float = 0.1,
        check_cancelled: Callable[[], None] = never_cancel,
        timeout_seconds: float | None = None,
    ) -> str:
        """The model's answer as text.

        Args:
            messages: The conversation.
            schema: JSON Schema that the answer should keep; the caller still checks it.
            max_tokens: Longest answer.
            temperature: 0 for the most likely answer.
            check_cancelled: Called at least every 0.2 s while waiting; raises to stop.
            timeout_seconds: Longest wait for one answer; None for the one in the options, else the backend's own.
        """
        ...

    def close(self) -> None:
        """Free what the backend holds."""
        ...


@runtime_checkable
class RuleBackend(Protocol):
    """Rules that build anchors and captions themselves, deterministically and at once."""

    OPTIONS: ClassVar[frozenset[str]]
    name: str

    def check(self, prompt: str) -> Checked:
        """Anchors for a prompt (not empty; already stripped).

        Raises:
            InputError: the prompt cannot be understood at all; a clear sentence.
        """
        ...

    def rewrite(self, anchors: SemanticAnchors, profile: LengthProfile) -> Captions:
        """Both captions from any valid anchors (also ones that a user edited), within the profile's lengths."""
        ...

    def rewrite_directly(self, prompt: str, profile: LengthProfile) -> Captions:
        """Both captions from the prompt without anchors (an ablation)."""
        ...
