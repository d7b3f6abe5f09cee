"""``sounding-video caption VIDEO…``: captions for training clips, as a manifest that ``train`` reads."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError, require_choice
from .console import Console
from .expand import add_backend_options, add_device_option, backend_options
from .given import FILE, FILE_OR_FOLDER, MODEL, NEW_FILE

if TYPE_CHECKING:
    from ..captions.backends.base import ChatBackend
    from ..captions.media_captioner import Describer
    from ..core.types import AVClip

SUFFIXES = (".mp4", ".webm", ".mkv", ".mov")
# Who looks and listens, and the backend options that are for them too.
LOOKING = {
    "transformers": ("device", "allow_download", "timeout_seconds"),
    "server": ("server", "timeout_seconds"),
}


def add_parser(commands: argparse._SubParsersAction, **options: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "caption",
        help="describe training clips with models that look, listen, compare and write",
        description="Describe clips: one model looks, one listens, the checker keeps of what was heard what the "
        "picture bears out, the rewriter writes both captions. One JSON object a clip is appended to the output; "
        "clips that stand there already are left out, so a stopped run goes on where it was. All clips are seen, then "
        "all are heard, then all captions are written: one model is loaded at a time. What was seen and heard is kept "
        "beside the output, as .raw.jsonl. Under accelerate launch the processes share the clips and each has its "
        "own card.",
        **options,
    )
    add = parser.add_argument
    add("clips", nargs="*", type=FILE_OR_FOLDER, metavar="VIDEO", help="clips, or folders of clips")
    add(
        "--input",
        type=FILE,
        metavar="FILE",
        help="JSONL: one object a clip with file, and raw captions if there are any",
    )
    add("-o", "--output", required=True, type=NEW_FILE, metavar="FILE", help="JSONL to append to")
    add(
        "--looking",
        default="transformers",
        metavar="HOW",
        help="raw captions through transformers (default) or server (--server, which must take pictures and sound)",
    )
    add(
        "--video-model",
        type=MODEL,
        metavar="NAME",
        help="looks (default: Qwen/Qwen2.5-VL-7B-Instruct; server: --looking-model)",
    )
    add(
        "--audio-model",
        type=MODEL,
        metavar="NAME",
        help="listens (default: Qwen/Qwen2-Audio-7B-Instruct; server: --looking-model)",
    )
    add(
        "--looking-model",
        metavar="NAME",
        help="server: looks and listens (default: --model when the backend is openai_server, else its only model)",
    )
    add(
        "--mode",
        default="full",
        metavar="NAME",
        help="full (default), or an ablation: raw (what was seen and heard, unchecked; needs no --backend), direct "
        "(both captions in one step, without anchors)",
    )
    add_backend_options(parser, model_option="--model")
    add_device_option(parser)
    return parser


def run(args: argparse.Namespace, console: Console) -> None:
    """Caption what is not captioned yet; name what could not be."""
    from ..captions.media_captioner import TRAINING_MODES, caption_files, own_clips

    output = Path(args.output)
    rows = _rows(args, output)
    require_choice("way of writing", args.mode, TRAINING_MODES)
    require_choice("way of looking", args.looking, LOOKING)
    done, failed = 0, {}
    with _writer(args) as backend, closing(_describer(args)) as describer:
        made = caption_files(
            rows,
            output,
            read=lambda file: _read(output.parent / file),
            describer=describer,
            backend=backend,
            mode=args.mode,
            profile=args.profile or "bridgedit",
            progress=console.progress,
        )
        for file, error in made:
            done += error is None
            if error is not None:
                failed[file] = str(error)
                console.warn(f"{file}: {error}")
    console.close_progress()
    there = len(own_clips(rows)) - done - len(failed)
    values = {"output": str(output), "captioned": done, "already_there": there}
    console.report(f"{output}: {done} captioned, {len(failed)} left out", {**values, "left_out": failed})


@contextmanager
def _writer(args: argparse.Namespace) -> Iterator[ChatBackend | None]:
    """Who writes; what is set for those who look is not held against a backend that has it not."""
    from ..captions.backends import BACKENDS, DEFAULT_BACKEND, is_chat, open_backend, sharing

    if args.mode == "raw":
        if args.backend is not None:
            raise InputError("a caption backend is named but raw captions need none", got=args.backend)
        yield None
        return
    if not is_chat(args.backend or DEFAULT_BACKEND):
        raise InputError(
            "captions of clips need a language model",
            got=f"backend {args.backend or DEFAULT_BACKEND!r}",
            expected="--backend " + " or ".join(filter(is_chat, BACKENDS)),
        )
    with open_backend(args.backend, sharing(args.backend, backend_options(args), LOOKING[args.looking])) as backend:
        yield backend


def _rows(args: argparse.Namespace, output: Path) -> list[dict[str, Any]]:
    """What to caption; files are named relative to the output where they lie below it, as a manifest wants it."""
    from ..captions.jsonl import read_rows

    known = _known(output)
    rows = [] if args.input is None else read_rows(Path(args.input))
    base = Path() if args.input is None else Path(args.input).parent
    for row in rows:
        row["file"] = _name(base / row["file"], output, known)
    for clip in map(Path, args.clips):
        found = sorted(path for path in clip.rglob("*") if path.suffix.lower() in SUFFIXES) if clip.is_dir() else [clip]
        rows += [{"file": _name(path, output, known)} for path in found]
    if not rows:
        raise InputError("there is nothing to caption", expected="clips, folders of clips, or --input with a list")
    return rows


def _known(output: Path) -> dict[Path, str]:
    """What an earlier run called the clips that are captioned or described already."""
    from ..captions.jsonl import read_rows
    from ..captions.media_captioner import raw_captions_file

    written = [path for path in (raw_captions_file(output), output) if path.exists()]
    return {(output.parent / row["file"]).resolve(): row["file"] for path in written for row in read_rows(path)}


def _name(path: Path, output: Path, known: Mapping[Path, str]) -> str:
    """The clip as seen from the output; in full only where the user wrote it so and it does not lie below that."""
    whole, folder = path.resolve(), output.resolve().parent
    if whole in known:
        return known[whole]
    if whole.is_relative_to(folder) or not path.is_absolute():
        with suppress(ValueError):  # another drive of Windows
            return Path(os.path.relpath(whole, folder)).as_posix()
    return str(whole)


def _read(path: Path) -> AVClip:
    from ..media.probe import read_clip

    return read_clip(path)


def _describer(args: argparse.Namespace) -> Describer:
    if args.looking == "server":
        from ..captions.backends import DEFAULT_BACKEND, SERVER_BACKEND, is_on_device, make_backend
        from ..captions.backends.base import BackendOptions
        from ..captions.media_captioner import ChatDescriber

        # A writer on this machine has a model that the server knows nothing of.
        usual = args.looking_model or (None if is_on_device(args.backend or DEFAULT_BACKEND) else args.caption_model)
        trusted = {"trust_server": args.server is not None, "timeout_seconds": args.timeout}
        models = [args.video_model or usual, args.audio_model or usual]
        return ChatDescriber(
            *(make_backend(SERVER_BACKEND, BackendOptions(args.server, name, **trusted)) for name in models)
        )
    if args.looking_model is not None:
        raise InputError(
            "one model that looks and listens is a server's",
            got="--looking-model with --looking transformers",
            expected="--video-model and --audio-model",
        )
    from ..captions.qwen_describer import AUDIO_MODEL, VIDEO_MODEL, QwenDescriber

    options = backend_options(args)
    return QwenDescriber(
        args.video_model or VIDEO_MODEL,
        args.audio_model or AUDIO_MODEL,
        **{name: getattr(options, name) for name in LOOKING["transformers"]},
    )
