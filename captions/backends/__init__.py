"""Where captions come from: one backend a file. Importing this loads none of them, and no torch.

A backend may say of itself, beside what its role asks for: ``SUMMARY``, a few words for lists of backends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from ...core.errors import InputError
from ...core.registry import Registry
from .base import BackendOptions, ChatBackend, RuleBackend

BACKENDS: Registry[type] = Registry("caption backend", __name__)
# Who writes where nobody is named; also where a language model's captions have to be written anew. It needs no model.
DEFAULT_BACKEND = "lexicon"
# Who writes, looks and listens where a language model is needed and none is named.
SERVER_BACKEND = "openai_server"


def make_backend(name: str, options: BackendOptions | None = None) -> ChatBackend | RuleBackend:
    """Build the backend of that name.

    Args:
        name: A key of :data:`BACKENDS`.
        options: What the user set.

    Raises:
        InputError: no such backend, or an option set that this backend does not have.
    """
    backend = BACKENDS.get(name)
    given = options or BackendOptions()
    foreign = sorted(given.changed() - backend.OPTIONS)
    if foreign:
        raise InputError(
            f"the caption backend {name!r} has no such option",
            got=", ".join(foreign),
            expected=", ".join(sorted(backend.OPTIONS)) or "no option at all",
        )
    return backend(given)


def is_chat(name: str) -> bool:
    """Whether a backend is a language model that answers messages, and not rules.

    Raises:
        InputError: no such backend.
    """
    return hasattr(BACKENDS.get(name), "complete")


def is_on_device(name: str) -> bool:
    """Whether a backend loads a model onto a device of this machine.

    Raises:
        InputError: no such backend.
    """
    return "device" in BACKENDS.get(name).OPTIONS


def summaries(names: Iterable[str]) -> str:
    """Backends, each with its own few words."""
    told = {name: getattr(BACKENDS.get(name), "SUMMARY", "") for name in names}
    return " ".join(f"{name}: {text}." if text else f"{name}." for name, text in told.items())


def sharing(name: str, options: BackendOptions, used: Iterable[str]) -> BackendOptions:
    """The options for a backend that is not the only one they are meant for.

    Args:
        name: A key of :data:`BACKENDS`.
        options: What the user set, for all of them.
        used: Options that others use too. This backend gets those that it has; :func:`make_backend` refuses any other
            option that it does not have.

    Raises:
        InputError: no such backend.
    """
    own = BACKENDS.get(name).OPTIONS
    return replace(options, **{option: getattr(BackendOptions, option) for option in set(used) - own})


@contextmanager
def open_backend(name: str, options: BackendOptions | None = None) -> Iterator[ChatBackend | RuleBackend]:
    """:func:`make_backend` for a ``with`` block; a model is freed at its end."""
    backend = make_backend(name, options)
    try:
        yield backend
    finally:
        if not isinstance(backend, RuleBackend):
            backend.close()
