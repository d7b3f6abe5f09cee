"""``sounding-video queue WORKFLOW… --server URL``: the same workflows on ComfyUI servers, one or many at once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.options import TIMEOUT
from .console import Console
from .given import FILE
from .options import Checked
from .run import FORMS, add_workflow_options, parse_overrides, tell_files

if TYPE_CHECKING:
    from ..headless.batch import Job, JobResult


def add_parser(commands: argparse._SubParsersAction, **options: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "queue",
        help="run workflow files on ComfyUI servers",
        description="Queue workflows on a ComfyUI server, show their progress and download their results. Several "
        f"files or a table of prompts make a batch, which several servers share. {FORMS}",
        **options,
    )
    add_workflow_options(parser, several=True)
    parser.add_argument(
        "--server",
        required=True,
        action="append",
        dest="servers",
        metavar="URL",
        help="for example http://127.0.0.1:8188; repeated, the servers share the batch",
    )
    parser.add_argument(
        "--csv",
        type=FILE,
        metavar="FILE",
        help="run each workflow once a row; columns: prompt, name, any input, or NODE.INPUT",
    )
    parser.add_argument(
        "--timeout", type=Checked(TIMEOUT.read), metavar="SECONDS", help="longest wait for a run (default: none)"
    )
    return parser


def run(args: argparse.Namespace, console: Console) -> int | None:
    """Queue, wait, download, list the files."""
    jobs = _jobs(args)
    if len(jobs) == 1 and len(args.servers) == 1 and args.csv is None:
        return _run_one(args, console, jobs[0])
    return _run_batch(args, console, jobs)


def _run_one(args: argparse.Namespace, console: Console, job: Job) -> None:
    from ..headless.client import queue_workflow

    report = queue_workflow(
        args.servers[0],
        job.graph,
        extra_data=job.extra_data,
        output_dir=args.output_dir,
        progress=console.progress,
        timeout_seconds=args.timeout,
    )
    console.close_progress()
    tell_files(console, report, {})


def _run_batch(args: argparse.Namespace, console: Console, jobs: list[Job]) -> int:
    """All jobs, a table of what became of them, and exit code 1 when one has failed."""
    from ..headless.batch import run_batch

    results = run_batch(
        jobs,
        args.servers,
        output_dir=args.output_dir,
        progress=console.progress,
        timeout_seconds=args.timeout,
        on_result=lambda result: console.note(_line(result)),
    )
    console.close_progress()
    failed = sum(result.error is not None for result in results)
    text = "\n".join([*_table(results), f"{len(results) - failed} of {len(results)} runs done, {failed} failed"])
    console.report(text, {"jobs": [_as_json(result) for result in results], "failed": failed})
    return 1 if failed else 0


def _jobs(args: argparse.Namespace) -> list[Job]:
    """Every workflow, once or once a row, with the overrides; all checked before anything is queued."""
    from ..headless.batch import Job
    from ..headless.descriptions import ServerDescriptions
    from ..headless.graph import apply_overrides
    from ..headless.table import NAME, checked_rows, read_table
    from ..headless.workflow_file import read_any, to_prompt

    overrides = parse_overrides(args.overrides)
    rows = None if args.csv is None else read_table(args.csv)
    servers = ServerDescriptions(args.servers)
    jobs = []
    for path in args.workflows:
        found, stem = read_any(path), Path(path).stem
        graph = apply_overrides(to_prompt(found, servers, servers.refuse).graph, overrides)
        told = found.told(changed=bool(overrides or rows))
        extra = {**found.extra_data, "extra_pnginfo": told} if told or found.extra_data else {}
        if rows is None:
            jobs.append(Job(stem, graph, extra))
            continue
        for number, (row, changed) in enumerate(zip(rows, checked_rows(graph, rows), strict=True), start=1):
            jobs.append(Job(row.get(NAME, "").strip() or f"{stem} row {number}", changed, extra))
    return jobs


def _line(result: JobResult) -> str:
    """One result as it comes in."""
    where = f"{result.job.name} on {result.server}, {result.seconds:.1f} s"
    return f"{where}: {_outcome(result)}"


def _outcome(result: JobResult) -> str:
    if result.report is None:
        return f"error: {result.error}"
    return ", ".join(str(path) for path in result.report.files) or "no files"


def _table(results: list[JobResult]) -> list[str]:
    """One line a run under a head, columns aligned."""
    lines = [("run", "server", "seconds", "result")]
    lines += [(r.job.name, r.server or "-", f"{r.seconds:.1f}", _outcome(r)) for r in results]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(line[:3], widths, strict=True)), line[3]])
        for line in lines
    ]


def _as_json(result: JobResult) -> dict[str, Any]:
    report, error = result.report, result.error
    return {
        "name": result.job.name,
        "server": result.server,
        "wall_seconds": round(result.seconds, 3),
        "files": [str(path) for path in report.files] if report else [],
        "outputs": report.outputs if report else {},
        "cached": list(report.cached) if report else [],
        "error": None if error is None else {"type": type(error).__name__, "message": str(error)},
    }
