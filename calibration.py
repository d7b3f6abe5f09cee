"""What step caches have measured of a model in an earlier run, kept in memory and in the user's cache folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from .core.errors import OutputError
from .core.kept import KeptJson, user_store
from .core.progress import Progress
from .sampling.cache._curve import Curve, curves_as_json, read_curves
from .sampling.cache.base import StepCache
from .sampling.loop import MEASURES

_log = logging.getLogger(__name__)
_WHAT = "what step caches measured"
_KNOWN: dict[str, dict[str, Curve]] = {}


def calibrated(cache: StepCache | None, model: str, progress: Progress) -> StepCache | None:
    """The cache with what is known of a model; where it needs to know and does not, that is told.

    Args:
        cache: From the options; one that measures nothing comes back as it is.
        model: The model's own description, which tells it from others.
        progress: Told that this run is computed whole.
    """
    if cache is None or not cache.measured:
        return cache
    key = KeptJson.key({"model": model, "form": 1})
    curves = _KNOWN.get(key) or _from_disk(key)
    if not curves:
        progress.tell(MEASURES)
    return replace(cache, curves=curves, keep=partial(_keep, key, curves))


def _from_disk(key: str) -> dict[str, Curve]:
    store = user_store("magnitudes", _WHAT)
    return read_curves(store.load(key)) if store is not None else {}


def _keep(key: str, known: Mapping[str, Curve], curves: Mapping[str, Curve]) -> None:
    """In memory, and where the folder can be written also on disk; what is known of the other side stays."""
    _KNOWN[key] = curves = {**known, **curves}
    store = user_store("magnitudes", _WHAT)
    try:
        if store is not None:
            store.store(key, curves_as_json(curves))
    except OutputError as error:
        _log.warning("What the step cache has measured is not kept on disk: %s", error)
