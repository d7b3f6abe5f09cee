"""What lies where a model is missed and cannot be used, as sentences: "the file is there, but"."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ...core.disk import look
from .listing import (
    FOLDER_DEPTH,
    PARTS,
    FoundFile,
    find_files,
    find_folders,
    passed_over,
    transformer_class,
    whats_missing,
)

# Sentences a message holds, and characters each may have.
MOST_SENTENCES, MOST_CHARACTERS = 4, 500
MORE = "sounding-video models lists {} more."


def refused_towers(kind: str, roots: Iterable[Path]) -> list[str]:
    """Why nothing below the roots is a tower of a kind although something is there.

    Args:
        kind: "wan" or "stable_audio".
        roots: Where was looked.

    Returns:
        A sentence each: folders that lack something, files that cannot be used (those that hold names of the kind
        first), what could not be looked into, and relatives of the model.
    """
    roots = list(roots)
    files = find_files(roots)
    relatives = [file.looks for file in files if file.is_foreign and kind in (*file.likely, *_looks(file))]
    more = [f"{looks}." for looks in relatives]
    return refused_parts(files, kind, (kind,), roots, more)


def _looks(file: FoundFile) -> tuple[str, ...]:
    return ("wan",) if "looks like Wan" in file.looks else ()


def unusable(roots: Iterable[Path], files: Iterable[FoundFile]) -> list[str]:
    """Everything below the roots that may be a model and cannot be used, a sentence each."""
    told = [*_of_folders(list(roots), tuple(PARTS)), *(file.problem for file in files if file.is_refused)]
    return list(dict.fromkeys(told))


def refused_parts(
    files: Iterable[FoundFile], tower: str, kinds: Iterable[str], roots: Iterable[Path], more: Iterable[str] = ()
) -> list[str]:
    """Why nothing there is a part of some kinds.

    Args:
        files: What was found below the roots.
        tower: The kind of the tower whose parts they are.
        kinds: What is missed.
        roots: Where was looked.
        more: Further sentences, which come last.

    Returns:
        A sentence each, as :func:`refused_towers`.
    """
    roots = list(roots)
    passed = [f"{passed.path} was passed over ({passed.reason})." for passed in passed_over(roots)]
    return _bounded([*_of_folders(roots, (tower,)), *_of_files(files, tuple(kinds)), *passed, *more])


def _of_folders(roots: list[Path], kinds: tuple[str, ...]) -> list[str]:
    folders = [folder for root in roots for folder in (root, *look(root, FOLDER_DEPTH).folders)]
    told = [problem for folder in folders if (problem := transformer_class(folder)[1])]
    halves = [(folder, kind) for root in roots for kind in kinds for folder in find_folders(root, kind)]
    return [*told, *filter(None, (whats_missing(folder, kind) for folder, kind in halves))]


def _of_files(files: Iterable[FoundFile], kinds: tuple[str, ...]) -> list[str]:
    refused = [file for file in files if file.is_refused]
    fitting = [file for file in refused if set(kinds).intersection(file.likely)]
    return [file.problem for file in (*fitting, *(file for file in refused if not file.likely))]


def _bounded(sentences: list[str]) -> list[str]:
    """As many as a message can hold, and how many there are more."""
    sentences = list(dict.fromkeys(sentences))
    kept = [text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "…" for text in sentences]
    more = len(kept) - MOST_SENTENCES
    return [*kept[:MOST_SENTENCES], MORE.format(more)] if more > 0 else kept
