"""Clips to train on: made by the world from seeds, or read from the files of a manifest; and cut to one size.

A manifest is one JSON object a line with ``file`` (relative to the manifest), ``video_caption`` and ``audio_caption``;
other keys are left aside.
"""

from __future__ import annotations

import ast
import hashlib
import json
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.clock import LatentGeometry, Timeline, samples_for
from ..core.errors import InputError
from ..core.types import AudioClip, AVClip, Captions, VideoClip
from ..media.audio import resample, to_stereo
from ..media.probe import read_clip
from .config import DataConfig
from .randomness import derived_generator

WORLD_SEEDS_A_RUN = 1_000_000


@dataclass(frozen=True)
class Source:
    """One clip before it is loaded.

    Args:
        name: Shown in messages: scene and seed, or the file's name.
        digest: Hash of everything that decides its content.
    """

    name: str
    digest: str

    def load(self) -> tuple[AVClip, Captions]:
        """The clip and what it shows and sounds like."""
        raise NotImplementedError


@dataclass(frozen=True)
class WorldSource(Source):
    """A clip that the world makes.

    Args:
        scene: Kind of scene.
        seed: Of the clip.
        split: ``train``, ``validation`` or ``test``.
        timeline: Length and size.
        expanded: Whether its captions are written from the concise prompt.
        looks: How many looks the scene may have; 0 for no limit.
    """

    scene: str = ""
    seed: int = 0
    split: str = "train"
    timeline: Timeline = field(default_factory=Timeline)
    expanded: bool = False
    looks: int = 0

    def load(self) -> tuple[AVClip, Captions]:
        """Draw and synthesise it."""
        from ..world.synth import make_clip

        made = make_clip(self.scene, self.seed, timeline=self.timeline, split=self.split, looks=self.looks)
        return made.clip, _expand(made.prompt) if self.expanded else made.captions


def _expand(prompt: str) -> Captions:
    """The captions that a user of the bundled model gets without a language model."""
    from ..captions.backends.lexicon import LexiconBackend
    from ..captions.crr import expand

    return expand(prompt, backend=LexiconBackend(), profile="short").captions


@dataclass(frozen=True)
class FileSource(Source):
    """A clip on disk.

    Args:
        path: Media file.
        captions: From the manifest.
    """

    path: Path = Path()
    captions: Captions = field(default_factory=lambda: Captions("", ""))

    def load(self) -> tuple[AVClip, Captions]:
        """Decode it."""
        return read_clip(self.path), self.captions


def find_sources(config: DataConfig) -> list[Source]:
    """Every clip of a run, in a fixed order.

    Raises:
        InputError: a manifest that cannot be used, unknown scenes, or no clips.
    """
    if config.source == "world":
        return _world_sources(config)
    path = Path(config.source).expanduser()
    path = path / "manifest.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise InputError("there is no such manifest", got=path, expected="a manifest.jsonl or its folder")
    rows = [_manifest_row(path, number, line) for number, line in enumerate(_lines(path), start=1)]
    sources = rows[: config.num_clips] if config.num_clips else rows
    if not sources:
        raise InputError("the manifest has no clips", got=path, expected="one JSON object a line")
    return list(sources)


def clip_timeline(config: DataConfig) -> Timeline:
    """The extent of a clip before it is cut (world) or after it (``clip_frames`` 0)."""
    return Timeline(config.clip_frames or config.num_frames, Fraction(config.fps), config.width, config.height)


def cut_timeline(config: DataConfig, geometry: LatentGeometry) -> Timeline:
    """The extent of what is trained on, in the codecs' geometry."""
    return Timeline(config.num_frames, Fraction(config.fps), config.width, config.height, geometry)


def _world_sources(config: DataConfig) -> list[Source]:
    from ..world.scenes import SCENES

    scenes = list(config.scenes) or SCENES.names()
    for scene in scenes:
        SCENES.get(scene)
    if not config.num_clips:
        raise InputError("the world needs to know how many clips to make", got=0, expected="data.num_clips=2000")
    timeline = clip_timeline(config)
    sources: list[Source] = []
    for index in range(config.num_clips):
        scene = scenes[index % len(scenes)]
        seed = config.seed * WORLD_SEEDS_A_RUN + index // len(scenes)
        names = (_world_digest(), scene, seed, config.split, timeline.num_frames, timeline.fps, timeline.width)
        expanded = float(torch.rand(1, generator=derived_generator("expanded", scene, seed))) < config.expanded_share
        named = (*names, timeline.height, *(["expanded"] if expanded else []))
        if config.looks:
            named = (*named, "looks", config.looks)
        digest = hashlib.sha256(repr(named).encode()).hexdigest()
        sources.append(
            WorldSource(f"{scene}-{seed}", digest, scene, seed, config.split, timeline, expanded, config.looks)
        )
    return sources


