"""``sounding-video models``: what was found on disk, and what is missing with its size, licence and source."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.sizes import size_text
from .console import Console
from .given import MODEL
from .libraries import quiet_libraries

if TYPE_CHECKING:
    from ..models.families.base import Found
    from ..models.weights.find import FoundFile
    from ..models.weights.layouts import Layout

MODELS_VARIABLE = "SOUNDING_VIDEO_MODELS"
# Where ``download`` puts models when no folder is named: on every system here, and not where platformdirs says. These
# are no copies that may be thrown away, and what people have downloaded must be found again.
DOWNLOADED = Path("~/.cache/sounding_video/models")
# Levels of a diffusers folder whose bytes count.
FOLDER_DEPTH = 4
# Lines of what cannot be used or looked into, without --all.
MOST_LINES = 10


def add_parser(commands: argparse._SubParsersAction, **options: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "models",
        help="list the models that were found and those that are missing",
        description="List the models found in a folder (also a whole ComfyUI models folder) and in Hugging Face's "
        "cache, and what is missing, with size, licence and source. Files are told by their headers.",
        **options,
    )
    add_models_option(parser)
    parser.add_argument("--all", action="store_true", help="also files of other models and files that cannot be read")
    return parser


def add_models_option(parser: argparse.ArgumentParser) -> None:
    """The option that names the model folder."""
    parser.add_argument(
        "--models",
        type=MODEL,
        metavar="DIR",
        help="where to look: a folder, or the id of a model in Hugging Face's cache "
        f"(default: ${MODELS_VARIABLE} if set, else what was downloaded)",
    )


def model_folders(choice: str | None) -> list[Path]:
    """Where models are looked for beside Hugging Face's cache; with nothing named the folder of downloads.

    Raises:
        MissingModelError: a folder that was named does not exist or cannot be looked into.
    """
    from ..core.disk import is_dir, user_path, what_is_there
    from ..core.errors import MissingModelError
    from ..models.weights.find import require_listable
    from ..models.weights.hub import hub_snapshots

    if choice is None and not os.environ.get(MODELS_VARIABLE):
        return [user_path(DOWNLOADED)]
    named = [choice] if choice is not None else os.environ[MODELS_VARIABLE].split(os.pathsep)
    folders = []
    for part in filter(None, named):
        folder = user_path(part)
        if not is_dir(folder):
            folder = hub_snapshots().get(part)
        if folder is None:
            got = f"{user_path(part)} ({what_is_there(user_path(part))})"
            raise MissingModelError("the model folder was not found", got=got, expected="a folder")
        folders.append(require_listable(folder))
    return folders


def choose_models(
    choice: str | None, *, video: str | None = None, audio: str | None = None, made: str = "joint"
) -> Found:
    """What a run takes: what is named, else the environment's folders, else what was downloaded, else ``pocket``.

    Args:
        choice: ``--models``.
        video: ``--wan``.
        audio: ``--stable-audio``.
        made: What the bridge is for.

    Raises:
        MissingModelError, InputError, WeightsError: as :func:`~..models.loading.find_model`.
    """
    from ..core.disk import is_dir, user_path
    from ..core.errors import MissingModelError
    from ..models.loading import find_model, found_folders
    from ..models.weights.find import POCKET, find_downloaded

    chosen = {"video": video, "audio": audio, "made": made}
    folders = [part for part in os.environ.get(MODELS_VARIABLE, "").split(os.pathsep) if part]
    if choice is not None:
        return find_model(choice, **chosen)
    if folders:
        there = [part for part in folders if is_dir(user_path(part))] or folders
        return find_model(there[0] if len(there) == 1 else there, **chosen)
    try:
        found = find_downloaded(user_path(DOWNLOADED), **chosen)
    except MissingModelError as error:
        if video is not None or audio is not None:
            raise
        others = found_folders([DOWNLOADED.expanduser()])
        if others:
            return replace(others[0], notes=(f"{others[0].name} is used, which was downloaded", *others[0].notes))
        why = f"the bundled small model is used, since {error.what}; sounding-video models lists what is missing"
        return replace(find_model(POCKET, made=made), notes=(why, *error.refused))
    taken = f"{found.name} is used, which was downloaded; --models pocket takes the bundled small model"
    return replace(found, notes=(taken, *found.notes))


def run(args: argparse.Namespace, console: Console) -> None:
    """Look and print."""
    quiet_libraries()
    report = collect(model_folders(args.models))
    console.report(describe(report, with_others=args.all), report)


def collect(folders: list[Path]) -> dict[str, Any]:
    """What is there and what is not.

    Args:
        folders: Model folders; Hugging Face's cache is looked at too.

    Returns:
        ``folders``, ``found`` and ``others`` (a row a model), ``refused`` (sentences about what may be a model and
        cannot be used), ``passed_over`` (what could not be looked into), ``missing`` (a row a download that would
        help).
    """
    from ..models.families.base import FoundFolder
    from ..models.loading import family_of, found_folders
    from ..models.weights.find import TOWER_TITLES, find_files, find_folders, pocket_folder
    from ..models.weights.hub import expand_root, hub_snapshots, listed_name
    from ..models.weights.listing import passed_over
    from ..models.weights.refused import unusable

    expanded = [root for folder in folders for root in expand_root(folder)]
    roots = list(dict.fromkeys([*expanded, *hub_snapshots().values()]))
    found = [_pocket_row(pocket_folder())]
    for kind, title in TOWER_TITLES.items():
        for root in roots:
            found += [_folder_row(kind, title, folder) for folder in find_folders(root, kind)]
    whole = [each for each in found_folders(roots) if isinstance(each, FoundFolder)]
    found += [_folder_row(each.family, family_of(each).title, each.path) for each in whole]
    files = [file for file in find_files(roots) if not {each.path for each in whole}.intersection(file.path.parents)]
    found += [_file_row(file.path, file.layout) for file in files if file.layout]
    found = [row | {"name": listed_name(Path(row["path"]), roots)} for row in found]
    return {
        "folders": [str(root) for root in roots],
        "found": found,
        "missing": _missing({row["kind"] for row in found if row["layout"] != "bundled"} | _parts(found)),
        "others": [_other_row(file) for file in files if not file.layout],
        "refused": unusable(roots, files),
        "passed_over": [{"path": str(passed.path), "reason": passed.reason} for passed in passed_over(roots)],
    }


def _parts(found: list[dict[str, Any]]) -> set[str]:
    """Kinds that come with the folders that were found."""
    from ..models.weights.find import COMPANIONS

    folders = (row["kind"] for row in found if row["layout"] == "diffusers folder")
    return {part for kind in folders for part in COMPANIONS.get(kind, ())}


def _pocket_row(folder: Path) -> dict[str, Any]:
    row = _folder_row("pocket", "the bundled small model", folder)
    dtype = _folder_row("wan", "", folder / "wan")["dtype"]
    return row | {"layout": "bundled", "dtype": dtype, "licence": "Apache-2.0"}


def _folder_row(kind: str, title: str, folder: Path) -> dict[str, Any]:
    from ..core.disk import look, size_of
    from ..models.weights._folders import weights_in
    from ..models.weights.listing import inspect_dtype

    weights = weights_in(folder / "transformer")
    return {
        "kind": kind,
        "title": title,
        "layout": "diffusers folder",
        "dtype": inspect_dtype(weights[0]) if weights else None,
        "bytes": sum(size_of(file) for file in look(folder, FOLDER_DEPTH).files),
        "licence": _licence(kind),
        "path": str(folder),
    }


def _file_row(path: Path, layout: Layout) -> dict[str, Any]:
    from ..models.weights.bridges import use_of
    from ..models.weights.layouts import TITLES

    use = use_of(path) if layout.kind == "bridge" else None
    return {
        "kind": layout.kind,
        "title": f"{TITLES[layout.kind]} {layout.detail}".strip() + (f", for {use.words}" if use else ""),
        "layout": f"{layout.names} names, {layout.format}",
        "dtype": layout.dtype,
        "bytes": layout.num_bytes,
        "licence": _licence(layout.kind),
        "path": str(path),
    }


def _other_row(file: FoundFile) -> dict[str, Any]:
    from ..core.disk import size_of

    return {"path": str(file.path), "bytes": size_of(file.path), "problem": file.problem}


def _licence(kind: str) -> str | None:
    from ..models.weights.download import DOWNLOADS

    if kind == "t5":
        return "Apache-2.0"
    return next((entry.licence for entry in DOWNLOADS.values() if kind in entry.provides), None)


def _missing(kinds: set[str]) -> list[dict[str, Any]]:
    """Downloads that would bring what is not there; of several for one thing the first, which is the smallest."""
    from ..models.weights.download import DOWNLOADS
    from ..models.weights.layouts import GET, TITLES

    needed = ("wan", "wan_vae", "umt5", "stable_audio", "t5", "bridge")
    rows = []
    for kind in (kind for kind in needed if kind not in kinds):
        name, entry = next((name, entry) for name, entry in DOWNLOADS.items() if kind in entry.provides)
        rows.append(
            {
                "kind": kind,
                "title": TITLES[kind],
                "single_file": GET[kind],
                "download": name,
                "repository": entry.repository,
                "bytes": entry.num_bytes,
                "licence": _licence(kind),
                "gated": entry.is_gated,
            }
        )
    return rows


def describe(report: dict[str, Any], *, with_others: bool = False) -> str:
    """The report as text."""
    lines = ["found:"]
    for row in report["found"]:
        lines.append(f"  {row['title']}: {row['layout']}, {row['dtype']}, {size_text(row['bytes'])}, {row['licence']}")
        lines.append(f"    {row['name']}  ({row['path']})")
    if report["missing"]:
        lines.append("missing for the full-size models:")
    for name in dict.fromkeys(row["download"] for row in report["missing"]):
        lines += _missing_lines(name, [row for row in report["missing"] if row["download"] == name])
    lines += _bounded("found, but not usable:", report["refused"], with_others)
    passed = [f"{row['path']}: {row['reason']}" for row in report["passed_over"]]
    lines += _bounded("passed over, since it cannot be looked into:", passed, with_others)
    if report["others"]:
        lines.append(f"other files: {len(report['others'])}" + ("" if with_others else " (--all lists them)"))
    if with_others:
        lines += [f"  {row['path']}: {row['problem']}" for row in report["others"]]
    return "\n".join(lines)


def _bounded(title: str, texts: list[str], everything: bool) -> list[str]:
    """A title and what stands below it; nothing where nothing does."""
    kept = texts if everything else texts[:MOST_LINES]
    more = [f"  and {len(texts) - len(kept)} more (--all lists them)"] if len(kept) < len(texts) else []
    return [title, *(f"  {text}" for text in kept), *more] if texts else []


def _missing_lines(download: str, rows: list[dict[str, Any]]) -> list[str]:
    """One download that brings several missing models, and each of them as a single file."""
    first = rows[0]
    gate = ", asks for a login and an accepted licence" if first["gated"] else ""
    source = f"{first['repository']}, about {size_text(first['bytes'])}, {first['licence']}{gate}"
    files = [f"  {row['title']}: {row['single_file']}" for row in rows]
    return [*files, f"    all of it: sounding-video download {download}", f"    ({source})"]
