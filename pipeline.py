"""From two captions to a clip: load, encode, sample, decode. Each stage can be called alone; every node is one stage.

captions ─▶ Conditioning ─▶ JointLatents ─▶ AVClip     (the model's denoiser runs inside the sampler's loop)

What a model is made of is its family's business (:mod:`.models.families`), and how a stage fits the memory is decided
in one place beside the way (:class:`.models.plan.fit.Stage`).
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import torch

from .calibration import calibrated
from .core.clock import ClipTimes, Timeline
from .core.dialect import caption_notes, read
from .core.errors import InputError
from .core.pair import MODALITIES, Pair
from .core.progress import SILENT, Progress, stoppable
from .core.script import together
from .core.types import AVClip, Captions, Conditioning, JointLatents
from .forecast import sampling_stage, settled, tell_of_length
from .long_clips import of_windows, plan_of, sample_windows, window_frames, window_shapes
from .media.audio import fit_length
from .models.attention import sage_advice
from .models.bridge_use import SIDE_GIVEN, apart, given_level, misused
from .models.clip_decoding import decode_clip
from .models.compiled import compiled, why_not_compiled
from .models.conditioning import REMEMBERED, ConditioningCache
from .models.encoding import encode_cached
from .models.families.base import FamilyModel
from .models.joined import JoinedModel, add_lora, geometry_of, join_towers
from .models.loading import load_models
from .models.own import PUBLISHED
from .models.parts import AudioParts, VideoParts
from .models.plan.fit import How, note
from .previews import preview_maps
from .sampling.given import Given, require_use
from .sampling.loop import sample
from .sampling.noise import draw_noise
from .sampling.options import SamplingOptions

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from .core.device import Placement
    from .core.protocols import AudioCodec, TextEncoder, VideoCodec
    from .core.windows import LatentPlan
    from .models.bridge_use import BridgeUse
    from .sampling.cache.base import StepCache

__all__ = [
    "DEFAULT_NEGATIVES",
    "FamilyModel",
    "JoinedModel",
    "SamplingOptions",
    "add_lora",
    "as_trained",
    "decode_latents",
    "encode_captions",
    "generate",
    "geometry_of",
    "join_towers",
    "load_models",
    "preview_maps",
    "sample_latents",
    "tell_of_use",
    "told_of_captions",
]

FADE_SECONDS = 0.01
# The published system's negative prompts.
DEFAULT_NEGATIVES = Captions(PUBLISHED.video_negative, PUBLISHED.audio_negative)


def told_of_captions(captions: Captions, negatives: Captions) -> list[str]:
    """What a user should know of captions and negatives: which weights are applied, and what is not read."""
    named = {
        "video caption": captions.video,
        "audio caption": captions.audio,
        "video negative": negatives.video,
        "audio negative": negatives.audio,
    }
    return [note for name, text in named.items() for note in caption_notes(name, text)]


def encode_captions(
    video: VideoParts | TextEncoder | None,
    audio: AudioParts | TextEncoder | None,
    captions: Captions,
    *,
    negatives: Captions = DEFAULT_NEGATIVES,
    seconds: float,
    placement: Placement,
    progress: Progress = SILENT,
    cache: ConditioningCache = REMEMBERED,
    may_be_empty: bool = False,
) -> Conditioning:
    """Encode one caption a modality, and the negative prompts beside them; what was encoded before is not again.

    Args:
        video: Video text encoder (or the parts that hold it); None leaves the modality out.
        audio: Audio text encoder, likewise.
        captions: What is to be seen and heard, in ComfyUI's dialect (:mod:`.core.dialect`); empty ones are refused. For
            windows of a longer clip they may change with time (:mod:`.core.script`).
        negatives: What is not, likewise; may be empty by choice.
        seconds: Length the audio tower is told.
        placement: Where the encoders run.
        progress: One unit a block of an encoder and text.
        cache: Where encoded captions are kept; with what is in it no encoder is loaded or moved.
        may_be_empty: For sides that are given, or that follow the other side alone.

    Raises:
        InputError: an empty caption.
    """
    encoders = [side.text if isinstance(side, VideoParts | AudioParts) else side for side in (video, audio)]
    made = []
    rest = {"seconds": seconds, "placement": placement, "progress": progress, "cache": cache}
    with stoppable(progress):
        for start, each in together(captions.video, captions.audio):
            for name, encoder, caption in zip(("video", "audio"), encoders, each, strict=True):
                if encoder is not None and not may_be_empty and not read(caption).plain.strip():
                    raise InputError(
                        f"the {name} caption is empty",
                        expected="a description of what is to be " + ("seen" if name == "video" else "heard"),
                    )
            pairs = zip(each, (negatives.video, negatives.audio), strict=True)
            texts = [(read(positive).text, read(negative).text) for positive, negative in pairs]
            made.append((start, Conditioning(*encode_cached(encoders, texts, **rest), seconds=seconds)))
    return replace(made[0][1], later=tuple(made[1:]))


def sample_latents(
    model: FamilyModel,
    conditioning: Conditioning,
    *,
    video_shape: tuple[int, ...] | None,
    audio_shape: tuple[int, ...] | None,
    options: SamplingOptions | None = None,
    given: Pair[Given] | None = None,
    progress: Progress = SILENT,
    times: ClipTimes | None = None,
) -> JointLatents:
    """Draw noise and denoise both modalities together, or what is not given of them; in windows if asked for.

    Args:
        model: Of any family.
        conditioning: Encoded captions.
        video_shape: ``(B, C, T, H, W)`` or None.
        audio_shape: ``(B, C, L)`` or None.
        options: Steps, scales, seed, schedule.
        given: What is known of each modality; it comes back to the bit. A level that is left open is the bridges' own.
        progress: One unit a step, with the current estimate as preview.
        times: When the latent steps lie; None takes it from their numbers.

    Returns:
        Normalised latents, float32, on the CPU.

    Raises:
        InputError: a given modality that the other one cannot hear, and see :func:`~.sampling.loop.sample`.
    """
    options, shapes = options or SamplingOptions(), Pair(video_shape, audio_shape)
    given = as_trained(given or Pair(), model.use)
    require_use(given, hears=model.hears, why_deaf=model.why_deaf)
    sides = {side: shapes[side] is not None for side in MODALITIES}
    schedule = options.build_schedule(**sides, processes=model.processes)
    guidance, cache = options.guidance(model.hears), _cache_of(model, options, progress)
    plan = plan_of(model, options, shapes, times)
    conditioning = _of_plan(model, plan, conditioning, progress)

    rest = {"schedule": schedule, "cache": cache, "dtype": model.placement.dtype}
    rest["latent_dtype"] = torch.bfloat16 if model.placement.cast_everything else torch.float32

    def denoise(how: How) -> JointLatents:
        settings = {**rest, "guidance": replace(guidance, batching=how.batching), "device": how.device}
        with _compiled(model, how.placement, options, progress):
            if plan is not None:
                return sample_windows(model.denoiser, plan, conditioning, shapes, options, given, settings, progress)
            noise = draw_noise(options.seed, video_shape=video_shape, audio_shape=audio_shape)
            denoiser, last = model.denoiser(times or model.times(shapes)), {"given": given, "progress": progress}
            return sample(denoiser, conditioning, noise, seed=options.seed, **settings, **last)

    at_once, runs = (shapes, 1) if plan is None else (window_shapes(plan, shapes), len(plan.windows))
    if all(sides.values()):
        _tell(options.deaf(model.hears), progress)
        tell_of_use(given, model.use, progress, options.schedule)
    tell_of_length(model, at_once, options, progress, runs)
    _tell(sage_advice(model.placement), progress)
    with stoppable(progress):
        return sampling_stage(model, conditioning, options, at_once, runs).run(model.placement, denoise)


def _of_plan(
    model: FamilyModel,
    plan: LatentPlan | None,
    conditioning: Conditioning,
    progress: Progress,
) -> Conditioning:
    """Captions as windows need them; what is done, or not read, is told."""
    if plan is not None:
        note(plan.sentence)
        return of_windows(model, conditioning, float(plan.seconds))
    if conditioning.later:
        start = float(conditioning.later[0][0])
        _tell(f"captions from {start:g} s on are not read: the clip is made at once, without windows", progress)
    return conditioning


def _compiled(
    model: FamilyModel, placement: Placement, options: SamplingOptions, progress: Progress
) -> AbstractContextManager[None]:
    """The model's blocks compiled, where that was asked for and can be; where it cannot, that is told."""
    why = why_not_compiled(model.root, placement) if options.compile else ""
    _tell(why, progress)
    if why or not options.compile:
        return nullcontext()
    return compiled(model.root, partial(_tell, progress=progress))


