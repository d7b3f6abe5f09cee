"""From two captions to a clip: load, encode, sample, decode. Each stage can be called alone; every node is one stage.

captions ─▶ Conditioning ─▶ JointLatents ─▶ AVClip     (the model's denoiser runs inside the sampler's loop)

What a model is made of is its family's business (:mod:`.models.families`), and how a stage fits the memory is decided
in one place beside the way (:class:`.models.plan.fit.Stage`).
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import torch

from .calibration import calibrated
from .core.clock import ClipTimes, Timeline
from .core.dialect import read
from .core.errors import InputError
from .core.pair import MODALITIES, Pair
from .core.progress import SILENT, Progress, stoppable
from .core.script import together
from .core.types import AVClip, Captions, Conditioning, JointLatents
from .forecast import sampling_stage, settled, tell_of_length
from .long_clips import of_windows, plan_of, sample_windows, window_frames, window_shapes
from .media.audio import fit_length
from .models.attention import sage_advice
from .models.clip_decoding import decode_clip
from .models.conditioning import REMEMBERED, ConditioningCache
from .models.encoding import encode_cached
from .models.families.base import FamilyModel
from .models.joined import JoinedModel, add_lora, geometry_of, join_towers
from .models.loading import load_models
from .models.own import PUBLISHED
from .models.parts import AudioParts, VideoParts
from .models.plan.fit import How, note
from .models.replicas import denoisers
from .previews import preview_maps
from .run_setup import as_compiled, as_trained, on_devices, tell, tell_of_sides, tell_of_use, told_of_captions
from .sampling.given import Given, require_use
from .sampling.loop import sample
from .sampling.noise import draw_noise
from .sampling.options import SamplingOptions

if TYPE_CHECKING:
    from .core.device import Placement
    from .core.protocols import AudioCodec, TextEncoder, VideoCodec
    from .core.windows import LatentPlan

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
    guidance = options.guidance(model.hears)
    cache = calibrated(options.build_cache(walked=model.walked), model.description, progress)
    model = on_devices(model, options, guidance, progress)
    plan = plan_of(model, options, shapes, times)
    conditioning = _of_plan(model, plan, conditioning, progress)

    rest = {"schedule": schedule, "cache": cache, "dtype": model.placement.dtype}
    rest["latent_dtype"] = torch.bfloat16 if model.placement.cast_everything else torch.float32

    def denoise(how: How) -> JointLatents:
        batching = "batched" if how.placement.partners else how.batching
        settings = {**rest, "guidance": replace(guidance, batching=batching), "device": how.device}
        with as_compiled(model, how.placement, options, progress), denoisers(model, how.placement) as denoiser_of:
            if plan is not None:
                return sample_windows(denoiser_of, plan, conditioning, shapes, options, given, settings, progress)
            noise = draw_noise(options.seed, video_shape=video_shape, audio_shape=audio_shape)
            denoiser, last = denoiser_of(times or model.times(shapes)), {"given": given, "progress": progress}
            return sample(denoiser, conditioning, noise, seed=options.seed, **settings, **last)

    at_once, runs = (shapes, 1) if plan is None else (window_shapes(plan, shapes), len(plan.windows))
    tell_of_sides(model, options, given, sides, progress)
    tell_of_length(model, at_once, options, progress, runs)
    tell(sage_advice(model.placement), progress)
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
        if any(text.is_told for text in Pair.of(conditioning).present.values()):
            raise InputError(
                "what a side is told of the other is told of the whole clip",
                got=f"{len(plan.windows)} windows",
                expected="windows off",
            )
        note(plan.sentence)
        return of_windows(model, conditioning, float(plan.seconds))
    if conditioning.later:
        start = float(conditioning.later[0][0])
        tell(f"captions from {start:g} s on are not read: the clip is made at once, without windows", progress)
    return conditioning


def decode_latents(
    latents: JointLatents,
    *,
    video_codec: VideoCodec | None,
    audio_codec: AudioCodec | None,
    fps: Fraction,
    placement: Placement,
    raw: bool = False,
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
        raw: The latents are in the codecs' own spaces instead, as in ComfyUI.
        tiling: ``auto``, ``on`` or ``off``.
        progress: As :func:`~.models.clip_decoding.decode_clip`.
        own_seconds: Likewise.
    """
    codecs = Pair(video_codec, audio_codec)
    rest = {"raw": raw, "tiling": tiling, "progress": progress, "own_seconds": own_seconds}
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
