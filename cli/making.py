"""What the commands share that make one side for a file of the user's: options, loading, and the files to make."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError
from .alignment import add_alignment_options, reading_of, require_cascade
from .console import Console
from .expand import MODE, MODES_HELP, add_backend_options
from .generate import (
    add_model_options,
    caption_cache,
    chosen_models,
    expanded,
    loaded,
    negatives_of,
    options_of,
    placement_of,
    told_captions_of,
)
from .given import FILE_OR_TEXT, NEW_FILE_OR_FOLDER, free_text
from .libraries import UNTRAINED, explain_full_memory, leave_out_unused, quiet_libraries
from .loras import add_lora_options, asked_loras
from .options import WINDOWS, add_sampling_options

if TYPE_CHECKING:
    from ..media.mux import MuxReport
    from ..media.user_file import UserFile
    from ..tasks.base import Run

SOUNDS = frozenset({".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus", ".aac"})
VIDEOS = frozenset({".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".ts", ".mpg", ".gif"})
STILLS = frozenset({".png", ".jpg", ".jpeg", ".webp"})
MEDIA = SOUNDS | VIDEOS | STILLS


@dataclass(frozen=True)
class Source:
    """One file of the user's and where its result goes.

    Args:
        source: The file.
        target: The file to write.
    """

    source: Path
    target: Path


def add_making_options(parser: argparse.ArgumentParser, *, suffixes: str, default_suffix: str) -> None:
    """Files, captions, sampling and models; as ``generate`` has them.

    Args:
        parser: Of the command.
        suffixes: What may be written, for the help.
        default_suffix: Of files in a folder.
    """
    add = parser.add_argument
    add(
        "inputs",
        nargs="+",
        type=FILE_OR_TEXT,
        metavar="FILE [FILE …] [TEXT]",
        help="files or folders; last, what is seen and heard",
    )
    add("-o", "--output", required=True, type=NEW_FILE_OR_FOLDER, metavar="PATH", help=f"file to write ({suffixes}), "
        f"or a folder for several, each named as it is, {default_suffix}; what is there already is kept")  # fmt: skip
    add("--overwrite", action="store_true", help="make again what is there already")
    add("--video-caption", type=free_text, metavar="TEXT", help="what is seen (default: from the text)")
    add("--audio-caption", type=free_text, metavar="TEXT", help="what is heard (default: from the text)")
    add(
        "--negative-video",
        type=free_text,
        metavar="TEXT",
        help="what the picture should not be (default: the model's own)",
    )
    add(
        "--negative-audio",
        type=free_text,
        metavar="TEXT",
        help="what the sound should not be (default: the model's own)",
    )
    add_sampling_options(parser.add_argument_group("sampling").add_argument, left_out=WINDOWS)
    add_model_options(parser)
    add_lora_options(parser)
    add_alignment_options(add, cascade=False)
    add("--mode", type=MODE, metavar="NAME", help=f"how the text becomes captions: {MODES_HELP}")
    add("--no-expand", action="store_true", help="both models read the text as it is, as with --mode off")
    add_backend_options(parser, model_option="--caption-model")


def inputs_and_text(inputs: Sequence[str]) -> tuple[list[Path], str]:
    """The files, and the text that may stand last: what is no file and has no ending of one.

    Raises:
        InputError: no file, or one that is not there.
    """
    paths, text = [Path(one) for one in inputs], ""
    if not os.path.lexists(paths[-1]) and paths[-1].suffix.lower() not in MEDIA:
        text = inputs[-1]
        paths.pop()
    if not paths:
        raise InputError("no file is named", got=repr(text), expected="a file or a folder before the text")
    for path in paths:
        if not os.path.lexists(path):
            raise InputError("the file was not found", got=path, expected="a file or a folder that is there")
    return paths, text


def sources_of(paths: Sequence[Path], output: Path, suffix: str, wanted: frozenset[str]) -> list[Source]:
    """Each file with its result: one file into one, several or a folder into a folder.

    Args:
        paths: Files and folders.
        output: A file where one file is named, else a folder.
        suffix: Of results in a folder.
        wanted: Endings of the files that are taken out of folders.

    Raises:
        InputError: nothing to do, one name for several results, a result that would replace its source.
    """
    files: list[Path] = []
    for path in paths:
        inside = sorted(each for each in path.iterdir() if each.suffix.lower() in wanted) if path.is_dir() else [path]
        files += inside
    if not files:
        raise InputError("there is no media file in the folder", got=", ".join(map(str, paths)))
    single = len(files) == 1 and not paths[0].is_dir() and not output.is_dir() and output.suffix
    found = [Source(file, output if single else output / f"{file.stem}{suffix}") for file in files]
    targets = [each.target for each in found]
    twice = sorted({str(target) for target in targets if targets.count(target) > 1})
    if twice:
        raise InputError("two files would get one name", got=", ".join(twice), expected="files of different names")
    for each in found:
        if each.target.exists() and each.target.samefile(each.source):
            raise InputError("the result would replace its source", got=each.target, expected="another name or folder")
    return found


def make_all(
    args: argparse.Namespace,
    console: Console,
    sources: Sequence[Source],
    text: str,
    make: Callable[[Run, UserFile, Path], tuple[MuxReport, list[str]]],
    made: str,
) -> int:
    """Load once and make every result; what fails is told, and the rest is made all the same.

    Args:
        args: The command line.
        console: Where progress and results go.
        sources: From :func:`sources_of`.
        text: What is seen and heard; may be empty.
        make: Makes and writes one.
        made: What the bridge is for: ``v2a`` or ``a2v``.

    Returns:
        0, or the exit code of the first failure.
    """
    from ..core.errors import Cancelled, SoundingVideoError
    from ..media.user_file import open_user_file
    from ..models.plan.fit import noted

    started = time.monotonic()
    todo = [each for each in sources if args.overwrite or not each.target.exists()]
    kept = [str(each.target) for each in sources if each not in todo]
    for path in kept:
        console.note(f"note: {path} is there already and is kept")
    done, failed, code = [], [], 0
    run = _loaded(args, console, text, made) if todo else None
    heard = made != "v2a"  # the sound that a picture has is not listened to there
    with explain_full_memory():
        for number, each in enumerate(todo):
            begun = time.monotonic()
            try:
                with noted() as told:
                    report, notes = make(
                        _numbered(run, console, number, len(todo)),
                        open_user_file(each.source, sound=heard),
                        each.target,
                    )
            except Cancelled:
                raise
            except SoundingVideoError as error:
                if len(sources) == 1:
                    raise
                console.close_progress()
                console.warn(f"{each.source}: {error}")
                failed.append({"source": str(each.source), "error": str(error)})
                code = code or error.exit_code
                continue
            values = _told(console, run, each, report, notes, seconds=time.monotonic() - begun)
            done.append({**values, "told": list(dict.fromkeys(told))})
    if run is not None and not run.model.trained:
        console.warn(UNTRAINED)
    whole = {"clips": done, "kept": kept, "failed": failed, "wall_seconds": round(time.monotonic() - started, 3)}
    console.report(f"{len(done)} made, {len(kept)} kept, {len(failed)} failed", whole)
    return code


def _told(
    console: Console, run: Run, each: Source, report: MuxReport, notes: list[str], *, seconds: float
) -> dict[str, Any]:
    """Say what was made of one file; gives what ``--json`` has of it."""
    console.close_progress()
    for note in (*notes, *report.notes):
        console.note(f"note: {note}")
    values = {**report.as_json(), "source": str(each.source), "fitted": notes, "seed": run.options.seed}
    values["wall_seconds"] = round(seconds, 3)
    if not console.as_json:
        console.report(f"{report.path}: {float(report.seconds):.3f} s; made in {seconds:.1f} s", values)
    return values


def _numbered(run: Run, console: Console, number: int, total: int) -> Run:
    """The run with its number in front of each stage, where there are several."""
    from ..core.progress import STAGE_TITLES

    progress = console.progress
    if total == 1:
        return run

    def report(stage: str, done: int, units: int, preview: Callable[[], Any] | None = None) -> None:
        progress.report(f"file {number + 1} of {total}, {STAGE_TITLES.get(stage, stage)}", done, units, preview)

    return replace(run, progress=replace(progress, report=report))


def _loaded(args: argparse.Namespace, console: Console, text: str, made: str) -> Run:
    """Models, captions and options, everything refused first that can be."""
    leave_out_unused(args)

    from ..tasks.base import Run

    if not console.verbose:
        quiet_libraries()
    require_cascade(args)
    found = chosen_models(args, console, made)
    own, options = found.own, options_of(args, found, made)
    extent = {"num_frames": own.num_frames, "fps": own.fps, "width": own.width, "height": own.height}
    placement = placement_of(args, found, extent)
    loras = asked_loras(args)
    captions = _captions(args, console, text, own)
    negatives = negatives_of(args, own)
    if captions.video and captions.audio:
        told_captions_of(console, captions, negatives, own)
    reading = reading_of(args, console, found)
    model = loaded(args, console, found, placement, loras)
    return Run(model, captions, negatives, options, args.tiling, console.progress, caption_cache(args), reading)


def _captions(args: argparse.Namespace, console: Console, text: str, own: Any) -> Any:
    """Both captions: from the text as ``generate`` makes them, or empty without one."""
    from ..core.types import Captions

    args.prompt = text.strip()
    written = Captions(args.video_caption or args.prompt, args.audio_caption or args.prompt)
    if not args.prompt:
        if not (written.video or written.audio):
            console.note("note: without a text, what is made follows the given side alone")
        return written
    return expanded(args, console, written, own)