@lru_cache(maxsize=1)
def _world_digest() -> str:
    """Hash of the world's own code, comments and docstrings aside: another world makes other clips."""
    root = Path(__file__).resolve().parents[1] / "world"
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        digest.update(f"{file.relative_to(root).as_posix()} {ast.dump(tree)}".encode())
    return digest.hexdigest()


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _manifest_row(path: Path, number: int, line: str) -> FileSource:
    try:
        row = json.loads(line)
        file, captions = path.parent / row["file"], Captions(row["video_caption"], row["audio_caption"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise InputError(
            "a line of the manifest cannot be used",
            got=f"{path}:{number} ({type(error).__name__}: {error})",
            expected="an object with file, video_caption and audio_caption",
        ) from error
    if not file.is_file():
        raise InputError("a file of the manifest is missing", got=f"{file} ({path}:{number})", expected="a media file")
    digest = hashlib.sha256(file.read_bytes() + json.dumps([captions.video, captions.audio]).encode()).hexdigest()
    return FileSource(file.name, digest, file, captions)


def cut(clip: AVClip, config: DataConfig, timeline: Timeline, *, name: str, crop: int) -> AVClip:
    """A window of a clip at the run's rate, size and length, both modalities from the same moment.

    Args:
        clip: Any rate, size and length.
        config: Where the window lies and how short clips are filled.
        timeline: Wanted extent.
        name: Of the clip; with the crop's number it decides the random place.
        crop: Which of the clip's windows.

    Returns:
        Frames ``(F, H, W, 3)`` and a stereo waveform of exactly the timeline's length, where the clip has them.
    """
    seconds = clip.video.seconds if clip.video is not None else clip.audio.seconds
    num_frames = max(1, int(seconds * timeline.fps))
    start = _start(num_frames - timeline.num_frames, config, name, crop)
    video = audio = None
    if clip.video is not None:
        video = VideoClip(_cut_frames(clip.video, start, config.short, timeline), timeline.fps)
    if clip.audio is not None:
        rate = timeline.geometry.sample_rate
        sound = to_stereo(resample(clip.audio, rate)).waveform
        first = samples_for(start / timeline.fps, rate)
        window = sound[:, first : first + timeline.num_samples]
        if config.mono:
            window = window[:1].expand(2, -1)
        audio = AudioClip(_fill_sound(window, timeline.num_samples, config.short), rate)
    return AVClip(video, audio)


def _start(slack: int, config: DataConfig, name: str, crop: int) -> int:
    """First frame of the window."""
    if slack <= 0 or config.crop == "head":
        return 0
    generator = derived_generator(config.seed, "crop", name, crop)
    return int(torch.randint(slack + 1, (1,), generator=generator))


def _cut_frames(video: VideoClip, start: int, short: str, timeline: Timeline) -> Tensor:
    total = video.frames.shape[0]
    num_frames = max(1, int(video.seconds * timeline.fps))
    wanted = [
        index % num_frames if short == "loop" else min(index, num_frames - 1)
        for index in range(start, start + timeline.num_frames)
    ]
    frames = video.frames[[min(total - 1, int(index * video.fps / timeline.fps)) for index in wanted]]
    return _fit_size(frames, timeline.width, timeline.height)


def _fit_size(frames: Tensor, width: int, height: int) -> Tensor:
    """Scale until the picture covers the wanted size, then cut its middle; the aspect ratio is kept."""
    rows, columns = frames.shape[1:3]
    if (columns, rows) == (width, height):
        return frames
    scale = max(width / columns, height / rows)
    size = (max(height, round(rows * scale)), max(width, round(columns * scale)))
    scaled = F.interpolate(frames.permute(0, 3, 1, 2), size, mode="bilinear", antialias=True)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return scaled[:, :, top : top + height, left : left + width].permute(0, 2, 3, 1).clamp(0, 1)


def _fill_sound(window: Tensor, num_samples: int, short: str) -> Tensor:
    missing = num_samples - window.shape[1]
    if missing <= 0:
        return window.contiguous()
    if short == "pad" or not window.shape[1]:
        return F.pad(window, (0, missing))
    return window.repeat(1, -(-num_samples // window.shape[1]))[:, :num_samples]
