"""What the captions are worth: the pocket model on held-out prompts with each mode of caption writing (paper, Table 4).

    python benchmarks/pocket/caption_modes.py --clips 50 --write

Modes: off (the prompt itself for both towers), shared (one dense caption for both), direct (rewritten without anchors),
full (Semantic Checker and Cross-Modal Rewriter), all by the lexicon; and the world's own captions, which no user has.
Clips that are there already are kept.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from clips import (
    DIRECT,
    EXPANDED,
    PROMPT,
    SHARED,
    WORLD,
    load_pocket,
    make_clips,
    measure,
    pocket_options,
    pocket_size,
    table,
    wishes,
)

FILE = Path(__file__).with_suffix(".md")
TITLES = {
    PROMPT: "off",
    SHARED: "shared caption",
    DIRECT: "direct rewrite",
    EXPANDED: "full CRR",
    WORLD: "the world's own captions",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--models", default="pocket", help="pocket, or a folder that `train.py --assemble` wrote")
    add("--clips", type=int, default=50, help="test prompts, scenes in turn (default: 50)")
    add("--steps", type=int, default=25)
    add("--guidance", type=float, default=3.0, help="of both modalities (default: 3)")
    add("--output", type=Path, default=Path("output/pocket/caption_modes"), help="folder of the clips")
    add("--write", action="store_true", help=f"write {FILE.name}")
    args = parser.parse_args()
    started, results, model = time.monotonic(), {}, load_pocket(args.models)
    scales = {f"{modality}_guidance_scale": args.guidance for modality in ("video", "audio")}
    options = pocket_options(args.models, steps=args.steps, **scales)
    wanted = wishes(args.clips, pocket_size(args.models))
    for mode, title in TITLES.items():
        folder = args.output / f"{mode}-{args.steps}-{args.guidance:g}"
        make_clips(model, wanted, folder, options=options, captions=mode)
        results[title] = measure(folder)
        print(table(results), flush=True)
    if args.write:
        command = f"python benchmarks/pocket/{Path(__file__).name} --clips {args.clips} --steps {args.steps}"
        text = (
            f"# What the captions are worth\n\n`{command} --guidance {args.guidance:g} --write`: {args.clips} prompts "
            f"of the world's test split, whose wordings no training saw; captions by the lexicon, profile `short`.\n\n"
            f"{table(results)}\n\n{time.monotonic() - started:.0f} s on {os.cpu_count()} CPU cores.\n"
        )
        FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
