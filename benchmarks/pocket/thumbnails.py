"""Thumbnails of the pocket templates from what they really make: frames above the waveform, a strip for each clip.

    python benchmarks/pocket/thumbnails.py
    python benchmarks/pocket/thumbnails.py --planes DIR

runs every ``workflows/api/*_pocket.json`` as it is and writes the ``.jpg`` beside the template of the same name. With
``--planes`` it is the template of PAV-DiT instead; DIR holds a trained folder ``pav_dit``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from sounding_video.core.types import AVClip
from sounding_video.headless.graph import read_workflow
from sounding_video.headless.runner import run_workflow
from sounding_video.media.probe import read_clip

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
NUM_FRAMES, SIDE, WAVE_HEIGHT, GAP = 8, 150, 90, 6
PAPER, INK = (24, 26, 32), (120, 190, 255)


def strip(clip: AVClip) -> Image.Image:
    """Frames at even distances, and under them the loudest sample of every column, on the same time axis."""
    width = NUM_FRAMES * SIDE
    picture = Image.new("RGB", (width, SIDE + WAVE_HEIGHT), PAPER)
    frames = (clip.video.frames * 255).round().byte().numpy()
    for column in range(NUM_FRAMES):
        # The frame in the middle of its stretch of time.
        frame = frames[int((column + 0.5) * len(frames) / NUM_FRAMES)]
        picture.paste(Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.LANCZOS), (column * SIDE, 0))
    draw, middle = ImageDraw.Draw(picture), SIDE + WAVE_HEIGHT // 2
    columns = np.array_split(clip.audio.waveform.abs().amax(0).numpy(), width)
    for x, samples in enumerate(columns):
        reach = float(samples.max(initial=0.0)) * (WAVE_HEIGHT / 2 - 2)
        draw.line([(x, middle - reach), (x, middle + reach)], fill=INK)
    return picture


def stacked(strips: list[Image.Image]) -> Image.Image:
    """One under the other."""
    width, height = strips[0].size
    picture = Image.new("RGB", (width, len(strips) * (height + GAP) - GAP), (255, 255, 255))
    for row, image in enumerate(strips):
        picture.paste(image, (0, row * (height + GAP)))
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--planes", type=Path, metavar="DIR", help="for the template of PAV-DiT")
    models = parser.parse_args().planes
    for path in sorted((WORKFLOWS / "api").glob("*_pocket.json" if models is None else "*_pav_dit.json")):
        with tempfile.TemporaryDirectory() as folder:
            report = run_workflow(read_workflow(path), models_dir=models, output_dir=folder)
            clips = [read_clip(file) for file in report.files if file.suffix == ".mp4"]
        target = WORKFLOWS / f"{path.stem}.jpg"
        stacked([strip(clip) for clip in clips]).save(target, quality=88)
        print(target.relative_to(WORKFLOWS.parent))


if __name__ == "__main__":
    main()
