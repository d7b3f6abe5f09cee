"""What both tasks of PAV-DiT share: its folder, or a new one where there is none yet."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ...core.errors import MissingModelError
from ...models.families.base import FoundFolder
from ...models.loading import found_folders
from ...models.own import NOTE
from ...models.pav_dit.new import read_own_note, write_new
from ...models.weights.find import find_towers
from .base import TrainingTask

FAMILY = "pav_dit"


class PlanesTask(TrainingTask):
    """A task on a folder of PAV-DiT."""

    folder: Path  # of the model, once it is loaded

    def begin(self, base: Path) -> Callable[[Path], None] | None:
        """A new model with the text encoder of the Wan that is there.

        Raises:
            MissingModelError: there is none.
        """
        if _found(base):
            return None
        texts = next((tower for tower in find_towers([base], "wan") if isinstance(tower, Path)), None)
        if texts is None:
            raise MissingModelError(
                "there is neither a PAV-DiT model nor a text encoder for a new one",
                got=base,
                expected="a PAV-DiT folder, or a folder with a Wan 2.1 diffusers folder (models.root)",
            )
        config = self.config
        rest: dict[str, Any] = {"text_length": config.models.text_length, "seed": config.seed, "note": _note(texts)}
        return partial(write_new, form=config.models.form, texts=texts, **rest)

    def find(self, models: Path) -> Path:
        """The folder of the model; remembered for what is written later.

        Raises:
            MissingModelError: there is none.
        """
        found = _found(models)
        if not found:
            raise MissingModelError("there is no PAV-DiT model", got=models, expected="its folder (models.root)")
        self.folder = found[0].path
        return self.folder


def _found(base: Path) -> list[FoundFolder]:
    return [found for found in found_folders([base]) if found.family == FAMILY]


def _note(texts: Path) -> dict[str, Any]:
    """What the bundled model knows, a model knows that learns from the same world with its text encoder."""
    said = read_own_note(texts.parent, NOTE)
    return {key: said[key] for key in ("knows",) if key in said}