def _cache_of(model: FamilyModel, options: SamplingOptions, progress: Progress) -> StepCache | None:
    return calibrated(options.build_cache(walked=model.walked), model.description, progress)


def as_trained(given: Pair[Given], use: BridgeUse | None) -> Pair[Given]:
    """What is given, at the bridges' own level where it is shown at one level and nobody asked for another.

    Args:
        given: By modality.
        use: What the bridges were trained for; None where their file does not say it.
    """
    if use is None:
        return given
    sides = given.present.items()
    return Pair(**{side: replace(one, time=given_level(use, side, one.time)) for side, one in sides})


def tell_of_use(given: Pair[Given], use: BridgeUse | None, progress: Progress, schedule: str) -> None:
    """Say it where bridges are used for something else, or otherwise, than they were trained for.

    Args:
        given: What is known in a run of both modalities.
        use: As in :func:`as_trained`.
        progress: Told.
        schedule: Of the run.
    """
    _tell(apart(use, schedule), progress)
    whole = next(((side, one) for side, one in given.present.items() if one.is_whole), None)
    if whole is None:
        _tell(misused(use, "joint"), progress)
        return
    side, one = whole
    made = next(made for made, given_side in SIDE_GIVEN.items() if given_side == side)
    _tell(misused(use, made, how=one.how, level=one.time), progress)


