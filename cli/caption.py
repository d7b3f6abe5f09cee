"""``sounding-video caption VIDEO…``: captions for training clips, as a manifest that ``train`` reads."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError
from .console import Console
from .expand import add_backend_options, backend_options

if TYPE_CHECKING:
    from ..captions.media_captioner import Describer
    from ..core.types import AVClip

SUFFIXES = (".mp4", ".webm", ".mkv", ".mov")


def add_parser(commands: argparse._SubParsersAction, **options: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "caption",
        help="describe training clips with models that look, listen, compare and write",
        description="Describe clips: one model looks, one listens, the checker keeps of what was heard what the "
        "picture bears out, the rewriter writes both captions. One JSON object a clip is appended to the output; "
        "clips that stand there already are left out, so a stopped run goes on where it was. Under accelerate launch "
        "the processes share the clips.",
        **options,
    )
    add = parser.add_argument
    add("clips", nargs="*", metavar="VIDEO", help="clips, or folders of clips")
    add("--input", metavar="FILE", help="JSONL: one object a clip with file, and raw captions if there are any")
    add("-o", "--output", required=True, metavar="FILE", help="JSONL to append to")
    add(
        "--looking",
        default="transformers",
        metavar="HOW",
        help="raw captions through transformers (default) or server (--server, which must take pictures and sound)",
    )
    add("--video-model", metavar="NAME", help="looks (default: Qwen/Qwen2.5-VL-7B-Instruct; server: --model)")
    add("--audio-model", metavar="NAME", help="listens (default: Qwen/Qwen2-Audio-7B-Instruct; server: --model)")
    add_backend_options(parser, model_option="--model")
    return parser


def run(args: argparse.Namespace, console: Console) -> None:
    """Caption what is not captioned yet; name what could not be."""
    output = Path(args.output)
    rows = _rows(args, output)
    if args.backend in (None, "lexicon"):
        raise InputError(
            "captions of clips need a language model",
            got=f"backend {args.backend or 'lexicon'!r}",
            expected="--backend openai_server or transformers_local",
        )

    from ..captions.backends import open_backend
    from ..captions.media_captioner import caption_files

    done, failed = 0, {}
    with open_backend(args.backend, backend_options(args)) as backend:
        made = caption_files(
            rows,
            output,
            read=lambda file: _read(output.parent / file),
            describer=_describer(args),
            backend=backend,
            profile=args.profile or "bridgedit",
            progress=console.progress,
        )
        for file, error in made:
            done += error is None
            if error is not None:
                failed[file] = str(error)
                console.warn(f"{file}: {error}")
    console.close_progress()
    values = {"output": str(output), "captioned": done, "already_there": len(rows) - done - len(failed)}
    console.report(f"{output}: {done} captioned, {len(failed)} left out", {**values, "left_out": failed})


def _rows(args: argparse.Namespace, output: Path) -> list[dict[str, Any]]:
    """What to caption; files are named relative to the output where they lie below it, as a manifest wants it."""
    from ..captions.media_captioner import read_rows

    rows = [] if args.input is None else read_rows(Path(args.input))
    base = Path() if args.input is None else Path(args.input).parent
    for row in rows:
        row["file"] = _name(base / row["file"], output)
    for clip in map(Path, args.clips):
        found = sorted(path for path in clip.rglob("*") if path.suffix.lower() in SUFFIXES) if clip.is_dir() else [clip]
        rows += [{"file": _name(path, output)} for path in found]
    if not rows:
        raise InputError("there is nothing to caption", expected="clips, folders of clips, or --input with a list")
    return rows


def _name(path: Path, output: Path) -> str:
    whole, folder = path.resolve(), output.resolve().parent
    return whole.relative_to(folder).as_posix() if whole.is_relative_to(folder) else str(whole)


def _read(path: Path) -> AVClip:
    from ..media.probe import read_clip

    return read_clip(path)


def _describer(args: argparse.Namespace) -> Describer:
    if args.looking == "server":
        from ..captions.backends import make_backend
        from ..captions.backends.base import BackendOptions
        from ..captions.media_captioner import ChatDescriber

        models = [args.video_model or args.caption_model, args.audio_model or args.caption_model]
        trusted = args.server is not None
        made = [
            make_backend("openai_server", BackendOptions(args.server, name, trust_server=trusted)) for name in models
        ]
        return ChatDescriber(*made)
    if args.looking != "transformers":
        raise InputError("unknown way of looking", got=repr(args.looking), expected="transformers or server")
    from ..captions.qwen_describer import AUDIO_MODEL, VIDEO_MODEL, QwenDescriber

    return QwenDescriber(
        args.video_model or VIDEO_MODEL, args.audio_model or AUDIO_MODEL, allow_download=args.allow_download
    )
