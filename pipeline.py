"""From two captions to a clip: load, encode, sample, decode. Each stage can be called alone; every node is one stage.

captions ─▶ Conditioning ─▶ JointLatents ─▶ AVClip     (models.joint runs inside the sampler's loop)
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from .core.clock import LatentGeometry, Timeline
from .core.errors import InputError
from .core.progress import SILENT, Progress
from .core.types import AudioClip, AVClip, Captions, Conditioning, JointLatents, VideoClip
from .media.audio import fit_length
from .models.attention import AttentionKernel, use_kernel
from .models.conditioning import encode_audio, encode_video
from .models.joint import JointModel
from .models.patching import with_tuned_blocks
from .models.placement import on_device, running
from .models.weights.bridges import BridgeOptions, LoadedBridges, load_bridges
from .models.weights.find import find_models
from .models.weights.load import load_stable_audio, load_wan
from .sampling.guidance import Guidance
from .sampling.loop import sample
from .sampling.noise import draw_noise
from .sampling.schedules import build_schedule

if TYPE_CHECKING:
    from .core.device import Placement
    from .models.codecs.oobleck import OobleckCodec
    from .models.codecs.wan_vae import WanVAECodec
    from .models.parts import AudioParts, VideoParts
    from .models.text.t5 import T5TextEncoder
    from .models.text.umt5 import UMT5TextEncoder

log = logging.getLogger(__name__)

FADE_SECONDS = 0.01
# The published system's negative prompts: Wan's standard list in English, and the audio one of its sampling script.
DEFAULT_NEGATIVES = Captions(
    video=(
        "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, "
        "overall gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly "
        "drawn hands, poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy "
        "background, three legs, many people in the background, walking backwards"
    ),
    audio="Low quality, unclear and noisy.",
)


@dataclass(frozen=True)
class JoinedModel:
    """Towers, bridges, codecs and text encoders that belong together.

    Args:
        joint: What the sampler drives.
        video: Video side or None.
        audio: Audio side or None.
        placement: Where it runs.
        bridges: The bridge file's summary, or None without bridges.
        bridges_trained: False for bridges that only show the form.
    """

    joint: JointModel
    video: VideoParts | None
    audio: AudioParts | None
    placement: Placement
    bridges: str | None = None
    bridges_trained: bool = True

    @property
    def trained(self) -> bool:
        """False when any part is random and only shows the form."""
        return self.bridges_trained and all(parts.trained for parts in (self.video, self.audio) if parts is not None)

    @property
    def geometry(self) -> LatentGeometry:
        """Strides and channels, read from the codecs."""
        return geometry_of(self.video and self.video.codec, self.audio and self.audio.codec)

    @property
    def description(self) -> str:
        """One line for the user."""
        names = [f"{parts.name}" for parts in (self.video, self.audio) if parts is not None]
        return f"{' + '.join(names)}; {self.bridges or 'no bridges'}" + ("" if self.trained else "; UNTRAINED weights")


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample; the defaults are the paper's (Table 6).

    Args:
        num_steps: Denoising steps.
        video_guidance_scale: w_v of eq. 9; 1 or less turns guidance off for the video.
        audio_guidance_scale: w_a of eq. 10.
        seed: Start of all randomness, 0 to 2^64−1.
        schedule: ``lockstep`` (as published) or ``coupled`` (both towers at one t, as trained).
        flow_sigmas: Which diffusers version's UniPC flow sigmas.
        guidance_batching: ``auto``, ``batched`` or ``sequential``.
        flow_shift: Wan's shift of the video's points towards high noise; 3 for 480p, 5 for 720p.
    """

    num_steps: int = 50
    video_guidance_scale: float = 6.0
    audio_guidance_scale: float = 6.0
    seed: int = 0
    schedule: str = "lockstep"
    flow_sigmas: str = "diffusers-0.36"
    guidance_batching: str = "auto"
    flow_shift: float = 3.0


def geometry_of(video_codec: WanVAECodec | None, audio_codec: OobleckCodec | None) -> LatentGeometry:
    """The latent geometry of a pair of codecs; Wan 2.1's and Stable Audio Open's where one is absent."""
    default = LatentGeometry()
    return LatentGeometry(
        video_channels=video_codec.latent_channels if video_codec else default.video_channels,
        temporal_stride=video_codec.temporal_stride if video_codec else default.temporal_stride,
        spatial_stride=video_codec.spatial_stride if video_codec else default.spatial_stride,
        audio_channels=audio_codec.latent_channels if audio_codec else default.audio_channels,
        audio_hop=audio_codec.hop if audio_codec else default.audio_hop,
        sample_rate=audio_codec.sample_rate if audio_codec else default.sample_rate,
    )


def load_models(
    models: str | Path = "pocket",
    *,
    placement: Placement,
    bridge: str | Path = "auto",
    bridge_options: BridgeOptions | None = None,
) -> JoinedModel:
    """Load both towers and the bridges from one folder.

    Args:
        models: ``pocket`` for the bundled model, or a folder that holds a Wan and a Stable Audio diffusers folder.
        placement: Device, dtype, offload, kernel.
        bridge: A file, ``none``, or ``auto`` for the one beside the towers.
        bridge_options: What a bridge file without metadata does not say.

    Raises:
        MissingModelError, WeightsError: see the messages.
    """
    found = find_models(models)
    chosen = found.bridge if str(bridge) == "auto" else None if str(bridge) == "none" else Path(bridge)
    bridges = load_bridges(chosen, bridge_options) if chosen else None
    return join_towers(load_wan(found.video, placement), load_stable_audio(found.audio, placement), bridges)


