"""Every way in which the product uses a graphics card, run once: peaks against the plan, seconds against stock Wan.

    make card                                        # a CUDA card; at most eight minutes, nothing is downloaded
    python benchmarks/card.py --device cpu --tiny    # whether the rows run at all, with the bundled small model

Weights are random numbers at the published sizes (Wan 1.3B, Stable Audio Open, four ``dual_cross`` bridges, PAV-DiT);
the clip is 832×480×81, or a smaller one where the planner says that the card is too small for it. Every row runs in
turn with stock forwards of diffusers' ``WanTransformer3DModel`` on the same weights; ``× stock`` is by one of those. A
step has one pass unless a row says otherwise. A row that fails does not stop the others. Without a card it ends with 2,
with 1 where a row failed or took more than was foretold.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from sounding_video.core.device import Placement, resolve_placement
from sounding_video.core.errors import MissingPackageError, PlacementError
from sounding_video.core.sizes import size_text
from sounding_video.models.plan.fit import noted
from sounding_video.models.plan.plans import free_bytes, required_bytes
from sounding_video.pipeline import load_models

sys.path.insert(0, str(Path(__file__).with_name("on_card")))
sys.path.insert(1, str(Path(__file__).parent))
from card_bench import Bench, Clock, Measured, Meter, OutOfTime, TooLarge, timeline_of
from card_models import largest, published
from card_rows import Row, all_rows

FILE = Path(__file__).with_suffix(".md")
SECONDS = 450.0
NO_CARD = "there is no CUDA card that this torch sees: `make card` measures one, and without it there is nothing to say"
PACKAGES = (
    "diffusers",
    "transformers",
    "accelerate",
    "xformers",
    "flash-attn",
    "sageattention",
    "torchao",
    "bitsandbytes",
)
NOTHING = Measured()
OK, RAN, OVER, FAILED, LATE = "ok", "ran, not on a card", "over the plan", "failed", "not run: time"
ABSENT, TOO_LARGE, CARD_ONLY = "not installed", "does not fit", "needs a card"
TITLES = ("what", "way", "state", "peak GB", "foretold GB", "plan / peak", "seconds", "× stock", "")


@dataclass(frozen=True)
class Line:
    """What became of a row.

    Args:
        row: Which.
        state: One of the words above.
        measured: What it took; nothing where it did not run.
        said: A sentence.
    """

    row: Row
    state: str
    measured: Measured = NOTHING
    said: str = ""

    def cells(self) -> list[str]:
        """Of the table."""
        found = self.measured
        sizes = ["–" if not size else f"{size / 1e9:.2f}" for size in (found.peak_bytes, found.foretold_bytes)]
        both = found.peak_bytes and found.foretold_bytes
        apart = f"{found.foretold_bytes / found.peak_bytes:.3f}" if both else "–"
        times = ["–" if value is None else f"{value:.3f}" for value in (found.seconds, found.ratio)]
        said = "; ".join(each for each in (self.said, found.said) if each).replace("|", "/").replace("\n", " ")
        return [self.row.group, self.row.name, self.state, *sizes, apart, *times, said]


def line_of(bench: Bench, row: Row) -> Line:
    """Run a row, whatever comes of it."""
    if row.card_only and bench.device.type != "cuda":
        return Line(row, CARD_ONLY, said=row.card_only)
    if bench.clock.left() < row.seconds + row.passes * bench.stock_seconds:
        return Line(row, LATE)
    try:
        with noted() as notes:
            measured = row.run(bench)
    except OutOfTime:
        return Line(row, LATE, said="it was begun")
    except TooLarge as error:
        return Line(row, TOO_LARGE, said=str(error))
    except MissingPackageError as error:
        return Line(row, ABSENT, said=str(error))
    except Exception as error:  # noqa: BLE001 - a row that fails must not stop the others
        return Line(row, FAILED, said=f"{type(error).__name__}: {str(error).strip()[:300]}")
    if any("ran out of memory" in note for note in notes):
        return Line(row, FAILED, measured, "; ".join(notes))
    return Line(row, _state(measured, bench.device), measured)


def _state(measured: Measured, device: torch.device) -> str:
    if device.type != "cuda":
        return RAN
    foretold = measured.foretold_bytes
    return OVER if foretold and measured.peak_bytes > required_bytes(foretold, device) else OK


def lines_of(bench: Bench, rows: Iterable[Row], tell: Callable[[str], None] = lambda text: None) -> list[Line]:
    """All rows, one after the other."""
    lines = []
    for row in rows:
        lines.append(line_of(bench, row))
        bench.only()
        tell(as_row(lines[-1].cells()))
    return lines


def as_row(cells: Sequence[str]) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def table(lines: Iterable[Line]) -> str:
    """All of them."""
    return "\n".join([as_row(TITLES), "|" + "---|" * len(TITLES), *(as_row(line.cells()) for line in lines)])


def surroundings(device: torch.device) -> str:
    """The machine and the versions."""
    versions = [f"torch {torch.__version__}"]
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    if device.type != "cuda":
        return f"{platform.machine()}, {torch.get_num_threads()} threads, no card; {', '.join(versions)}"
    total = torch.cuda.get_device_properties(device).total_memory
    card = f"{torch.cuda.get_device_name(device)}, {size_text(total)}, driver {driver()}, CUDA {torch.version.cuda}"
    return f"{card}; Python {platform.python_version()}, {', '.join(versions)}"


def driver() -> str:
    """Its version, as the card's own tool says it."""
    try:
        said = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return said.stdout.split("\n")[0].strip() or "unknown"


