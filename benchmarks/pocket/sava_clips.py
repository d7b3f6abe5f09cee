"""What a cascade makes on the pocket towers, by variant: latents, clips, seconds, and what they are judged as."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from clips import (
    NO_NEGATIVES,
    NUM_FRAMES,
    Wish,
    captions_of,
    load_pocket,
    pocket_options,
    pocket_size,
    wishes,
    write_manifest,
)
from judged import Judged, judge
from sounding_video.core.clock import Timeline
from sounding_video.core.device import Placement
from sounding_video.core.pair import MODALITIES, OTHER, Pair
from sounding_video.core.types import AVClip, JointLatents
from sounding_video.media.mux import write_clip
from sounding_video.models.clip_encoding import encode_clip
from sounding_video.models.joint import JointModel
from sounding_video.models.plan.base import Workload
from sounding_video.models.plan.needs import Needs
from sounding_video.models.plan.outline import Outline
from sounding_video.models.plan.published import SHAPES, outline_shapes
from sounding_video.models.weights.alignment import load_alignment
from sounding_video.models.weights.files import read_safetensors, write_safetensors
from sounding_video.pipeline import JoinedModel, decode_latents, sample_latents
from sounding_video.tasks.base import Run, made_alone
from sounding_video.tasks.cascade import cascade_latents
from sounding_video.tasks.reading import Reading

MAKES = {"sound": "audio", "picture": "video"}


@dataclass(frozen=True)
class Variant:
    """One way to a clip.

    Args:
        title: In tables.
        file: Which trained alignment it reads; empty for none.
        order: Of the cascade; empty where both sides are made apart, or together by bridges.
        makes: ``both``; ``sound`` for the world's own picture, ``picture`` for its own sound.
        bridge: The bundled bridges, or none.
    """

    title: str
    file: str = ""
    order: str = ""
    makes: str = "both"
    bridge: str = "none"


VARIANTS = {
    "none": Variant("no bridge"),
    "clip": Variant("text, picture, sound; one vector a clip", "audio_clip", "video-first"),
    "frames": Variant("text, picture, sound", "video_frames", "video-first"),
    "back": Variant("there and back", "video_frames", "both-ways"),
    "sound_first": Variant("text, sound, picture", "video_frames", "audio-first"),
    "bridges": Variant("joint bridges (dual_cross)", bridge="auto"),
    "tokens": Variant("text, picture, sound; by tokens", "video", "video-first"),
    "sound_first_tokens": Variant("text, sound, picture; by tokens", "video", "audio-first"),
    "true_picture_clip": Variant("sound for a true picture; one vector a clip", "audio_clip", makes="sound"),
    "true_picture": Variant("sound for a true picture", "video_frames", makes="sound"),
    "true_picture_tokens": Variant("sound for a true picture; by tokens", "video", makes="sound"),
    "true_sound": Variant("picture for a true sound", "video_frames", makes="picture"),
    "true_sound_tokens": Variant("picture for a true sound; by tokens", "video", makes="picture"),
}


class Maker:
    """Makes and measures variants; what is there is kept.

    Args:
        runs: Folder with ``NAME.safetensors`` of every trained alignment.
        clips: How many prompts.
        steps: Of the sampler.
    """

    def __init__(self, runs: Path, clips: int, steps: int) -> None:
        self.runs, self.folder, self.steps = runs, runs / f"clips-{steps}", steps
        self.wanted, self.options = wishes(clips, pocket_size()), pocket_options(steps=steps)
        self._models: dict[str, JoinedModel] = {}

    def is_there(self, name: str) -> bool:
        """Whether what a variant reads has been trained."""
        file = VARIANTS[name].file
        return not file or self.alignment(file).is_file()

    def alignment(self, file: str) -> Path:
        """Where a trained alignment lies."""
        return self.runs / f"{file}.safetensors"

    def model(self, bridge: str = "none") -> JoinedModel:
        """The bundled towers."""
        if bridge not in self._models:
            self._models[bridge] = load_pocket(bridge=bridge)
        return self._models[bridge]

    def timeline(self) -> Timeline:
        """Of every clip."""
        own = self.model().own
        return Timeline(NUM_FRAMES, own.fps, own.width, own.height, self.model().geometry)

    def run(self, wish: Wish, file: str, bridge: str = "none", support: str = "learned") -> Run:
        """How one prompt is made."""
        reading = Reading(load_alignment(self.alignment(file)), support=support) if file else None
        options = replace(self.options, seed=wish.seed)
        return Run(self.model(bridge), captions_of(wish), NO_NEGATIVES, options, reading=reading)

    def judged(self, name: str) -> Judged:
        """Make and measure a variant."""
        variant, folder = VARIANTS[name], self.folder / name
        note = folder.with_suffix(f".{len(self.wanted)}.json")
        if note.is_file():
            return Judged.read(note)
        folder.mkdir(parents=True, exist_ok=True)
        for wish in self.wanted:
            path = folder / f"{wish.name}.mp4"
            if not path.is_file():
                write_clip(self._clip(name, wish), path)
        write_manifest(self.wanted, folder)
        return judge(folder, self.wanted, variant.makes).write(note)

    def _clip(self, name: str, wish: Wish) -> AVClip:
        """The latents decoded; what was given stays the world's own."""
        codecs = self.run(wish, "").codecs()
        made = decode_latents(self.latents(name, wish), fps=self.timeline().fps, **codecs)
        if VARIANTS[name].makes == "sound":
            return replace(made, video=wish.truth.clip.video)
        return replace(made, audio=wish.truth.clip.audio) if VARIANTS[name].makes == "picture" else made

    def latents(self, name: str, wish: Wish) -> JointLatents:
        """What a variant samples; kept, with the seconds that it took."""
        file = self._kept(name, wish)
        if not file.is_file():
            variant = VARIANTS[name]
            run, timeline = self.run(wish, variant.file, variant.bridge), self.timeline()
            run.conditioning(timeline)  # captions are remembered, so that seconds are those of sampling
            started = time.process_time()
            made = sampled(run, timeline, variant, wish)
            seconds = time.process_time() - started
            write_safetensors(file, Pair.of(made).present, {"seconds": f"{seconds:.3f}"})
        return JointLatents(**read_safetensors(file)[0])

    def seconds(self, name: str) -> list[float]:
        """Of the processor, of every prompt."""
        return [float(read_safetensors(self._kept(name, wish))[1]["seconds"]) for wish in self.wanted]

    def _kept(self, name: str, wish: Wish) -> Path:
        return self.folder / name / f"{wish.name}.safetensors"

    def equal_sounds(self, first: str, second: str) -> int:
        """In how many prompts two variants have the same sound, to the bit."""
        pairs = [(self.latents(first, wish).audio, self.latents(second, wish).audio) for wish in self.wanted]
        return sum(torch.equal(*pair) for pair in pairs)


