"""``sounding-video expand "PROMPT"``: two captions, what they were written from, and how."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError
from .console import Console

if TYPE_CHECKING:
    from ..captions.backends.base import BackendOptions
    from ..captions.crr import Expansion

DEFAULT_BACKEND = "lexicon"


def add_parser(commands: argparse._SubParsersAction, **options: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "expand",
        help="turn a short prompt into a caption for the picture and one for the sound",
        description="Turn a short prompt into two captions, one of what is seen and one of what is heard, through "
        "semantic anchors. A key for a server is read from SOUNDING_VIDEO_LLM_KEY or OPENAI_API_KEY.",
        **options,
    )
    add = parser.add_argument
    add("prompt", nargs="?", default="", metavar="PROMPT", help="what is seen and heard")
    add("--anchors", metavar="FILE", help="write from these edited anchors (JSON) instead of a prompt")
    add(
        "--mode",
        default="full",
        metavar="NAME",
        help="full (default), or an ablation: off (the prompt for both), shared (one text for both), raw (unchecked), "
        "direct (without anchors)",
    )
    add_backend_options(parser, model_option="--model")
    return parser


def add_backend_options(parser: argparse.ArgumentParser, *, model_option: str) -> None:
    """Who writes the captions, and how long they get; ``generate`` has the same options."""
    add = parser.add_argument_group("who writes the captions").add_argument
    add(
        "--backend",
        metavar="NAME",
        help="lexicon (default; rules, no model), openai_server, or transformers_local",
    )
    add("--profile", metavar="NAME", help="lengths: bridgedit (as the released captions) or short")
    add("--server", metavar="URL", help="openai_server: base URL, for example http://127.0.0.1:11434/v1")
    add(model_option, dest="caption_model", metavar="NAME", help="model on the server, hub id, or local folder")
    add("--quantization", default="none", metavar="NAME", help="transformers_local: load smaller weights")
    add("--allow-download", action="store_true", help="transformers_local: fetch a hub id that is not there")
    add("--no-cache", action="store_true", help="ask the model even when the answer is known")


def backend_options(args: argparse.Namespace, **local: str) -> BackendOptions:
    """The options for :func:`~..captions.backends.make_backend`; a server typed here is meant to get the key."""
    from ..captions.backends.base import BackendOptions

    return BackendOptions(
        server=args.server,
        model=args.caption_model,
        quantization=args.quantization,
        allow_download=args.allow_download,
        trust_server=args.server is not None,
        **local,
    )


def expand_prompt(
    args: argparse.Namespace, console: Console, prompt: str, *, mode: str = "full", profile: str = "bridgedit"
) -> Expansion:
    """Expand one prompt as the command line says."""
    from ..captions.backends import open_backend
    from ..captions.cache import CaptionCache, default_cache_folder
    from ..captions.crr import expand

    cache = None if args.no_cache else CaptionCache(default_cache_folder())
    with open_backend(args.backend or DEFAULT_BACKEND, backend_options(args)) as backend:
        return expand(
            prompt,
            backend=backend,
            mode=mode,
            profile=args.profile or profile,
            cache=cache,
            progress=console.progress,
        )


def run(args: argparse.Namespace, console: Console) -> None:
    """Expand and print."""
    if args.anchors is None:
        made = expand_prompt(args, console, args.prompt, mode=args.mode)
    else:
        made = _from_anchors(args, console)
    console.close_progress()
    tell_report(console, made)
    console.report(f"picture: {made.captions.video}\n\nsound: {made.captions.audio}", made.as_json())


def tell_report(console: Console, made: Expansion) -> None:
    """What was mended, what is not as wanted, and which words were not understood."""
    for note in (*made.report.repaired, *made.report.notes):
        console.note(f"note: {note}")
    for finding in made.report.remaining:
        console.note(f"note: {finding.message}")


def _from_anchors(args: argparse.Namespace, console: Console) -> Expansion:
    from ..captions.anchors import from_json
    from ..captions.backends import open_backend
    from ..captions.crr import expand_anchors

    if args.prompt or args.mode != "full":
        raise InputError("anchors are written out as they are", got="a prompt or a mode beside --anchors")
    try:
        text = Path(args.anchors).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError("the anchors' file cannot be read", got=args.anchors, remedy=str(error)) from error
    anchors = from_json(text)
    with open_backend(args.backend or DEFAULT_BACKEND, backend_options(args)) as backend:
        return expand_anchors(anchors, backend=backend, profile=args.profile or "bridgedit", progress=console.progress)
