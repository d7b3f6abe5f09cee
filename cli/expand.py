"""``sounding-video expand "PROMPT"``: two captions, what they were written from, and how."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..captions.backends import BACKENDS, DEFAULT_BACKEND
from ..core.errors import InputError
from ..core.json_text import read_json
from ..core.options import TIMEOUT
from .console import Console
from .given import FILE, MODEL, Choice, free_text
from .options import Checked

if TYPE_CHECKING:
    from ..captions.backends.base import BackendOptions
    from ..captions.crr import Expansion

MODES_HELP = (
    "full (default), or an ablation: off (the prompt for both), shared (both captions together for both), shared_video "
    "(the video caption for both), raw (unchecked), direct (without anchors)"
)


def _modes() -> Iterable[str]:
    from ..captions.crr import MODES

    return MODES


def _profiles() -> Iterable[str]:
    from ..captions.profiles import PROFILES

    return PROFILES


def _quantizations() -> Iterable[str]:
    from ..captions.backends.transformers_local import QUANTIZATIONS

    return QUANTIZATIONS


MODE = Choice("expansion mode", _modes)


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
    add("prompt", nargs="?", default="", type=free_text, metavar="PROMPT", help="what is seen and heard")
    add("--anchors", type=FILE, metavar="FILE", help="write from these edited anchors (JSON) instead of a prompt")
    add("--mode", type=MODE, default="full", metavar="NAME", help=MODES_HELP)
    add("--schema", action="store_true", help="print the JSON Schema of the anchors and stop")
    add_backend_options(parser, model_option="--model")
    add_device_option(parser)
    return parser


def add_backend_options(parser: argparse.ArgumentParser, *, model_option: str) -> None:
    """Who writes the captions, and how long they get; ``generate`` has the same options."""
    add = parser.add_argument_group("who writes the captions").add_argument
    add(
        "--backend",
        type=Choice("caption backend", lambda: BACKENDS),
        metavar="NAME",
        help=f"one of {', '.join(BACKENDS)} (default: {DEFAULT_BACKEND}, rules without a model)",
    )
    add(
        "--profile",
        type=Choice("length profile", _profiles),
        metavar="NAME",
        help="lengths: bridgedit (as the released captions) or short",
    )
    add("--server", metavar="URL", help="openai_server: base URL, for example http://127.0.0.1:11434/v1")
    add(
        model_option,
        dest="caption_model",
        type=MODEL,
        metavar="NAME",
        help="model on the server, hub id, or local folder (transformers_local: default Qwen/Qwen2.5-7B-Instruct; the "
        "published system has Qwen/Qwen2.5-72B-Instruct)",
    )
    add(
        "--quantization",
        type=Choice("kind of smaller weights", _quantizations),
        metavar="NAME",
        help="transformers_local: load smaller weights: none (default), bitsandbytes-8bit, bitsandbytes-4bit, "
        "torchao-int8",
    )
    add("--allow-download", action="store_true", help="transformers_local: fetch a hub id that is not there")
    add(
        "--timeout",
        type=Checked(TIMEOUT.read),
        metavar="SECONDS",
        help="longest wait for one answer (default: 120 for a server, 600 for a model on this machine)",
    )
    add("--no-cache", action="store_true", help="ask the model even when the answer is known")


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Where a local language model runs, for commands that have no other use for a device."""
    parser.add_argument(
        "--device",
        default="auto",
        metavar="NAME",
        help="where a model on this machine runs: auto (default), cpu, cuda, cuda:1, mps",
    )


def backend_options(args: argparse.Namespace) -> BackendOptions:
    """The options for :func:`~..captions.backends.make_backend`; a server typed here is meant to get the key."""
    from ..captions.backends.base import BackendOptions

    return BackendOptions(
        server=args.server,
        model=args.caption_model,
        device=args.device,
        quantization=args.quantization or "none",
        allow_download=args.allow_download,
        timeout_seconds=args.timeout,
        trust_server=args.server is not None,
    )


def expand_prompt(
    args: argparse.Namespace,
    console: Console,
    prompt: str,
    *,
    mode: str = "full",
    profile: str = "bridgedit",
    shared_options: Sequence[str] = (),
) -> Expansion:
    """Expand one prompt as the command line says.

    Args:
        args: With the options of :func:`add_backend_options` and ``device``.
        console: Told of progress.
        prompt: What is seen and heard.
        mode: One of :data:`~..captions.crr.MODES`.
        profile: Lengths where the command line names none.
        shared_options: Backend options that the command uses for other things too.
    """
    from ..captions.backends import open_backend, sharing
    from ..captions.cache import default_cache
    from ..captions.crr import expand

    cache = None if args.no_cache else default_cache()
    name = args.backend or DEFAULT_BACKEND
    with open_backend(name, sharing(name, backend_options(args), shared_options)) as backend:
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
    if args.schema:
        _tell_schema(args, console)
        return
    if args.anchors is None:
        made = expand_prompt(args, console, args.prompt, mode=args.mode)
    else:
        made = _from_anchors(args, console)
    console.close_progress()
    tell_report(console, made)
    console.report(f"picture: {made.captions.video}\n\nsound: {made.captions.audio}", made.as_json())


def _tell_schema(args: argparse.Namespace, console: Console) -> None:
    from ..captions.anchors import anchors_schema

    if args.prompt or args.anchors is not None:
        raise InputError("the schema is printed alone", got="a prompt or anchors beside --schema")
    schema = anchors_schema()
    console.report(json.dumps(schema, ensure_ascii=False, indent=2), schema)


def tell_report(console: Console, made: Expansion) -> None:
    """What was mended, what is not as wanted, and which words were not understood."""
    for note in (*made.report.repaired, *made.report.notes):
        console.note(f"note: {note}")
    for finding in made.report.remaining:
        console.note(f"note: {finding.message}")


def _from_anchors(args: argparse.Namespace, console: Console) -> Expansion:
    from ..captions.anchors import from_values
    from ..captions.backends import open_backend
    from ..captions.crr import expand_anchors

    if args.prompt or args.mode != "full":
        raise InputError("anchors are written out as they are", got="a prompt or a mode beside --anchors")
    anchors = from_values(read_json(args.anchors, what="the anchors' file"))
    with open_backend(args.backend or DEFAULT_BACKEND, backend_options(args)) as backend:
        return expand_anchors(anchors, backend=backend, profile=args.profile or "bridgedit", progress=console.progress)