def _tell(sentence: str, progress: Progress) -> None:
    if sentence:
        note(sentence)
        progress.tell(sentence)


def decode_latents(
    latents: JointLatents,
    *,
    video_codec: VideoCodec | None,
    audio_codec: AudioCodec | None,
    fps: Fraction,
    placement: Placement,
    tiling: str = "auto",
    progress: Progress = SILENT,
    own_seconds: float | None = None,
) -> AVClip:
    """Decode one clip and fit its sound to its picture, to the sample.

    Args:
        latents: Normalised, batch of one.
        video_codec: Needed when there is a video latent.
        audio_codec: Needed when there is an audio latent.
        fps: Frame rate of the picture.
        placement: Where the codecs run.
        tiling: ``auto``, ``on`` or ``off``.
        progress: As :func:`~.models.clip_decoding.decode_clip`.
        own_seconds: Likewise.
    """
    codecs = Pair(video_codec, audio_codec)
    rest = {"tiling": tiling, "progress": progress, "own_seconds": own_seconds}
    return _as_long(decode_clip(latents, codecs, fps=fps, placement=placement, **rest))


def _as_long(clip: AVClip) -> AVClip:
    """The clip with its sound as long as its picture."""
    if clip.num_samples is None:
        return clip
    return replace(clip, audio=fit_length(clip.audio, clip.num_samples, fade_seconds=FADE_SECONDS))


def generate(
    model: FamilyModel,
    captions: Captions,
    *,
    timeline: Timeline,
    negatives: Captions = DEFAULT_NEGATIVES,
    options: SamplingOptions | None = None,
    tiling: str = "auto",
    progress: Progress = SILENT,
    cache: ConditioningCache = REMEMBERED,
    with_picture: bool = True,
) -> AVClip:
    """The whole way: captions in, a clip with sound out.

    Args:
        model: From :func:`load_models`.
        captions: What is to be seen and heard.
        timeline: Frames, rate and size; its geometry must be the model's.
        negatives: What is not.
        options: Steps, scales, seed, schedule.
        tiling: Of the video decoder.
        progress: Stages encode, sample, decode.
        cache: Where encoded captions are kept.
        with_picture: False decodes the sound alone, as long as the picture would be.
    """
    options, shapes = options or SamplingOptions(), model.shapes(timeline)
    at_once = _at_once(model, timeline, options)
    model, tiling = settled(model, timeline, options, tiling=tiling, at_once=at_once)
    if at_once == timeline:
        tell_of_length(model, shapes, options, progress)
    conditioning = encode_captions(
        *model.texts,
        captions,
        negatives=negatives,
        seconds=float(at_once.seconds),
        placement=model.placement,
        progress=progress,
        cache=cache,
    )
    latents = sample_latents(
        model,
        conditioning,
        video_shape=shapes.video,
        audio_shape=shapes.audio,
        options=options,
        progress=progress,
        times=timeline.times,
    )
    latents = latents if with_picture else replace(latents, video=None)
    clip = _as_long(model.decode(latents, fps=timeline.fps, tiling=tiling, progress=progress))
    if with_picture or clip.audio is None:
        return clip
    return AVClip(None, fit_length(clip.audio, timeline.num_samples, fade_seconds=FADE_SECONDS))


def _at_once(model: FamilyModel, timeline: Timeline, options: SamplingOptions) -> Timeline:
    """The extent of one window, where a clip is made in several; else that of the clip."""
    if plan_of(model, options, model.shapes(timeline), timeline.times) is None:
        return timeline
    return replace(timeline, num_frames=window_frames(model.geometry, model.own, options, timeline.fps))
