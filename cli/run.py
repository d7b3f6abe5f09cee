"""``sounding-video run WORKFLOW``: a workflow file, or a result with its workflow in it, without a server."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.disk import is_dir, what_is_there
from ..core.errors import InputError
from .console import Console
from .given import FILE, FOLDER, NEW_FOLDER
from .libraries import UNTRAINED, explain_full_memory, quiet_libraries
from .models import model_folders

if TYPE_CHECKING:
    from ..headless.report import RunReport

INPUT_DIR = "input"
FORMS = (
    "The file is a workflow as ComfyUI's page saves it, its export for the API, or a video or picture that holds the "
    "workflow it was made with."
)


def add_parser(commands: argparse._SubParsersAction, **options: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "run",
        help="run a ComfyUI workflow file without a server",
        description=f"Run a workflow of Sounding Video nodes without ComfyUI. {FORMS}",
        **options,
    )
    add_workflow_options(parser)
    parser.add_argument(
        "--models",
        type=FOLDER,
        metavar="DIR",
        help="folder in which models are looked for (default: $SOUNDING_VIDEO_MODELS, else models)",
    )
    parser.add_argument("--device", default="auto", metavar="NAME", help="auto (default), cpu, cuda, cuda:1, mps")
    parser.add_argument("--no-metadata", action="store_true", help="write no workflow into the result files")
    parser.add_argument(
        "--input-dir",
        default=INPUT_DIR,
        type=FOLDER,
        metavar="DIR",
        help="where the files of Load Video, Load Audio and Load Image lie (default: input)",
    )
    return parser


def add_workflow_options(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """What ``run`` and ``queue`` share."""
    if several:
        parser.add_argument("workflows", nargs="+", type=FILE, metavar="WORKFLOW", help="workflow files, or results")
    else:
        parser.add_argument("workflow", type=FILE, metavar="WORKFLOW", help="workflow file, or a result")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="NODE.INPUT=VALUE",
        help="replace an input; NODE is an id, a class such as T2SVJointSampler, or a title. May be repeated",
    )
    parser.add_argument(
        "--output-dir", default="output", type=NEW_FOLDER, metavar="DIR", help="where results go (default: output)"
    )


def parse_overrides(texts: Sequence[str]) -> dict[str, str]:
    """``NODE.INPUT=VALUE`` texts by their target.

    Raises:
        InputError: no ``=``, or one target twice.
    """
    overrides: dict[str, str] = {}
    for text in texts:
        target, equals, value = text.partition("=")
        if not equals:
            raise InputError("--set needs a value", got=repr(text), expected="NODE.INPUT=VALUE")
        if target in overrides:
            raise InputError("--set names one input twice", got=target, expected="each input once")
        overrides[target] = value
    return overrides


def run(args: argparse.Namespace, console: Console) -> None:
    """Check the workflow, run it, list the files."""
    overrides = parse_overrides(args.overrides)

    from ..headless.from_page import Converted
    from ..headless.graph import apply_overrides
    from ..headless.runner import run_workflow
    from ..headless.workflow_file import read_any, to_prompt

    if not console.verbose:
        quiet_libraries()
    if args.input_dir != INPUT_DIR and not is_dir(Path(args.input_dir)):
        there = what_is_there(Path(args.input_dir))
        raise InputError("the input folder was not found", got=f"{args.input_dir} ({there})", expected="a folder")
    found = read_any(args.workflow)
    converted = to_prompt(found)
    graph = apply_overrides(converted.graph, overrides)
    with explain_full_memory():
        report = run_workflow(
            Converted(graph, converted.gaps),
            output_dir=args.output_dir,
            progress=console.progress,
            models_dir=None if args.models is None else model_folders(args.models)[0],
            device=args.device,
            embed_metadata=not args.no_metadata,
            extra_pnginfo=found.told(changed=bool(overrides)),
            input_dir=args.input_dir,
        )
    console.close_progress()
    trained = not _uses_untrained(graph)
    if not trained:
        console.warn(UNTRAINED)
    tell_files(console, report, {"trained": trained})


def _uses_untrained(graph: Mapping[str, Any]) -> bool:
    """Whether a loader of the workflow names the bundled model while that is untrained."""
    from ..models.weights.find import POCKET, pocket_folder
    from ..models.weights.load import is_trained

    chosen = [value for node in graph.values() for value in node.get("inputs", {}).values()]
    return POCKET in chosen and not is_trained(pocket_folder() / "wan")


def tell_files(console: Console, report: RunReport, more: Mapping[str, Any]) -> None:
    """Each written file on a line of its own, with what is in it."""
    from ..media.probe import probe
    from .probe import describe

    for sentence in report.sentences:
        console.note(f"note: {sentence}")
    lines = []
    for path in report.files:
        try:
            lines.append(f"{path}: {describe(probe(path))}" if _is_media(path) else str(path))
        except InputError as error:  # a server may send anything under the name of a clip
            lines.append(str(path))
            console.warn(f"warning: {error}")
    values = {
        "files": [str(path) for path in report.files],
        "outputs": report.outputs,
        "notes": list(report.sentences),
        "cached": list(report.cached),
        "wall_seconds": round(report.seconds, 3),
        **more,
    }
    console.report("\n".join([*lines, f"done in {report.seconds:.1f} s"]), values)


def _is_media(path: Path) -> bool:
    from ..media.writers.base import CONTAINERS

    return path.suffix in CONTAINERS
