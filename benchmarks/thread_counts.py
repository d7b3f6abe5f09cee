"""Does a clip depend on the number of CPU threads? The bundled model, one seed, a process for each number.

python benchmarks/thread_counts.py --threads 1 2 3 4 --write
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from sounding_video.core.clock import Timeline
from sounding_video.pipeline import decode_latents, sample_latents

sys.path.insert(0, str(Path(__file__).with_name("pocket")))
from clips import FPS, NUM_FRAMES, conditioning_of, load_pocket, pocket_options, pocket_size, wishes

FILE = Path(__file__).with_suffix(".md")
STAGES = ("video latents", "audio latents", "frames", "waveform")


def make(steps: int, path: Path) -> None:
    """One clip, stage by stage, into a file."""
    model, (wish,) = load_pocket(device="cpu"), wishes(1, pocket_size())
    timeline = Timeline(NUM_FRAMES, FPS, pocket_size(), pocket_size(), model.geometry)
    latents = sample_latents(
        model,
        conditioning_of(model, wish, timeline),
        video_shape=(1, *timeline.video_latent_shape),
        audio_shape=(1, *timeline.audio_latent_shape),
        options=replace(pocket_options(steps=steps), seed=wish.seed),
        times=timeline.times,
    )
    clip = decode_latents(
        latents, video_codec=model.video.codec, audio_codec=model.audio.codec, fps=FPS, placement=model.placement
    )
    values = (latents.video, latents.audio, clip.video.frames, clip.audio.waveform)
    torch.save(dict(zip(STAGES, values, strict=True)), path)


def table(steps: int, threads: list[int]) -> str:
    """Largest differences of every stage to the first number of threads."""
    lines = [f"| threads | {' | '.join(STAGES)} |", "|---:|" + "---:|" * len(STAGES)]
    with tempfile.TemporaryDirectory() as folder:
        for number in threads:
            path = Path(folder) / f"{number}.pt"
            command = [sys.executable, __file__, "--one", str(path), "--steps", str(steps), "--threads", str(number)]
            subprocess.run(command, check=True)
            mine, first = (torch.load(Path(folder) / f"{n}.pt") for n in (number, threads[0]))
            apart = [float((mine[stage] - first[stage]).abs().max()) for stage in STAGES]
            lines.append(f"| {number} | " + " | ".join("equal" if gap == 0 else f"{gap:.1e}" for gap in apart) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--threads", type=int, nargs="+", default=[1, 2, 3, 4])
    add("--steps", type=int, default=6)
    add("--one", type=Path, help=argparse.SUPPRESS)
    add("--write", action="store_true", help=f"write {FILE.name}")
    args = parser.parse_args()
    if args.one:
        torch.set_num_threads(args.threads[0])
        make(args.steps, args.one)
        return
    text = table(args.steps, args.threads)
    print(text)
    if args.write:
        numbers = " ".join(map(str, args.threads))
        command = f"`python benchmarks/{Path(__file__).name} --threads {numbers} --steps {args.steps} --write`"
        where = f"{platform.machine()}, torch {torch.__version__}; float32."
        words = f"Largest difference to the clip made with {args.threads[0]} thread, one process each; {where}"
        FILE.write_text(f"# Clips and the number of CPU threads\n\n{command}\n\n{words}\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
