"""``sounding-video download NAME``: get a model from Hugging Face's hub, because the user said so."""

from __future__ import annotations

import argparse
from typing import Any

from ..core.errors import InputError
from ..core.sizes import size_text
from .console import Console
from .given import NEW_FOLDER
from .models import model_folders


def add_parser(commands: argparse._SubParsersAction, **options: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "download",
        help="get a model from Hugging Face",
        description="Get a model from Hugging Face's hub into the model folder. A stopped download goes on where it "
        "stopped. Nothing else of this program ever downloads anything.",
        **options,
    )
    parser.add_argument("name", metavar="NAME", nargs="?", help="what to get; without it the choices are listed")
    parser.add_argument(
        "--models", type=NEW_FOLDER, metavar="DIR", help="where to put it (default: as for the command models)"
    )
    parser.add_argument("--file", metavar="NAME", help="only this file of the repository; may hold * and ?")
    return parser


def run(args: argparse.Namespace, console: Console) -> None:
    """List the choices, or fetch one."""
    from ..models.weights.download import DOWNLOADS, STAGING, download

    if args.name is None:
        rows = {
            name: {
                "title": entry.title,
                "repository": entry.repository,
                "bytes": entry.num_bytes,
                "licence": entry.licence,
                "gated": entry.is_gated,
            }
            for name, entry in DOWNLOADS.items()
        }
        lines = [
            f"{name}: {row['title']}\n  {row['repository']}, about {size_text(row['bytes'])}, {row['licence']}"
            for name, row in rows.items()
        ]
        console.report("\n".join(lines), {"downloads": rows})
        return
    from ..core.disk import user_path

    folder = user_path(args.models) if args.models else model_folders(None)[0]
    if folder.parts[0].startswith("~"):
        raise InputError(
            "there is no home folder to put models into", expected="--models with a folder, or HOME in the environment"
        )
    if console.as_json or console.quiet:
        from huggingface_hub.utils import disable_progress_bars

        disable_progress_bars()
    try:
        files = download(args.name, folder, file=args.file, progress=console.progress)
    except BaseException:
        if (folder / STAGING).is_dir():
            console.close_progress()
            console.warn(f"what was fetched is kept in {folder / STAGING}; the same command goes on there")
        raise
    console.close_progress()
    licence = DOWNLOADS[args.name].licence
    console.report(
        "\n".join([*(str(file) for file in files), f"licence: {licence}"]),
        {"files": [str(file) for file in files], "licence": licence},
    )
