"""Bridge files against each other: the same prompts from the same noise, paired differences to the first file.

    python benchmarks/pocket/compare_bridges.py OLD.safetensors NEW.safetensors --clips 100 --split validation

Which file goes into the bundle is decided on the validation split, before the test prompts are looked at. Clips that
are there already are kept: another run with more clips goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from clips import load_pocket, make_clips, pocket_options, pocket_size, wishes
from judged import Judged, judge
from ladder_tables import NO_LOSSES, table_of
from sounding_video.world.dice import SPLITS


def judged(file: Path, args: argparse.Namespace) -> Judged:
    """Make the clips of one file and judge them."""
    wanted = wishes(args.clips, pocket_size(args.models), split=args.split)
    folder = args.output / args.split / file.parent.name / file.stem
    make_clips(
        load_pocket(args.models, bridge=file), wanted, folder, options=pocket_options(args.models, steps=args.steps)
    )
    return judge(folder, wanted, "both")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("bridges", nargs="+", type=Path, help="files; the first is what the others are compared with")
    add("--models", default="pocket")
    add("--clips", type=int, default=100)
    add("--steps", type=int, default=25)
    add("--split", choices=SPLITS, default="validation")
    add("--output", type=Path, default=Path("output/pocket/bridges"), help="folder of the clips")
    args = parser.parse_args()
    rows = {f"{file.parent.name}/{file.stem}": ({0: judged(file, args)}, NO_LOSSES) for file in args.bridges}
    print(table_of(rows, base=next(iter(rows)), seeds=[0]))


if __name__ == "__main__":
    main()
