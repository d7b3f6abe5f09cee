"""Clips for the pocket benchmarks: what is asked for, what the model makes of it, and the manifest beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from sounding_video.captions.backends.lexicon import LexiconBackend
from sounding_video.captions.crr import expand
from sounding_video.core.clock import Timeline
from sounding_video.core.device import resolve_placement
from sounding_video.core.types import AVClip, Captions, Conditioning, JointLatents
from sounding_video.evaluation.runner import Evaluation, evaluate_folder
from sounding_video.media.mux import write_clip
from sounding_video.models.families.base import FamilyModel
from sounding_video.models.weights.find import POCKET, pocket_folder
from sounding_video.pipeline import JoinedModel, SamplingOptions, decode_latents, encode_captions, generate, load_models
from sounding_video.world.scenes import SCENES
from sounding_video.world.synth import WorldClip, make_clip

NUM_FRAMES, FPS = 33, Fraction(15)
# What the model was trained to steer away from.
NO_NEGATIVES = Captions("", "")
# The world's own captions; the user's prompt for both; or what the lexicon makes of the prompt.
WORLD, PROMPT, EXPANDED, SHARED, DIRECT = "world", "off", "full", "shared", "direct"
CAPTIONS = (WORLD, PROMPT, EXPANDED, SHARED, DIRECT)


@dataclass(frozen=True)
class Wish:
    """One clip to make.

    Args:
        name: File name without suffix.
        truth: The world's clip that the prompt describes.
        seed: Of the sampler.
    """

    name: str
    truth: WorldClip
    seed: int


def pocket_size(models: str | Path = POCKET) -> int:
    """Width and height in pixels that a pocket model was trained for."""
    return _note(models)["size"]


def pocket_options(models: str | Path = POCKET, *, steps: int, **others: Any) -> SamplingOptions:
    """Sampling options with the flow shift that a pocket model's bridges were trained for, and its own scales."""
    note = _note(models)
    own = {
        "video_guidance_scale": note["video_cfg"],
        "audio_guidance_scale": note["audio_cfg"],
        "flow_shift": note["flow_shift"],
        "video_modality_scale": note["video_modality_cfg"],
        "audio_modality_scale": note["audio_modality_cfg"],
    }
    return SamplingOptions(num_steps=steps, **{**own, **others})


def own_options(model: FamilyModel, steps: int | None = None) -> SamplingOptions:
    """Sampling options that a model's note asks for; with as many steps as are named."""
    own = model.own
    return SamplingOptions(
        num_steps=steps or own.num_steps,
        video_guidance_scale=own.video_guidance_scale,
        audio_guidance_scale=own.audio_guidance_scale,
        schedule=own.schedule,
        solver=own.solver,
        flow_shift=own.flow_shift,
    )


def _note(models: str | Path) -> dict[str, Any]:
    folder = pocket_folder() if models == POCKET else Path(models)
    return json.loads((folder / "pocket.json").read_text(encoding="utf-8"))


def wishes(num: int, size: int, *, split: str = "test", first_seed: int = 0) -> list[Wish]:
    """Prompts of a split of the world, its scenes in turn."""
    timeline, scenes = Timeline(NUM_FRAMES, FPS, size, size), SCENES.names()
    made = []
    for index in range(num):
        seed = first_seed + index
        clip = make_clip(scenes[index % len(scenes)], seed, timeline=timeline, split=split)
        made.append(Wish(f"{index:03d}-{clip.scene}", clip, seed))
    return made


def captions_of(wish: Wish, kind: str = EXPANDED) -> Captions:
    """Both captions of a wish, as one of ``CAPTIONS`` gives them."""
    if kind == WORLD:
        return wish.truth.captions
    return expand(wish.truth.prompt, backend=LexiconBackend(), mode=kind, profile="short").captions


def conditioning_of(model: JoinedModel, wish: Wish, timeline: Timeline) -> Conditioning:
    """The expanded captions of a wish, encoded."""
    return encode_captions(
        model.video,
        model.audio,
        captions_of(wish),
        negatives=NO_NEGATIVES,
        seconds=float(timeline.seconds),
        placement=model.placement,
    )


def load_pocket(models: str | Path = POCKET, *, bridge: str | Path = "auto", device: str = "auto") -> JoinedModel:
    """The pocket model or a training run's, with other bridges or none."""
    return load_models(models, placement=resolve_placement(device=device, dtype="float32"), bridge=bridge)


def make_clips(
    model: JoinedModel,
    wanted: Sequence[Wish],
    folder: Path,
    *,
    options: SamplingOptions,
    captions: str = EXPANDED,
) -> None:
    """Make every clip that is not there yet, and write the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    for wish in wanted:
        path = folder / f"{wish.name}.mp4"
        if path.is_file():
            continue
        frames, size = wish.truth.clip.video.frames.shape[:2]
        timeline = Timeline(frames, FPS, size, size, model.geometry)
        seeded = replace(options, seed=wish.seed)
        clip = generate(model, captions_of(wish, captions), timeline=timeline, negatives=NO_NEGATIVES, options=seeded)
        write_clip(clip, path)
    write_manifest(wanted, folder)


def round_trips(model: JoinedModel, wanted: Sequence[Wish], folder: Path) -> None:
    """The world's own clips through both codecs: the best that any tower can do."""
    folder.mkdir(parents=True, exist_ok=True)
    for wish in wanted:
        path = folder / f"{wish.name}.mp4"
        if not path.is_file():
            write_clip(round_trip(model, wish.truth.clip), path)
    write_manifest(wanted, folder)


@torch.no_grad()
def round_trip(model: JoinedModel, clip: AVClip) -> AVClip:
    """Encode and decode both sides of a clip."""
    latents = JointLatents(model.video.codec.encode(clip.video.frames), model.audio.codec.encode(clip.audio.waveform))
    return decode_latents(
        latents,
        video_codec=model.video.codec,
        audio_codec=model.audio.codec,
        fps=clip.video.fps,
        placement=model.placement,
    )


def write_manifest(wanted: Sequence[Wish], folder: Path) -> None:
    """What was asked for: scene, prompt and number of events; when they happen is the model's choice."""
    rows = [
        {
            "file": f"{wish.name}.mp4",
            "scene": wish.truth.scene,
            "prompt": wish.truth.prompt,
            "num_events": len(wish.truth.events),
        }
        for wish in wanted
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "manifest.jsonl").write_text(text, encoding="utf-8")


# Column title, metric and value of the tables.
COLUMNS = (
    ("event F1 ±2", "event_f1", "f1_2_frames"),
    ("event F1 ±1", "event_f1", "f1_1_frame"),
    ("AV-Align", "av_align", "av_align"),
    ("scene, picture", "scene_accuracy_picture", "correct"),
    ("scene, sound", "scene_accuracy_sound", "correct"),
    ("right number seen", "onset_accuracy", "picture_number"),
    ("right number heard", "onset_accuracy", "sound_number"),
)


def measure(folder: Path) -> Evaluation:
    """All metrics of a folder of clips; written beside them."""
    result = evaluate_folder(folder)
    result.write(folder)
    return result


def table(results: dict[str, Evaluation]) -> str:
    """Markdown, one line a variant."""
    lines = ["| variant | clips | " + " | ".join(title for title, *_ in COLUMNS) + " |"]
    lines.append("|---|---:|" + "---:|" * len(COLUMNS))
    for name, result in results.items():
        values = [result.summary[metric][value] for _, metric, value in COLUMNS]
        cells = ["–" if value is None else f"{value:.3f}" for value in values]
        lines.append(f"| {name} | {len(result.clips)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
