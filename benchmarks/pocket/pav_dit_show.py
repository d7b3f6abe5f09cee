"""Clips of a small PAV-DiT to look at and to listen to: docs/pav_dit.png and docs/pav_dit.mp4.

    python benchmarks/pocket/pav_dit_show.py output/pav_dit

takes what ``pav_dit.py judge`` made: the first clip of every scene. On the picture each stands beside the world's own
clip of the prompt as its autoencoder gives it back; the film plays the generated ones one after the other.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from pav_dit import MADE, THROUGH
from PIL import Image, ImageDraw
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.media.mux import write_clip
from sounding_video.media.probe import read_clip
from sounding_video.world.scenes import SCENES
from thumbnails import GAP, PAPER, strip

DOCS = Path(__file__).resolve().parents[2] / "docs"
TITLES = {THROUGH: "the world's clip, through the autoencoder", MADE: "generated"}
HEAD, NAMES, SHRINK, ENLARGE = 22, 90, 0.5, 4


def first_clips(folder: Path) -> dict[str, Path]:
    """Of every scene."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.mp4")):
        found.setdefault(path.stem.split("-", 1)[1], path)
    return {scene: found[scene] for scene in SCENES.names() if scene in found}


def sheet(clips: Path) -> Image.Image:
    """A row a scene, a column a variant: frames above the sound."""
    columns = {variant: first_clips(clips / variant) for variant in TITLES}
    strips = {(variant, scene): _small(path) for variant, found in columns.items() for scene, path in found.items()}
    scenes = list(columns[MADE])
    width, height = next(iter(strips.values())).size
    size = NAMES + len(TITLES) * (width + GAP), HEAD + len(scenes) * (height + GAP)
    made = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(made)
    for column, (variant, title) in enumerate(TITLES.items()):
        x = NAMES + column * (width + GAP)
        draw.text((x, 6), title, fill=PAPER)
        for row, scene in enumerate(scenes):
            y = HEAD + row * (height + GAP)
            draw.text((6, y + height // 2 - 6), scene, fill=PAPER)
            made.paste(strips[variant, scene], (x, y))
    return made


def _small(path: Path) -> Image.Image:
    whole = strip(read_clip(path))
    return whole.resize((round(whole.width * SHRINK), round(whole.height * SHRINK)), Image.Resampling.LANCZOS)


def film(clips: Path) -> AVClip:
    """The generated ones, larger, each with as much sound as it has picture."""
    frames, sounds = [], []
    for path in first_clips(clips / MADE).values():
        clip = read_clip(path)
        frames.append(clip.video.frames.repeat_interleave(ENLARGE, 1).repeat_interleave(ENLARGE, 2))
        sounds.append(clip.audio.waveform[:, : clip.num_samples])
    video, audio = VideoClip(torch.cat(frames), clip.video.fps), AudioClip(torch.cat(sounds, 1), clip.audio.sample_rate)
    return AVClip(video, audio)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path, help="folder of pav_dit.py")
    clips = parser.parse_args().output / "clips"
    sheet(clips).save(DOCS / "pav_dit.png", optimize=True)
    write_clip(film(clips), DOCS / "pav_dit.mp4")


if __name__ == "__main__":
    main()