def sampled(run: Run, timeline: Timeline, variant: Variant, wish: Wish) -> JointLatents:
    """Latents of one prompt, from noise."""
    if variant.order:
        return cascade_latents(run, timeline, variant.order)
    conditioning = run.conditioning(timeline)
    if variant.makes != "both":
        side = MAKES[variant.makes]
        given = encode_clip(wish.truth.clip, timeline, **run.codecs())
        told_of = getattr(given, OTHER[side])
        return JointLatents(**{side: made_alone(run, side, timeline, conditioning, told_of=told_of)})
    if variant.bridge == "none":
        return JointLatents(**{side: made_alone(run, side, timeline, conditioning) for side in MODALITIES})
    shapes = run.model.shapes(timeline)
    sizes = {f"{side}_shape": shapes[side] for side in MODALITIES}
    return sample_latents(run.model, conditioning, **sizes, options=run.options, times=timeline.times)


def peaks(order: Sequence[str] | None, outline: Outline, timeline: Timeline, *, batched: bool) -> int:
    """Bytes at the worst moment of sampling, weights and what a forward keeps: both sides together, or one by one.

    Args:
        order: The sides one after the other; None for both together, with bridges.
        outline: Both towers and bridges, without weights.
        timeline: The clip.
        batched: Both guidance passes at once.
    """
    joint = outline.joint
    if order is None:
        return _peak(outline, joint, Workload.of(timeline), batched)
    towers = {"video": (joint.video, None), "audio": (None, joint.audio)}
    return max(
        _peak(outline, JointModel(*towers[side]), Workload.of(timeline, **{OTHER[side]: False}), batched)
        for side in order
    )


def _peak(outline: Outline, joint: JointModel, work: Workload, batched: bool) -> int:
    lengths = (outline.video_text_length, outline.audio_text_length)
    needs = Needs(Outline("", joint, None, None, None, None, *lengths), work)
    return needs.weights_on_device("sample", "model", prefetch=False) + needs.activations("sample", batched=batched)


def published() -> tuple[Outline, Timeline]:
    """Wan 1.3B and Stable Audio Open with four bridges, and a clip of 81 frames of 832×480."""
    return outline_shapes(SHAPES[0], Placement(torch.device("cuda"), torch.bfloat16)), Timeline()
