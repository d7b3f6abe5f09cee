"""A picture of every scene of the world: five frames around an event above the sound, as docs/world.png.

python benchmarks/world_sheet.py [--seed 5] [--output docs/world.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from sounding_video.core.clock import Timeline
from sounding_video.world.scenes import SCENES
from sounding_video.world.synth import WorldClip, make_clip

SIZE, GAP, WAVE, TITLE, COLUMNS = 112, 4, 44, 18, 2
PAPER, INK, SOUND, MARK = (250, 250, 248), (40, 40, 44), (70, 110, 190), (220, 60, 50)
OFFSETS = (-3, -1, 0, 2, 5)


def chosen_frames(made: WorldClip, fps: float) -> list[int]:
    """Frames around the first event, or spread over a continuous clip."""
    count = made.clip.video.frames.shape[0]
    if not made.events:
        return [round(share * (count - 1)) for share in (0.05, 0.28, 0.5, 0.72, 0.95)]
    first = int(np.ceil(made.events[0] * fps - 0.5))
    return [min(max(first + offset, 0), count - 1) for offset in OFFSETS]


def panel(made: WorldClip, fps: float) -> Image.Image:
    """Title, frames, and the whole waveform with its events marked."""
    width = len(OFFSETS) * (SIZE + GAP) - GAP
    image = Image.new("RGB", (width, TITLE + SIZE + GAP + WAVE), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((0, 2), f"{made.scene}: {made.prompt}", INK, ImageFont.load_default(12))
    frames = (made.clip.video.frames.numpy() * 255).round().astype(np.uint8)
    for place, index in enumerate(chosen_frames(made, fps)):
        image.paste(Image.fromarray(frames[index]), (place * (SIZE + GAP), TITLE))
    waveform = made.clip.audio.waveform.numpy()
    edges = np.arange(width) * waveform.shape[1] // width
    loudest = np.maximum.reduceat(np.abs(waveform).max(axis=0), edges)
    middle, scale = TITLE + SIZE + GAP + WAVE / 2, (WAVE / 2 - 1) / max(float(loudest.max()), 1e-6)
    for event in made.events:
        x = event * width / float(made.clip.audio.seconds)
        draw.line([(x, TITLE + SIZE + GAP), (x, image.height)], MARK)
    for x, level in enumerate(loudest * scale):
        draw.line([(x, middle - level), (x, middle + level)], SOUND)
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1] / "docs" / "world.png")
    args = parser.parse_args()
    timeline = Timeline(num_frames=33, fps=15, width=SIZE, height=SIZE)
    panels = [panel(make_clip(scene, args.seed, timeline=timeline), float(timeline.fps)) for scene in SCENES.names()]
    wide, high = panels[0].width + 4 * GAP, panels[0].height + 3 * GAP
    sheet = Image.new("RGB", (COLUMNS * wide, -(-len(panels) // COLUMNS) * high + 2 * GAP), PAPER)
    for index, picture in enumerate(panels):
        sheet.paste(picture, (2 * GAP + index % COLUMNS * wide, 2 * GAP + index // COLUMNS * high))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(args.output, optimize=True)
    print(f"{args.output}: {sheet.width}x{sheet.height}, {args.output.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
