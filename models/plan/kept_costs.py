"""What dry runs have found, kept in the user's cache: a later start with the same models does not count anew.

A finding depends on the modules and shapes, on this package's code and on the libraries that run it; of all of them an
entry's name is made. Nobody misses an entry that is gone or cannot be written: it is counted again.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import sys
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from ...core.errors import OutputError
from ...core.kept import KeptJson, user_store
from .remembered import fingerprint, known_by
from .tracking import Cost

_log = logging.getLogger(__name__)
_WHAT = "what models take"
_MOST = 512
_LIBRARIES = ("torch", "diffusers", "transformers", "accelerate")
_NOTHING = Cost(*(0 for _ in Cost._fields))
# What a dry run goes through.
_CODE = ("core", "models", "sampling")


def lasting(count: Callable[[], Cost], *what: Any) -> Cost:
    """As :func:`.remembered.remembered`, and what this machine found in an earlier process counts too.

    Args:
        count: A dry run.
        what: All that its result depends on: modules, shapes, names.
    """
    key = fingerprint(what)
    return known_by(key, count if key is None else partial(_from_disk, count, key))


def look_once(look: Callable[[], None], *what: Any) -> None:
    """Look at something unless this machine has: what is refused is looked at every time.

    Args:
        look: Raises where something is wrong.
        what: All that this depends on, beside the code.
    """

    def passed() -> Cost:
        look()
        return _NOTHING

    lasting(passed, *what)


def _from_disk(count: Callable[[], Cost], found: bytes) -> Cost:
    store = user_store("costs", _WHAT, _MOST)
    if store is None:
        return count()
    key = KeptJson.key({"what": found.hex(), **_environment()})
    cost = _read(store.load(key))
    if cost is None:
        cost = count()
        try:
            store.store(key, cost._asdict())
        except OutputError as error:
            _log.debug("%s", error)
    return cost


def _read(entry: dict[str, Any] | None) -> Cost | None:
    """The cost that an entry says; None where it says none."""
    values = [(entry or {}).get(name) for name in Cost._fields]
    return Cost(*values) if all(type(value) is int and value >= 0 for value in values) else None


@lru_cache(maxsize=1)
def _environment() -> dict[str, str]:
    """What else a cost depends on, the same in every process until something is installed or changed."""
    root, code = Path(__file__).parents[2], hashlib.sha256()
    for file in sorted(path for folder in _CODE for path in (root / folder).rglob("*.py")):
        state = file.stat()
        code.update(f"{file.relative_to(root).as_posix()} {state.st_size} {state.st_mtime_ns}\n".encode())
    versions = {name: str(getattr(sys.modules.get(name), "__version__", "")) for name in _LIBRARIES}
    return {"python": platform.python_version(), "code": code.hexdigest(), **versions}
