"""Solvers and grids at few steps on the pocket: quality against seconds, paired with 50 steps as published.

    python benchmarks/few_steps.py ~/few_steps --clips 100 --write

Every row makes the same test prompts of the world from the same noise, by another solver, at few steps, and *auto*, as
published, at 25 and 50 too. *faster* is the median over a few prompts, for which all rows took turns, of CPU
seconds of sampling. Values carry intervals over prompts; differences are paired with *auto* at the most steps.

All state lies in the folder that is given: clips, ``runs.jsonl`` with one line a clip, turns, and what was judged. A
stopped run goes on with the same command, more clips, steps or rows may be asked for later, and ``--report`` only
writes what is there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import median

from step_cache import Row, cached, fill, judged, scene_cells, turns_of

sys.path.insert(0, str(Path(__file__).with_name("pocket")))
from clips import Wish, pocket_size, wishes
from intervals import TOLERANCES, f1, f1_difference

FILE = Path(__file__).with_suffix(".md")
STEPS, USUAL_STEPS = (8, 12, 16), (25, 50)
ROWS = (
    Row("auto"),
    Row("unipc", {"solver": "unipc"}),
    Row("dpmpp_2m", {"solver": "dpmpp_2m"}),
    Row("res_multistep", {"solver": "res_multistep"}),
    Row("euler", {"solver": "euler"}),
    Row("auto, sound dpmpp_2m", {"audio_solver": "dpmpp_2m"}),
    Row("auto, bend 1.5", {"step_bend": 1.5}),
    Row("auto, bend 2", {"step_bend": 2.0}),
    Row("unipc, bend 1.5", {"solver": "unipc", "step_bend": 1.5}),
    Row("unipc, bend 2", {"solver": "unipc", "step_bend": 2.0}),
    Row("flow, euler", {"schedule": "flow", "solver": "euler"}),
    Row("flow, unipc", {"schedule": "flow", "solver": "unipc"}),
    Row("auto, gentle", cached("gentle")),
    Row("auto, guidance every 2nd", {"guidance_every": 2}),
)
TITLES = (
    "steps", "row", "faster", "event F1 ±2", "less the reference", "event F1 ±1", "less the reference",
    "scene, picture", "scene, sound",
)  # fmt: skip


def cases_of(rows: Sequence[Row], args: argparse.Namespace) -> list[tuple[Row, int]]:
    """Rows and steps, the usual ones first, since all are compared with them."""
    usual = [(ROWS[0], steps) for steps in sorted(args.usual_steps, reverse=True)]
    return usual + [(row, steps) for steps, row in product(args.steps, rows) if (row, steps) not in usual]


def way_of(row: Row, steps: int) -> str:
    """Its name among the turns."""
    return f"{row.title}, {steps} steps"


def line_of(
    row: Row, steps: int, wanted: Sequence[Wish], turns: Sequence[Mapping[str, float]], args: argparse.Namespace
) -> tuple[float, str] | None:
    """Event F1 and a row of the table; None where it, or the reference, is not done."""
    most = max(args.usual_steps)
    found, base = (judged(one, each, wanted, args) for one, each in ((row, steps), (ROWS[0], most)))
    if found is None or base is None:
        return None
    is_base = (row.title, steps) == (ROWS[0].title, most)
    base_way, way = way_of(ROWS[0], most), way_of(row, steps)
    faster = [turn[base_way] / turn[way] for turn in turns if {base_way, way} <= set(turn)]
    cells = [str(steps), row.title, f"{median(faster):.2f} ×" if faster else "–"]
    for within in TOLERANCES:
        difference = None if is_base else f1_difference(found.events, base.events, within)
        cells += [str(f1(found.events, within)), "–" if difference is None else difference.difference()]
    cells += scene_cells(found, None if is_base else base)
    return f1(found.events, next(iter(TOLERANCES))).value, f"| {' | '.join(cells)} |"


def table(rows: Sequence[Row], wanted: Sequence[Wish], args: argparse.Namespace) -> str:
    """All rows that are done: by steps, and of as many steps the best first."""
    lines = [f"| {' | '.join(TITLES)} |", "|---:|---|" + "---:|" * (len(TITLES) - 2)]
    ways = {way_of(row, each): row.options(each) for row, each in cases_of(rows, args)}
    turns = turns_of(args.output / "turns.jsonl", ways, args)
    for steps in sorted({*args.steps, *args.usual_steps}):
        there = [row for row, each in cases_of(rows, args) if each == steps]
        made = [line for row in there if (line := line_of(row, steps, wanted, turns, args)) is not None]
        lines += [line for _, line in sorted(made, reverse=True)]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("output", type=Path, help="folder of all state")
    add("--clips", type=int, default=100, help="test prompts, scenes in turn (default: 100)")
    add("--steps", type=int, nargs="+", default=list(STEPS), help="of all rows (default: 8 12 16)")
    add("--usual-steps", type=int, nargs="+", default=list(USUAL_STEPS), help="of auto alone (default: 25 50)")
    add("--rows", nargs="+", choices=[row.title for row in ROWS], help="only these, and the reference")
    add("--turns", type=int, default=2, help="prompts for which all rows take turns against the clock (default: 2)")
    add("--device", default="auto")
    add("--report", action="store_true", help="make nothing, write what is there")
    add("--write", action="store_true", help=f"write {FILE.name}")
    args = parser.parse_args()
    wanted = wishes(args.clips, pocket_size())
    rows = [row for row in ROWS if not args.rows or row.title in (ROWS[0].title, *args.rows)]
    for row, steps in () if args.report else cases_of(rows, args):
        fill(row, steps, wanted, args)
    text = table(rows, wanted, args)
    print(text, flush=True)
    if args.write:
        listed, usual = (" ".join(map(str, each)) for each in (args.steps, args.usual_steps))
        command = f"`python benchmarks/few_steps.py OUTPUT --clips {args.clips} --steps {listed} --usual-steps {usual}"
        command += " --write`"
        parts = ["# Few steps on the pocket", command, __doc__.split("\n\n")[2], text]
        FILE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