def bench_of(placement: Placement, clock: Clock, *, tiny: bool) -> tuple[Bench, str]:
    """The models, and what is to be said of them."""
    meter = Meter(placement.device)
    if tiny:
        resting = replace(placement, offload="model")
        model = replace(load_models(placement=resting), placement=placement)
        return Bench(model, timeline_of(model), placement, clock, meter), "the bundled small model"
    timeline, why = largest(placement, free_bytes(placement.device))
    model, planes, told = published(placement)
    return Bench(model, timeline, placement, clock, meter, planes), "; ".join(filter(None, (why, told)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print and write.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--device", default="cuda")
    add("--tiny", action="store_true", help="the bundled small model instead of the published sizes")
    add(
        "--seconds",
        type=float,
        default=SECONDS,
        help=f"for all of it; rows are left out behind it (default: {SECONDS:g})",
    )
    add("--only", nargs="+", metavar="WORD", help="rows of these groups only")
    add("--write", action="store_true", help=f"write {FILE.name}, if it is a card")
    args = parser.parse_args(arguments)
    started, clock = time.perf_counter(), Clock(args.seconds)
    try:
        placement = resolve_placement(device=args.device)
    except PlacementError as error:
        print(f"{NO_CARD} ({str(error).splitlines()[0]})" if args.device.startswith("cuda") else error, file=sys.stderr)
        return 2
    if not args.tiny and placement.device.type != "cuda":
        print("the published sizes need a card; a CPU takes --tiny", file=sys.stderr)
        return 2
    bench, told = bench_of(placement, clock, tiny=args.tiny)
    rows = [row for row in all_rows() if not args.only or row.group in args.only]
    head = f"{surroundings(placement.device)}\n\n{told}"
    print(f"{head}\n\n{as_row(TITLES)}\n|{'---|' * len(TITLES)}", flush=True)
    lines = lines_of(bench, rows, lambda text: print(text, flush=True))
    tail = f"{len(lines)} rows in {time.perf_counter() - started:.0f} s."
    print(f"\n{tail}")
    if args.write and placement.device.type == "cuda":
        parts = ["# On a card", "`make card`", head, __doc__.split("\n\n")[2], table(lines), tail]
        FILE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return int(any(line.state in (FAILED, OVER) for line in lines))


if __name__ == "__main__":
    sys.exit(main())
