"""Where captions come from: one backend a file. Importing this loads none of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...core.errors import InputError
from ...core.registry import Registry
from .base import BackendOptions, ChatBackend, RuleBackend

BACKENDS: Registry[type] = Registry("caption backend", __name__)


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


@contextmanager
def open_backend(name: str, options: BackendOptions | None = None) -> Iterator[ChatBackend | RuleBackend]:
    """:func:`make_backend` for a ``with`` block; a model is freed at its end."""
    backend = make_backend(name, options)
    try:
        yield backend
    finally:
        if not isinstance(backend, RuleBackend):
            backend.close()
