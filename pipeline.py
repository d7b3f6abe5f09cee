"""From two captions to a clip: load, encode, sample, decode. Each stage can be called alone; every node is one stage.

captions ─▶ Conditioning ─▶ JointLatents ─▶ AVClip     (models.joint runs inside the sampler's loop)
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import torch

from .core.clock import ClipTimes, Timeline
from .core.dialect import caption_notes, read
from .core.errors import InputError
from .core.pair import Pair
from .core.progress import SILENT, Progress, stoppable
from .core.types import AudioClip, AVClip, Captions, Conditioning, JointLatents, VideoClip
from .forecast import planned_sampling, settled, tell_of_length
from .media.audio import fit_length
from .models.bridges import kinds_that_hear
from .models.conditioning import REMEMBERED, ConditioningCache
from .models.encoding import encode_cached
from .models.joined import JoinedModel, add_lora, geometry_of, join_towers, load_models
from .models.own import PUBLISHED
from .models.placement import running
from .models.plan.fit import note, run_fitting
from .models.plan.runs import decoding_audio, decoding_video, run_codec
from .previews import preview_maps
from .sampling.given import Given, require_use
from .sampling.loop import sample
from .sampling.noise import draw_noise
from .sampling.options import SamplingOptions

if TYPE_CHECKING:
    from .core.device import Placement
    from .models.codecs.oobleck import OobleckCodec
    from .models.codecs.wan_vae import WanVAECodec
    from .models.parts import AudioParts, VideoParts
    from .models.plan.plans import Plan
    from .models.text.t5 import T5TextEncoder
    from .models.text.umt5 import UMT5TextEncoder

__all__ = [
    "DEFAULT_NEGATIVES",
    "JoinedModel",
    "SamplingOptions",
    "add_lora",
    "decode_latents",
    "encode_captions",
    "generate",
    "geometry_of",
    "join_towers",
    "load_models",
    "preview_maps",
    "sample_latents",
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
    video: VideoParts | UMT5TextEncoder | None,
    audio: AudioParts | T5TextEncoder | None,
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
        captions: What is to be seen and heard, in ComfyUI's dialect (:mod:`.core.dialect`); empty ones are refused.
        negatives: What is not, likewise; may be empty by choice.
        seconds: Length the audio tower is told.
        placement: Where the encoders run.
        progress: One unit a block of an encoder and text.
        cache: Where encoded captions are kept; with what is in it no encoder is loaded or moved.
        may_be_empty: For sides that are given, or that follow the other side alone.

    Raises:
        InputError: an empty caption.
    """
    encoders = [getattr(side, "text", side) for side in (video, audio)]
    for name, encoder, caption in zip(("video", "audio"), encoders, (captions.video, captions.audio), strict=True):
        if encoder is not None and not may_be_empty and not read(caption).plain.strip():
            raise InputError(
                f"the {name} caption is empty",
                expected="a description of what is to be " + ("seen" if name == "video" else "heard"),
            )
    pairs = ((captions.video, negatives.video), (captions.audio, negatives.audio))
    texts = [(read(positive).text, read(negative).text) for positive, negative in pairs]
    with stoppable(progress):
        made = encode_cached(encoders, texts, seconds=seconds, placement=placement, progress=progress, cache=cache)
    return Conditioning(*made)


