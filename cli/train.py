"""``sounding-video train RECIPE [key=value …]``: train codecs, towers or bridges; resumable at any moment."""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from ..core.errors import Cancelled, InputError
from ..core.progress import Progress
from .console import STOPPING, Console, stopped_by
from .given import NEW_FOLDER
from .libraries import quiet_libraries


def add_parser(commands: argparse._SubParsersAction, **options: Any) -> argparse.ArgumentParser:
    """Describe the command."""
    parser = commands.add_parser(
        "train",
        help="train bridges, towers or codecs by a recipe",
        description="Run a training recipe. Ctrl-C ends the running step, writes a checkpoint and stops. For several "
        "cards: accelerate launch --config_file training/launch/multi_gpu.yaml -m sounding_video train RECIPE …",
        **options,
    )
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="see --list")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help="change the recipe, for example optimizer.lr=1e-4, task=video or trainable=bridges,video_lora:16",
    )
    add = parser.add_argument_group("run").add_argument
    add("--output", type=NEW_FOLDER, metavar="DIR", help="the run's folder (default: output/train/RECIPE)")
    add("--resume", action="store_true", help="go on from the last checkpoint in the folder")
    add("--list", action="store_true", help="name the recipes and the tasks, and stop")
    add("--print-config", action="store_true", help="print the configuration as JSON and stop")
    return parser


def run(args: argparse.Namespace, console: Console) -> None:
    """List, print or train."""
    from ..training.recipes import RECIPES, recipe
    from ..training.tasks import TRAINING_TASKS

    if args.list:
        titles = {name: (RECIPES.get(name).__doc__ or "").splitlines()[0] for name in RECIPES}
        width, tasks = max(map(len, titles)), TRAINING_TASKS.names()
        lines = [f"{name:{width}s} {title}" for name, title in titles.items()]
        console.report("\n".join([*lines, "", f"tasks: {', '.join(tasks)}"]), {"recipes": titles, "tasks": tasks})
        return
    if args.recipe is None:
        raise InputError("no recipe was given", expected="one of " + ", ".join(RECIPES.names()))
    config = recipe(args.recipe, args.overrides)
    if args.print_config:
        values = config.as_dict()
        console.report(json.dumps(values, indent=2), values)
        return

    from ..training.trainer import train

    if not console.verbose:
        quiet_libraries()
    output = Path(args.output or Path("output", "train", args.recipe))
    # Under accelerate every process runs this; one of them speaks.
    speaks = os.environ.get("RANK", "0") == "0"
    with finish_the_step() as check_cancelled:
        heard = replace(console.progress, check_cancelled=check_cancelled)
        progress = heard if speaks else Progress(check_cancelled=check_cancelled)
        report = train(config, output, resume=args.resume, progress=progress)
    console.close_progress()
    if not speaks:
        return
    losses = ", ".join(f"{name} {value:.4f}" for name, value in report.losses.items())
    values = {
        "recipe": config.recipe,
        "hash": config.hash,
        "output": str(report.output),
        "checkpoint": str(report.checkpoint),
        "steps": report.num_steps,
        "losses": report.losses,
        "seconds_per_step": round(report.seconds_per_step, 4),
        "trainable_parameters": report.num_trainable,
    }
    console.report(
        f"{config.recipe}: {report.num_steps} steps, {report.seconds_per_step:.3f} s a step, {losses}; "
        f"checkpoint {report.checkpoint}",
        values,
    )


@contextmanager
def finish_the_step() -> Iterator[Callable[[], None]]:
    """Ctrl-C and SIGTERM wait for the running step, so that a checkpoint can be written; a second Ctrl-C does not."""
    pressed: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if pressed and number == signal.SIGINT:
            raise KeyboardInterrupt
        pressed.append(number)

    def check() -> None:
        if pressed:
            raise stopped_by(pressed[0])

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    listening = [number for number in STOPPING if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in listening}
    try:
        yield check
    except Cancelled as error:
        if pressed:
            error.exit_code = stopped_by(pressed[0]).exit_code
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
