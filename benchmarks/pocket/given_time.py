"""How clear must a given picture be for its sound? Event F1 over the noise level that it keeps (AV-Link Figure 3).

    sounding-video train pocket_avlink_v2a objective.given_draw=uniform --output DIR
    python benchmarks/pocket/given_time.py DIR --clips 40 --write

The bridges were trained with the picture at every level, so that none is out of what they know.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from clips import load_pocket, pocket_options, pocket_size, wishes
from given import make_given
from intervals import f1, mean_of
from judged import Judged, judge
from sounding_video.training.assembly import exported

FILE = Path(__file__).with_name("given_time.md")
PICTURE = FILE.with_suffix(".png")
TIMES = (0.0, 0.02, 0.04, 0.1, 0.2, 0.4, 0.6, 0.8)
TOLERANCES = {"2_frames": "event F1 ±2", "1_frame": "event F1 ±1"}


def judged(time: float, bridge: Path, args: argparse.Namespace) -> Judged:
    """Clips with the picture at one level; those that are there are kept."""
    folder = args.output / f"{time:g}"
    note = args.output / f"{time:g}.{args.clips}.json"
    if note.is_file():
        return Judged.read(note)
    options = replace(
        pocket_options(steps=args.steps, audio_guidance_scale=args.guidance, audio_modality_scale=1.0),
        video_modality_scale=1.0,
        unconditional="alone",
        given_how="fixed",
        given_time=time,
    )
    wanted = wishes(args.clips, pocket_size(), split="validation")
    make_given("sound", load_pocket(bridge=bridge), wanted, folder, options)
    return judge(folder, wanted, "sound").write(note)


def table(results: dict[float, Judged]) -> str:
    """Markdown, a line a level."""
    lines = [
        "| noise of the picture | " + " | ".join([*TOLERANCES.values(), "Onset ACC"]) + " |",
        "|---:|---:|---:|---:|",
    ]
    for time, run in results.items():
        cells = [*(str(f1(run.events, within)) for within in TOLERANCES), str(mean_of(run.onset))]
        lines.append(f"| {time:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(results: dict[float, Judged]) -> None:
    """The curves with their intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4), layout="constrained")
    axis = figure.subplots()
    for within, title in TOLERANCES.items():
        each = [f1(run.events, within) for run in results.values()]
        apart = [[one.value - one.low for one in each], [one.high - one.value for one in each]]
        axis.errorbar(list(results), [one.value for one in each], yerr=apart, label=title, marker="o", capsize=3)
    axis.set(xlabel="flow time of the given picture (0 clear, 1 noise)", ylabel="event F1 of the sound", ylim=(0, 1))
    axis.legend()
    figure.savefig(PICTURE, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("run", type=Path, metavar="DIR", help="the training run")
    add("--clips", type=int, default=40, help="validation prompts a level")
    add("--steps", type=int, default=25)
    add("--guidance", type=float, default=3.0, help="away from the tower alone")
    add("--output", type=Path, default=Path("output/pocket/given_time"), help="folder of the clips")
    add("--write", action="store_true", help=f"write {FILE.name} and {PICTURE.name}")
    args = parser.parse_args()
    bridge, results = exported(args.run) / "bridge.safetensors", {}
    for time in TIMES:
        results[time] = judged(time, bridge, args)
        print(table(results), flush=True)
    if args.write:
        draw(results)
        command = (
            f"`python benchmarks/pocket/{Path(__file__).name} DIR --clips {args.clips} --steps {args.steps} --write`"
        )
        words = (
            f"`fusion_block` trained by `pocket_avlink_v2a` with `objective.given_draw=uniform`; {args.clips} prompts "
            f"of validation, guidance {args.guidance:g} away from the tower alone; intervals are 95 % over prompts."
        )
        parts = ["# How clear must a given picture be", command, words, f"![curve]({PICTURE.name})", table(results)]
        FILE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
