"""Clips to train on: made by the world from seeds, or read from the files of a manifest; and cut to one size.

A manifest is one JSON object a line with ``file`` (relative to the manifest), ``video_caption`` and ``audio_caption``;
other keys are left aside.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from ..core.clock import LatentGeometry, Timeline
from ..core.disk import is_file, user_path
from ..core.errors import InputError
from ..core.json_text import read_json_lines
from ..core.room import require_clip_memory
from ..core.types import AudioClip, AVClip, Captions
from ..media.fit import SHORT, FitStyle, fit_clip
from ..media.probe import read_clip
from .config import DataConfig
from .randomness import derived_generator

WORLD_SEEDS_A_RUN = 1_000_000
# How runs have cut their clips from the first one on: another way would give them other batches.
_STYLES = {short: FitStyle(nearest_frames=False, resize="bilinear", short=short, fade_seconds=0) for short in SHORT}


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

        require_clip_memory(self.timeline)
        made = make_clip(self.scene, self.seed, timeline=self.timeline, split=self.split, looks=self.looks)
        return made.clip, _expand(made.prompt) if self.expanded else made.captions


def _expand(prompt: str) -> Captions:
    """The captions that a user of the bundled model gets without a language model."""
    from ..captions.backends import DEFAULT_BACKEND, make_backend
    from ..captions.crr import expand

    return expand(prompt, backend=make_backend(DEFAULT_BACKEND), profile="short").captions


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
    path = user_path(config.source)
    path = path / "manifest.jsonl" if path.is_dir() else path
    if not path.is_file():
        raise InputError("there is no such manifest", got=path, expected="a manifest.jsonl or its folder")
    rows = [_manifest_row(path, number, row) for number, row in read_json_lines(path, what="the manifest")]
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
        digest.update(f"{file.relative_to(root).as_posix()} {_written(tree)}".encode())
    return digest.hexdigest()


def _written(node: object) -> str:
    """A syntax tree as ``ast.dump`` of Python 3.11 writes it; that of other versions says the same otherwise."""
    if isinstance(node, list):
        return f"[{', '.join(map(_written, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    told = []
    for name in node._fields:
        value = getattr(node, name, None)
        is_left_out = value is None and getattr(type(node), name, ...) is None
        if not is_left_out and (value or name != "type_params"):  # which there are since 3.12
            told.append(f"{name}={_written(value)}")
    return f"{type(node).__name__}({', '.join(told)})"


def _manifest_row(path: Path, number: int, row: Mapping[str, Any]) -> FileSource:
    try:
        file, captions = path.parent / row["file"], Captions(row["video_caption"], row["audio_caption"])
    except (KeyError, TypeError, AttributeError, InputError) as error:
        raise InputError(
            "a line of the manifest cannot be used",
            got=f"{path}:{number} ({type(error).__name__}: {error})",
            expected="an object with file, video_caption and audio_caption",
        ) from error
    if not is_file(file):
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
    window, _ = fit_clip(clip, timeline, start=start / timeline.fps, style=_STYLES[config.short])
    if window.audio is not None and config.mono:
        first = window.audio.waveform[:1].expand(2, -1).contiguous()
        return AVClip(window.video, AudioClip(first, window.audio.sample_rate))
    return window


def _start(slack: int, config: DataConfig, name: str, crop: int) -> int:
    """First frame of the window."""
    if slack <= 0 or config.crop == "head":
        return 0
    generator = derived_generator(config.seed, "crop", name, crop)
    return int(torch.randint(slack + 1, (1,), generator=generator))