def sample_latents(
    model: JoinedModel,
    conditioning: Conditioning,
    *,
    video_shape: tuple[int, ...] | None,
    audio_shape: tuple[int, ...] | None,
    options: SamplingOptions | None = None,
    given: Pair[Given] | None = None,
    progress: Progress = SILENT,
    times: ClipTimes | None = None,
) -> JointLatents:
    """Draw noise and denoise both modalities together, or what is not given of them.

    Args:
        model: Towers and bridges.
        conditioning: Encoded captions.
        video_shape: ``(B, C, T, H, W)`` or None.
        audio_shape: ``(B, C, L)`` or None.
        options: Steps, scales, seed, schedule.
        given: What is known of each modality; it comes back to the bit.
        progress: One unit a step, with the current estimate as preview.
        times: When the latent steps lie; None takes it from their numbers.

    Returns:
        Normalised latents, float32, on the CPU.

    Raises:
        InputError: a given modality that the other one cannot hear, and see :func:`~.sampling.loop.sample`.
    """
    options, given = options or SamplingOptions(), given or Pair()
    kinds = Pair(*(kinds_that_hear(side) for side in ("video", "audio")))
    require_use(given, bridged=model.joint.bridges is not None, hears=model.hears, kinds=kinds)
    schedule = options.build_schedule(video=video_shape is not None, audio=audio_shape is not None)
    guidance = options.guidance(model.hears)
    noise = draw_noise(options.seed, video_shape=video_shape, audio_shape=audio_shape)
    if times is None and video_shape and audio_shape:
        times = model.geometry.times_from_counts(video_shape[2], audio_shape[2])

    def attempt(placement: Placement, plan: Plan | None) -> JointLatents:
        with running(model.joint, placement) as denoiser:
            return sample(
                partial(denoiser, times=times),
                conditioning,
                noise,
                schedule=schedule,
                guidance=replace(guidance, batching=plan.guidance_batching) if plan else guidance,
                seed=options.seed,
                given=given,
                device=placement.device,
                dtype=placement.dtype,
                latent_dtype=torch.bfloat16 if placement.cast_everything else torch.float32,
                progress=progress,
            )

    run = planned_sampling(model, conditioning, options, video_shape, audio_shape)
    _tell(options.deaf(model.hears) if video_shape and audio_shape else "", progress)
    tell_of_length(model, video_shape, options, progress)
    with stoppable(progress):
        return run_fitting(run, model.placement, attempt)


def _tell(sentence: str, progress: Progress) -> None:
    if sentence:
        note(sentence)
        progress.tell(sentence)


def decode_latents(
    latents: JointLatents,
    *,
    video_codec: WanVAECodec | None,
    audio_codec: OobleckCodec | None,
    fps: Fraction,
    placement: Placement,
    tiling: str = "auto",
    progress: Progress = SILENT,
) -> AVClip:
    """Decode one clip and fit its sound to its picture, to the sample.

    Args:
        latents: Normalised, batch of one.
        video_codec: Needed when there is a video latent.
        audio_codec: Needed when there is an audio latent.
        fps: Frame rate of the picture.
        placement: Where the codecs run.
        tiling: ``auto``, ``on`` or ``off``.
        progress: Stage ``decode`` with a unit a latent frame (and tile) of the picture, then ``decode sound`` with one
            a block of its decoder.
    """
    video = audio = None
    if latents.video is not None:
        _require_codec(video_codec, "video")
        run = decoding_video(video_codec, latents.video.shape, tiling)
        with stoppable(progress):
            frames = run_codec(
                run, placement, lambda tiling: video_codec.decode(latents.video, tiling=tiling, progress=progress)
            )
        video = VideoClip(frames, fps)
    if latents.audio is not None:
        _require_codec(audio_codec, "audio")
        run = decoding_audio(audio_codec, latents.audio.shape)
        with stoppable(progress):
            sound = progress.told_as("decode sound")
            waveform = run_codec(run, placement, lambda _: audio_codec.decode(latents.audio, progress=sound))
        audio = AudioClip(waveform, audio_codec.sample_rate)
    clip = AVClip(video, audio)
    if clip.num_samples is not None:
        clip = AVClip(video, fit_length(audio, clip.num_samples, fade_seconds=FADE_SECONDS))
    return clip


def _require_codec(codec: object | None, modality: str) -> None:
    if codec is None:
        raise InputError(
            f"there is a {modality} latent but no {modality} codec", expected=f"the {modality} codec of the loader"
        )


def generate(
    model: JoinedModel,
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
    options = options or SamplingOptions()
    model, tiling = settled(model, timeline, options, tiling=tiling)
    tell_of_length(model, (1, *timeline.video_latent_shape), options, progress)
    conditioning = encode_captions(
        model.video,
        model.audio,
        captions,
        negatives=negatives,
        seconds=float(timeline.seconds),
        placement=model.placement,
        progress=progress,
        cache=cache,
    )
    latents = sample_latents(
        model,
        conditioning,
        video_shape=(1, *timeline.video_latent_shape) if model.video else None,
        audio_shape=(1, *timeline.audio_latent_shape) if model.audio else None,
        options=options,
        progress=progress,
        times=timeline.times,
    )
    clip = decode_latents(
        latents if with_picture else replace(latents, video=None),
        video_codec=model.video and model.video.codec,
        audio_codec=model.audio and model.audio.codec,
        fps=timeline.fps,
        placement=model.placement,
        tiling=tiling,
        progress=progress,
    )
    if with_picture or clip.audio is None:
        return clip
    return AVClip(None, fit_length(clip.audio, timeline.num_samples, fade_seconds=FADE_SECONDS))
