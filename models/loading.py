"""Which family a place on disk belongs to, and loading it.

What no other family knows is looked for as two towers, which also lie in single files, in several folders and in the
cache of Hugging Face; and is refused by their sentences.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.disk import is_dir, look, user_path
from ..core.errors import InputError
from .families import FAMILIES
from .families.base import Wishes
from .weights.find import POCKET, TOWER_TITLES, find_models, find_towers, roots_of
from .weights.hub import hub_snapshots
from .weights.listing import FOLDER_DEPTH

if TYPE_CHECKING:
    from ..core.device import Placement
    from .families.base import Family, FamilyModel, Found
    from .plan.base import ModelOutline
    from .weights.bridges import BridgeOptions

Models = str | Path | Iterable[str | Path]
# Looked for where no other family is recognised.
USUAL = "bridged"


def family_of(found: Found) -> Family:
    """The family of a model on disk."""
    return FAMILIES.get(found.family)()


def find_model(
    models: Models | Found = POCKET, *, video: str | None = None, audio: str | None = None, made: str = "joint"
) -> Found:
    """A model of any family: a folder that one recognises, or one below it where no towers lie; else two towers.

    Args:
        models: As :func:`~.weights.find.find_models` takes it; what was found before is given back.
        video: Which Wan of several.
        audio: Which Stable Audio.
        made: What the bridge is for, of several: ``joint``, ``v2a`` (sound for a picture) or ``a2v``.

    Raises:
        MissingModelError, InputError, WeightsError: as :func:`~.weights.find.find_models`; a tower was chosen for a
            model that has none.
    """
    if hasattr(models, "family"):
        return models
    folders = [models] if isinstance(models, str | Path) else list(models)
    found = None if str(models) == POCKET else _of_another_family(folders)
    if found is None:
        return find_models(folders[0] if len(folders) == 1 else folders, video=video, audio=audio, made=made)
    if video is not None or audio is not None:
        title = family_of(found).title
        got = f"{video or audio} beside {found.name} ({title})"
        raise InputError("this model has no towers to choose", got=got, expected="its folder alone")
    return found


def found_folders(roots: Iterable[Path]) -> list[Found]:
    """Models of other families than two towers: the roots and what lies below them, each once."""
    families = _others()
    if not families:
        return []
    folders = [folder for root in roots for folder in (root, *look(root, FOLDER_DEPTH).folders)]
    return [found for folder in dict.fromkeys(folders) for found in _recognised(folder, families)]


def _of_another_family(folders: Sequence[str | Path]) -> Found | None:
    families = _others()
    if not families:
        return None
    named = [folder for folder in map(_folder, folders) if folder is not None]
    itself = [found for folder in named for found in _recognised(folder, families)]
    if itself:
        return itself[0]
    roots = [root for folder in named for root in roots_of(folder)]
    below = found_folders(roots)
    if not below or any(find_towers(roots, kind) for kind in TOWER_TITLES):
        return None
    others = ", ".join(found.name for found in below[1:])
    picked = [f"the model is {below[0].name}; others that are there: {others}"] if others else []
    return replace(below[0], notes=(*below[0].notes, *picked))


def _folder(choice: str | Path) -> Path | None:
    """The folder that a path or the id of a model in Hugging Face's cache names."""
    path = user_path(choice)
    return path if is_dir(path) else hub_snapshots().get(str(choice))


def _others() -> list[Family]:
    """Every family but the usual one."""
    return [FAMILIES.get(name)() for name in FAMILIES if name != USUAL]


def _recognised(folder: Path, families: Sequence[Family]) -> Iterator[Found]:
    yield from filter(None, (family.recognise(folder) for family in families))


def load_models(
    models: Models | Found = POCKET,
    *,
    placement: Placement,
    bridge: str | Path = "auto",
    bridge_options: BridgeOptions | None = None,
    free_text: bool = False,
    made: str = "joint",
) -> FamilyModel:
    """Load a model of any family from one place.

    Args:
        models: ``pocket`` for the bundled model, a folder or a hub id as :func:`find_model` takes it, or what it gave.
        placement: Device, dtype, offload, kernel.
        bridge: A file, ``none``, or ``auto`` for the one beside the towers.
        bridge_options: What a bridge file without metadata does not say.
        free_text: Read the text encoders when they are used and let go of them afterwards.
        made: What ``auto`` takes a bridge for, of several: ``joint``, ``v2a`` (sound for a picture) or ``a2v``.

    Raises:
        MissingModelError, WeightsError: see the messages.
        InputError: what the family does not offer.
    """
    found, wishes = find_model(models, made=made), Wishes(str(bridge), bridge_options, free_text)
    family = family_of(found)
    family.require(placement, wishes)
    return family.load(found, placement, wishes)


def outline_found(found: Found, placement: Placement, **wishes: Any) -> ModelOutline:
    """A model without its weights, for plans before anything is loaded.

    Args:
        found: From :func:`find_model`.
        placement: Gives the number types.
        wishes: Fields of :class:`~.families.base.Wishes`.

    Raises:
        MissingModelError, WeightsError, InputError: as :func:`load_models`.
    """
    family = family_of(found)
    family.require(placement, Wishes(**wishes))
    return family.outline(found, placement, Wishes(**wishes))
