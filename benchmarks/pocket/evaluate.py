"""The pocket model on held-out prompts: with its bridges, without them, and against the world's own clips.

    python benchmarks/pocket/evaluate.py --clips 100 --write

Variants: the world's own clips; these through both codecs; the model with bridges; without; with the prompt itself in
place of its expansion; with the world's own captions. ``--only`` picks some. Clips that are there already are kept.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from clips import (
    EXPANDED,
    PROMPT,
    WORLD,
    load_pocket,
    make_clips,
    measure,
    pocket_options,
    pocket_size,
    round_trips,
    table,
    wishes,
)
from clips import write_manifest as write_wishes
from sounding_video.media.mux import write_clip
from sounding_video.pipeline import SamplingOptions

FILE = Path(__file__).with_name("evaluation.md")
TRUTH, CODECS, BRIDGES, NONE, UNEXPANDED, CAPTIONED = (
    "world",
    "codecs",
    "bridges",
    "no_bridge",
    "not_expanded",
    "world_captions",
)
TITLES = {
    TRUTH: "the world's own clips",
    CODECS: "these through both codecs",
    BRIDGES: "dual_cross",
    NONE: "no bridge",
    UNEXPANDED: "dual_cross, prompt not expanded",
    CAPTIONED: "dual_cross, the world's captions",
}


SCALES = ("video_guidance", "audio_guidance", "video_modality", "audio_modality")


def make(variant: str, args: argparse.Namespace, options: SamplingOptions) -> Path:
    """The clips of one variant; give their folder."""
    folder = args.output / variant
    wanted = wishes(args.clips, pocket_size(args.models))
    if variant == TRUTH:
        folder.mkdir(parents=True, exist_ok=True)
        for wish in wanted:
            if not (folder / f"{wish.name}.mp4").is_file():
                write_clip(wish.truth.clip, folder / f"{wish.name}.mp4")
        write_wishes(wanted, folder)
        return folder
    model = load_pocket(args.models, bridge="none" if variant in (NONE, CODECS) else args.bridge)
    if variant == CODECS:
        round_trips(model, wanted, folder)
        return folder
    captions = {UNEXPANDED: PROMPT, CAPTIONED: WORLD}.get(variant, EXPANDED)
    make_clips(model, wanted, folder, options=options, captions=captions)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--models", default="pocket", help="pocket, or a folder that `train.py --assemble` wrote")
    add("--bridge", default="auto", help="bridge file (default: the model's own)")
    add("--clips", type=int, default=100, help="test prompts, scenes in turn (default: 100)")
    add("--steps", type=int, default=50)
    for name in SCALES:
        add(f"--{name.replace('_', '-')}", type=float, help="scale (default: the model's own)")
    add("--only", nargs="+", choices=tuple(TITLES), default=list(TITLES))
    add("--output", type=Path, default=Path("output/pocket/evaluation"), help="folder of the clips")
    add("--write", action="store_true", help=f"write {FILE.name}")
    args = parser.parse_args()
    scales = {f"{name}_scale": getattr(args, name) for name in SCALES if getattr(args, name) is not None}
    options = pocket_options(args.models, steps=args.steps, **scales)
    started, results = time.monotonic(), {}
    for variant in args.only:
        results[TITLES[variant]] = measure(make(variant, args, options))
        print(table(results), flush=True)
    o = options
    text = (
        f"{args.clips} prompts of the test split, {args.steps} steps, guidance {o.video_guidance_scale:g} (video) "
        f"and {o.audio_guidance_scale:g} (audio), modality guidance {o.video_modality_scale:g} and "
        f"{o.audio_modality_scale:g}. Event F1 is pooled over the clips.\n\n{table(results)}\n\n"
        f"{time.monotonic() - started:.0f} s on {os.cpu_count()} CPU cores."
    )
    print(text)
    if args.write:
        command = f"python benchmarks/pocket/{Path(__file__).name} --clips {args.clips} --steps {args.steps}"
        if len(args.only) < len(TITLES):
            command += f" --only {' '.join(args.only)}"
        command += " --write"
        FILE.write_text(f"# The pocket model on held-out prompts\n\n`{command}`\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
