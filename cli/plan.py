"""``sounding-video doctor --plan``: which ways to run fit the memory, before anything is loaded."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..core.clock import FRAMES, SIDE
from ..core.errors import InputError, PlacementError, require_choice
from ..core.sizes import parse_bytes, size_text
from .bridges import add_bridge_options, bridge_options
from .console import Console
from .given import MODEL
from .models import choose_models
from .options import Checked

if TYPE_CHECKING:
    from ..core.device import Placement
    from ..models.plan.base import ModelOutline
    from ..models.plan.plans import Plan

SHORT = {"encode": "encode", "sample": "sample", "decode video": "picture", "decode audio": "sound"}


def add_plan_options(parser: argparse.ArgumentParser) -> None:
    """Options that only mean something with ``--plan``."""
    add = parser.add_argument_group("plans for a run").add_argument
    add("--plan", action="store_true", help="instead: a table of the ways to run, what each takes, and which fits")
    add("--shapes", metavar="NAME", help="plan for published sizes without weights on disk: wan-1.3b or wan-14b")
    add("--frames", type=Checked(FRAMES.read), default=81, metavar="N", help="pictures of the clip, 4k+1 (default: 81)")
    add("--width", type=Checked(SIDE.read), default=832, metavar="W", help="pixels, a multiple of 16 (default: 832)")
    add("--height", type=Checked(SIDE.read), default=480, metavar="H", help="pixels, a multiple of 16 (default: 480)")
    add(
        "--memory",
        type=Checked(parse_bytes),
        metavar="SIZE",
        help="plan for a graphics card with so much free memory, for example 8GB",
    )
    add("--device", default="auto", metavar="NAME", help="plan for this device (default: auto)")
    add("--dtype", default="auto", metavar="NAME", help="number type, as in generate (default: auto)")
    add("--storage", default="native", metavar="NAME", help="weight storage, as in generate (default: native)")
    add("--wan", type=MODEL, metavar="MODEL", help="which Wan of several, as in generate")
    add("--stable-audio", type=MODEL, metavar="MODEL", help="which Stable Audio, the same way")
    add_bridge_options(add)
    add("--free-text-encoders", action="store_true", help="plan for text encoders that are let go of after use")


def run_plan(args: argparse.Namespace, console: Console) -> None:
    """Estimate and print."""
    report = plan_report(args)
    for note in report["notes"]:
        console.note(f"note: {note}")
    console.report(describe(report), report)


def plan_report(args: argparse.Namespace) -> dict[str, Any]:
    """Every plan with its peak a stage, and the one that would be picked.

    Raises:
        InputError, GeometryError, MissingModelError: what cannot be planned for.
    """
    from ..core.clock import Timeline
    from ..models.plan.needs import Needs, Workload
    from ..models.plan.plans import choose, free_bytes, plans, required_bytes
    from ..models.plan.runs import tilings

    placement = _placement(args)
    outline, notes = _outline(args, placement)
    rate = {"fps": outline.geometry.only_fps} if outline.geometry.only_fps else {}
    timeline = Timeline(args.frames, width=args.width, height=args.height, geometry=outline.geometry, **rate)
    free = args.memory or free_bytes(placement.device)
    work = Workload.of(timeline)
    ways = tilings(timeline.width * timeline.height, "auto")
    candidates = plans(lambda storage: outline.stored(storage, placement.dtype), work, placement, tilings=ways)
    try:
        choice, problem = choose(candidates, free, placement.device).sentence, None
    except PlacementError as error:
        choice, problem = None, str(error)
    return {
        "model": outline.name,
        "clip": {"frames": timeline.num_frames, "width": timeline.width, "height": timeline.height},
        "device": str(placement.device),
        "free_bytes": free,
        "weights_bytes": Needs(outline, work).weights(),
        "plans": [_row(plan, required_bytes(plan.peak_bytes, placement.device), free) for plan in candidates],
        "choice": choice,
        "problem": problem,
        "notes": list(notes),
    }


def _row(plan: Plan, required: int, free: int) -> dict[str, Any]:
    return plan.as_json() | {"required_bytes": required, "fits": required <= free}


def _placement(args: argparse.Namespace) -> Placement:
    """Where the plan is for; with ``--memory`` a graphics card, whether there is one here or not."""
    import torch

    from ..core.device import resolve_placement

    if not args.memory:
        return resolve_placement(device=args.device, dtype=args.dtype, offload="auto", storage=args.storage)
    dtype = "bfloat16" if args.dtype == "auto" else args.dtype
    placement = resolve_placement(device="cpu", dtype=dtype, offload="auto", storage=args.storage)
    return replace(placement, device=torch.device("cuda"))


def _outline(args: argparse.Namespace, placement: Placement) -> tuple[ModelOutline, tuple[str, ...]]:
    """What is planned for, and what was picked on the way, a sentence each."""
    from ..models.loading import outline_found
    from ..models.plan.published import SHAPES, outline_shapes

    described, towers = bridge_options(args), {"video": args.wan, "audio": args.stable_audio}
    if args.shapes:
        require_choice("model shape", args.shapes, SHAPES)
        if args.bridge != "auto" or any(part is not None for part in (args.fusion, args.placement, *towers.values())):
            raise InputError(
                "a model or a bridge is named but the published sizes come with their own",
                got=f"--shapes {args.shapes}",
                expected="--shapes without --wan, --stable-audio, --bridge, --fusion and --placement, or --models",
            )
        outline, notes = outline_shapes(args.shapes, placement), ()
    else:
        found = choose_models(args.models, **towers)
        wishes = {"bridge": args.bridge, "bridge_options": described, "free_text": args.free_text_encoders}
        outline, notes = outline_found(found, placement, **wishes), found.notes
    freed = ("video text", "audio text") if args.free_text_encoders else ()
    return replace(outline, freed=freed), notes


def describe(report: dict[str, Any]) -> str:
    """The report as text: weights, then a line a plan; of tiles the picked ones, and the smallest."""
    from ..models.plan.plans import tiling_text

    clip = report["clip"]
    lines = [
        f"{report['model']}, {clip['frames']} frames of {clip['width']}x{clip['height']}, on {report['device']} "
        f"with {size_text(report['free_bytes'])} free",
        "weights: " + ", ".join(f"{name} {size_text(size)}" for name, size in report["weights_bytes"].items()),
    ]
    stages = [peak["stage"] for peak in report["plans"][0]["stages"]]
    head = [
        "offload",
        "texts",
        "weights",
        "picture",
        *(SHORT[stage] for stage in stages),
        "needs",
        "main memory",
        "fits",
    ]
    rows = [head]
    picked = next((plan for plan in report["plans"] if plan["fits"]), None)
    for plan in report["plans"]:
        if plan["tiling"] not in ("off", "on") and plan is not picked:
            continue  # between the two
        peaks = [size_text(peak["weights_bytes"] + peak["activation_bytes"]) for peak in plan["stages"]]
        rows.append(
            [
                plan["offload"],
                plan["text_offload"],
                plan["storage"],
                tiling_text(plan["tiling"]).removeprefix("in "),
                *peaks,
                size_text(plan["required_bytes"]),
                size_text(plan["host_bytes"]),
                "yes" if plan["fits"] else "no",
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.append(f"picked: {report['choice']}" if report["choice"] else f"problem: {report['problem']}")
    return "\n".join(lines)
