"""``sounding-video queue WORKFLOW.json --server URL``: the same workflow on a ComfyUI server."""

from __future__ import annotations

import argparse
from typing import Any

from .console import Console
from .run import add_workflow_options, parse_overrides, tell_files


def add_parser(commands: argparse._SubParsersAction, **options: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "queue",
        help="run a workflow file on a ComfyUI server",
        description="Queue a workflow on a ComfyUI server, show its progress and download its results.",
        **options,
    )
    add_workflow_options(parser)
    parser.add_argument("--server", required=True, metavar="URL", help="for example http://127.0.0.1:8188")
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="longest wait for the whole run (default: none)"
    )
    return parser


def run(args: argparse.Namespace, console: Console) -> None:
    """Queue, wait, download, list the files."""
    overrides = parse_overrides(args.overrides)

    from ..nodes.host.client import queue_workflow
    from ..nodes.host.graph import apply_overrides, read_workflow

    report = queue_workflow(
        args.server,
        apply_overrides(read_workflow(args.workflow), overrides),
        output_dir=args.output_dir,
        progress=console.progress,
        timeout_seconds=args.timeout,
    )
    console.close_progress()
    tell_files(console, report, {})
