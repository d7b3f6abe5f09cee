"""Options of an alignment (SAVA): a side is told of the other one by tokens, and both are made in turn."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import InputError
from ..core.options import Bounds
from ..tasks.orders import ORDERS
from .console import Console
from .given import AUTO, FILE_OR_AUTO
from .options import Checked

if TYPE_CHECKING:
    from ..core.clock import Timeline
    from ..core.types import AVClip, Captions
    from ..models.families.base import FamilyModel, Found
    from ..tasks.reading import Reading

STRENGTH = Bounds("condition strength", 0, 10, whole=False)


def add_alignment_options(add: Callable[..., Any], *, cascade: bool) -> None:
    """Which alignment, and how strongly it tells.

    Args:
        add: ``add_argument`` of a parser or a group.
        cascade: Whether both sides can be made in turn.
    """
    if cascade:
        add(
            "--cascade",
            choices=tuple(ORDERS),
            metavar="ORDER",
            help="make one side after the other, without bridges: video-first, audio-first, or both-ways, where the "
            "picture is made again after the sound; half the memory",
        )
    where = ", the default for --cascade" if cascade else ""
    add(
        "--alignment",
        type=FILE_OR_AUTO,
        metavar="FILE",
        help=f"alignment file (SAVA) by which a side reads the other; {AUTO}: the one beside the models{where}",
    )
    add(
        "--condition-strength",
        type=Checked(STRENGTH.read),
        default=1.0,
        metavar="X",
        help="how strongly a side is told of the other, 0 to 1 (default: 1)",
    )


def require_cascade(args: argparse.Namespace) -> None:
    """Refuse options that do not go with an alignment; bridges are left out beside one.

    Raises:
        InputError: bridges by name, a clip to begin with, or an alignment that nothing uses.
    """
    cascade = getattr(args, "cascade", None)
    if cascade is None and args.alignment is None:
        return
    if args.bridge not in ("auto", "none"):
        raise InputError(
            "an alignment is read instead of bridges", got=f"both {args.alignment or cascade} and {args.bridge}",
            expected="no --bridge beside --cascade or --alignment",
        )  # fmt: skip
    if hasattr(args, "cascade") and cascade is None:
        raise InputError(
            "nothing reads the alignment", got=args.alignment, expected=f"--cascade with one of {', '.join(ORDERS)}"
        )
    if getattr(args, "first_frame", None) or getattr(args, "go_on", None):
        raise InputError(
            "a clip that begins with something given is made by both sides together",
            got="--cascade beside --first-frame or --continue",
            expected="one of them",
        )
    args.bridge = "none"


def reading_of(args: argparse.Namespace, console: Console, found: Found) -> Reading | None:
    """How a side is told of the other; None where nothing was asked for.

    Raises:
        InputError: several alignments beside the models, of which none was chosen.
        MissingModelError: there is none.
        WeightsError: it cannot be used.
    """
    if getattr(args, "cascade", None) is None and args.alignment is None:
        return None
    from ..models.weights.alignment import load_alignment
    from ..tasks.reading import Reading

    loaded = load_alignment(_beside(found) if args.alignment in (None, AUTO) else args.alignment)
    for sentence in (f"alignment {loaded.source.name}: {loaded.summary()}", *loaded.warnings()):
        console.note(f"note: {sentence}")
    return Reading(loaded, args.condition_strength)


def cascade_clip(
    order: str, timeline: Timeline, model: FamilyModel, captions: Captions, *, with_picture: bool, **run: Any
) -> AVClip:
    """One clip, one side after the other; without its picture where only the sound is wanted.

    Args:
        order: One of :data:`ORDERS`.
        timeline: Its extent.
        model: With both towers.
        captions: What is seen and heard.
        with_picture: Whether the picture is wanted.
        run: What else :class:`~..tasks.base.Run` has.
    """
    from ..core.types import AVClip
    from ..tasks.base import Run
    from ..tasks.cascade import cascade

    clip = cascade(Run(model, captions, **run), timeline, order)
    return clip if with_picture else AVClip(None, clip.audio)


def _beside(found: Found) -> Path:
    """The only alignment beside the models."""
    from ..core.errors import MissingModelError
    from ..models.weights.listing import find_alignments

    roots = getattr(found, "roots", ())
    paths = list(dict.fromkeys(path for root in roots for path in find_alignments(root)))
    if len(paths) > 1:
        names = ", ".join(map(str, paths))
        raise InputError("there are several alignments", got=names, expected="one of them by --alignment")
    if not paths:
        raise MissingModelError(
            "no alignment was found beside the models",
            got=", ".join(map(str, roots[:3])) or "no folder",
            expected="an alignment file (SAVA)",
            remedy="Name one by --alignment, or train one: recipes sava_align, sava_audio and sava_video.",
        )
    return paths[0]