def join_towers(
    video: VideoParts | None, audio: AudioParts | None, bridges: LoadedBridges | None = None
) -> JoinedModel:
    """Put towers and bridges under one root; fine-tuned blocks of the bridge file go into copies of those blocks.

    Raises:
        InputError: no tower, or towers that were loaded for different places.
        IncompatibleWeightsError: bridges that do not fit the towers.
    """
    sides = [parts for parts in (video, audio) if parts is not None]
    if not sides:
        raise InputError("there is nothing to join", expected="a video tower, an audio tower or both")
    placement = sides[0].placement
    if any(parts.placement != placement for parts in sides):
        raise InputError(
            "the two towers were loaded differently",
            got=f"{video.placement} and {audio.placement}",
            expected="the same dtype, attention and offload on both loaders",
        )
    towers = {"video": video and video.tower, "audio": audio and audio.tower}
    for modality, weights in (bridges.tower_weights if bridges else {}).items():
        if towers[modality] is not None:
            towers[modality] = with_tuned_blocks(towers[modality], weights)
    stack = bridges.stack.to(placement.dtype) if bridges else None
    if stack is not None:
        use_kernel(stack, AttentionKernel(placement.attention))
    joint = JointModel(towers["video"], towers["audio"], stack).eval()
    return JoinedModel(
        joint, video, audio, placement, bridges.summary() if bridges else None, not bridges or bridges.trained
    )


def encode_captions(
    video: VideoParts | UMT5TextEncoder | None,
    audio: AudioParts | T5TextEncoder | None,
    captions: Captions,
    *,
    negatives: Captions = DEFAULT_NEGATIVES,
    seconds: float,
    placement: Placement,
    progress: Progress = SILENT,
) -> Conditioning:
    """Encode one caption a modality, and the negative prompts beside them.

    Args:
        video: Video text encoder (or the parts that hold it); None leaves the modality out.
        audio: Audio text encoder, likewise.
        captions: What is to be seen and heard; empty ones are refused.
        negatives: What is not; may be empty by choice.
        seconds: Length the audio tower is told.
        placement: Where the encoders run.
        progress: Two units.

    Raises:
        InputError: an empty caption.
    """
    encoders = [getattr(side, "text", side) for side in (video, audio)]
    for name, encoder, caption in zip(("video", "audio"), encoders, (captions.video, captions.audio), strict=True):
        if encoder is not None and not caption.strip():
            raise InputError(
                f"the {name} caption is empty",
                expected="a description of what is to be " + ("seen" if name == "video" else "heard"),
            )
    results = [None, None]
    for index, encoder in enumerate(encoders):
        if encoder is not None:
            with on_device(encoder, placement):
                if index == 0:
                    results[0] = encode_video(encoder, captions.video, negatives.video)
                else:
                    results[1] = encode_audio(encoder, captions.audio, negatives.audio, seconds=seconds)
        progress.step("encode", index + 1, 2)
    return Conditioning(*results)


def sample_latents(
    model: JoinedModel,
    conditioning: Conditioning,
    *,
    video_shape: tuple[int, ...] | None,
    audio_shape: tuple[int, ...] | None,
    options: SamplingOptions | None = None,
    progress: Progress = SILENT,
) -> JointLatents:
    """Draw noise and denoise both modalities together.

    Args:
        model: Towers and bridges.
        conditioning: Encoded captions.
        video_shape: ``(B, C, T, H, W)`` or None.
        audio_shape: ``(B, C, L)`` or None.
        options: Steps, scales, seed, schedule.
        progress: One unit a step, with the current estimate as preview.

    Returns:
        Normalised latents, float32, on the CPU.
    """
    options = options or SamplingOptions()
    schedule = build_schedule(
        options.schedule,
        options.num_steps,
        flow_sigmas=options.flow_sigmas,
        flow_shift=options.flow_shift,
        video=video_shape is not None,
        audio=audio_shape is not None,
    )
    guidance = Guidance(options.video_guidance_scale, options.audio_guidance_scale, options.guidance_batching)
    noise = draw_noise(options.seed, video_shape=video_shape, audio_shape=audio_shape)
    with running(model.joint, model.placement) as denoiser:
        return sample(
            denoiser,
            conditioning,
            noise,
            schedule=schedule,
            guidance=guidance,
            seed=options.seed,
            device=model.placement.device,
            dtype=model.placement.dtype,
            latent_dtype=torch.bfloat16 if model.placement.cast_everything else torch.float32,
            progress=progress,
        )


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
        progress: Two units.
    """
    video = audio = None
    if latents.video is not None:
        _require_codec(video_codec, "video")
        with on_device(video_codec, placement):
            video = VideoClip(video_codec.decode(latents.video, tiling=tiling), fps)
    progress.step("decode", 1, 2)
    if latents.audio is not None:
        _require_codec(audio_codec, "audio")
        with on_device(audio_codec, placement):
            audio = AudioClip(audio_codec.decode(latents.audio), audio_codec.sample_rate)
    clip = AVClip(video, audio)
    if clip.num_samples is not None:
        clip = AVClip(video, fit_length(audio, clip.num_samples, fade_seconds=FADE_SECONDS))
    progress.step("decode", 2, 2)
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
    """
    conditioning = encode_captions(
        model.video,
        model.audio,
        captions,
        negatives=negatives,
        seconds=float(timeline.seconds),
        placement=model.placement,
        progress=progress,
    )
    latents = sample_latents(
        model,
        conditioning,
        video_shape=(1, *timeline.video_latent_shape) if model.video else None,
        audio_shape=(1, *timeline.audio_latent_shape) if model.audio else None,
        options=options,
        progress=progress,
    )
    return decode_latents(
        latents,
        video_codec=model.video and model.video.codec,
        audio_codec=model.audio and model.audio.codec,
        fps=timeline.fps,
        placement=model.placement,
        tiling=tiling,
        progress=progress,
    )
