"""From two captions to a clip: load, encode, sample, decode. Each stage can be called alone; every node is one stage.

captions ─▶ Conditioning ─▶ JointLatents ─▶ AVClip     (models.joint runs inside the sampler's loop)
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from .core.clock import ClipTimes, LatentGeometry, Timeline
from .core.dialect import caption_notes, read
from .core.errors import InputError
from .core.progress import SILENT, Progress, stoppable
from .core.types import AudioClip, AVClip, Captions, Conditioning, JointLatents, VideoClip
from .media.audio import fit_length
from .media.preview import AffineMap, PreviewMaps, fit_colours, fit_levels
from .models.attention import AttentionKernel, use_kernel
from .models.conditioning import REMEMBERED, ConditioningCache
from .models.encoding import encode_cached
from .models.joint import JointModel
from .models.lora.apply import LoraReport, with_lora
from .models.own import PUBLISHED, OwnSettings, joint_settings
from .models.patching import with_tuned_blocks
from .models.placement import on_device, running
from .models.plan.duration import LONG_SECONDS, sampling_seconds, worded
from .models.plan.fit import note, run_fitting
from .models.plan.needs import Workload
from .models.plan.outline import Outline, outline_loaded
from .models.plan.runs import decoding_audio, decoding_video, forecast, run_codec, sampling, settle, tilings
from .models.storage import store
from .models.weights.bridges import BridgeOptions, LoadedBridges, load_bridges
from .models.weights.find import find_models
from .models.weights.load import load_stable_audio, load_wan
from .sampling.guidance import Guidance, dual_guidance, is_small
from .sampling.loop import sample
from .sampling.noise import draw_noise
from .sampling.schedules import build_schedule

if TYPE_CHECKING:
    from .core.device import Placement
    from .models.codecs.oobleck import OobleckCodec
    from .models.codecs.wan_vae import WanVAECodec
    from .models.lora.files import LoraFile
    from .models.parts import AudioParts, VideoParts
    from .models.plan.plans import Plan
    from .models.text.t5 import T5TextEncoder
    from .models.text.umt5 import UMT5TextEncoder
    from .models.weights.find import ModelSet

log = logging.getLogger(__name__)

FADE_SECONDS = 0.01
_PREVIEW_MAPS: WeakKeyDictionary[torch.nn.Module, AffineMap] = WeakKeyDictionary()
# The published system's negative prompts.
DEFAULT_NEGATIVES = Captions(PUBLISHED.video_negative, PUBLISHED.audio_negative)


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
        loras: What was laid beside the layers, in the order of loading.
    """

    joint: JointModel
    video: VideoParts | None
    audio: AudioParts | None
    placement: Placement
    bridges: str | None = None
    bridges_trained: bool = True
    loras: tuple[LoraReport, ...] = ()

    @property
    def trained(self) -> bool:
        """False when any part is random and only shows the form."""
        return self.bridges_trained and all(parts.trained for parts in (self.video, self.audio) if parts is not None)

    @property
    def own(self) -> OwnSettings:
        """What the towers were made for."""
        return joint_settings(self.video and self.video.own, self.audio and self.audio.own)

    @property
    def geometry(self) -> LatentGeometry:
        """Strides and channels, read from the codecs."""
        return geometry_of(self.video and self.video.codec, self.audio and self.audio.codec)

    @property
    def description(self) -> str:
        """One line for the user."""
        names = [f"{parts.name}" for parts in (self.video, self.audio) if parts is not None]
        told = [" + ".join(names), self.bridges or "no bridges", *(f"LoRA {lora.summary()}" for lora in self.loras)]
        return "; ".join(told) + ("" if self.trained else "; UNTRAINED weights")


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
        video_modality_scale: How far the picture is pushed from what it would be without the sound (LTX-2's modality
            guidance); 1 or less, the published system's, turns it off.
        audio_modality_scale: The same for the sound and without the picture.
    """

    num_steps: int = 50
    video_guidance_scale: float = 6.0
    audio_guidance_scale: float = 6.0
    seed: int = 0
    schedule: str = "lockstep"
    flow_sigmas: str = "diffusers-0.36"
    guidance_batching: str = "auto"
    flow_shift: float = 3.0
    video_modality_scale: float = 1.0
    audio_modality_scale: float = 1.0

    def guidance(self, *, bridged: bool) -> Guidance:
        """The scales.

        Args:
            bridged: Whether the model has bridges; without them a modality cannot be pushed from being alone.
        """
        scales = (self.video_guidance_scale, self.audio_guidance_scale, self.guidance_batching)
        modality_scales = (self.video_modality_scale, self.audio_modality_scale) if bridged else (1.0, 1.0)
        return dual_guidance(*scales, modality_scales=modality_scales)


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
    models: str | Path | ModelSet = "pocket",
    *,
    placement: Placement,
    bridge: str | Path = "auto",
    bridge_options: BridgeOptions | None = None,
    free_text: bool = False,
) -> JoinedModel:
    """Load both towers and the bridges from one folder.

    Args:
        models: ``pocket`` for the bundled model, a folder or a hub id as :func:`find_models` takes it, or what it gave.
        placement: Device, dtype, offload, kernel.
        bridge: A file, ``none``, or ``auto`` for the one beside the towers.
        bridge_options: What a bridge file without metadata does not say.
        free_text: Read the text encoders when they are used and let go of them afterwards.

    Raises:
        MissingModelError, WeightsError: see the messages.
    """
    found = find_models(models)
    chosen = found.bridge if str(bridge) == "auto" else None if str(bridge) == "none" else Path(bridge)
    bridges = load_bridges(chosen, bridge_options) if chosen else None
    video = load_wan(found.video, placement, free_text=free_text)
    return join_towers(video, load_stable_audio(found.audio, placement, free_text=free_text), bridges)


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
    placement = _common_placement([parts.placement for parts in sides])
    towers = {"video": video and video.tower, "audio": audio and audio.tower}
    for modality, weights in (bridges.tower_weights if bridges else {}).items():
        if towers[modality] is not None:
            towers[modality] = with_tuned_blocks(towers[modality], weights)
    stack = bridges.stack.to(placement.dtype) if bridges else None
    if stack is not None:
        # The file's own stack stays as it is: it may be joined again with another storage.
        stack = stack if placement.storage == "native" else store(copy.deepcopy(stack), placement)
        use_kernel(stack, AttentionKernel(placement.attention))
    joint = JointModel(towers["video"], towers["audio"], stack).eval()
    return JoinedModel(
        joint, video, audio, placement, bridges.summary() if bridges else None, not bridges or bridges.trained
    )


def _common_placement(placements: Sequence[Placement]) -> Placement:
    """Where joined towers run; each keeps its weights as it was loaded, be that fp8 on one side only.

    Raises:
        InputError: another difference, which is named; weights packed by a library go with none but their own kind.
    """
    first, last = placements[0], placements[-1]
    names = [field.name for field in fields(first) if getattr(first, field.name) != getattr(last, field.name)]
    storages = {first.storage, last.storage}
    if names == ["storage"] and storages <= {"native", "fp8"}:
        return replace(first, storage="native")  # of what belongs to neither side: the bridges stay exact
    if names:
        raise InputError(
            "the two towers were loaded differently",
            got=", ".join(f"{name} {getattr(first, name)} and {getattr(last, name)}" for name in names),
            expected="the same dtype, attention and offload on both loaders, and the same storage or fp8 with native",
        )
    return first


def add_lora(model: JoinedModel, lora: LoraFile, strength: float = 1.0, *, part: str | None = None) -> JoinedModel:
    """The model with a LoRA beside its layers; the given model stays as it is and shares its weights.

    Args:
        model: With or without LoRAs; the order in which several are added does not matter.
        lora: From :func:`~.models.lora.files.read_lora`.
        strength: Factor of the change.
        part: "video", "audio" or "bridge" to insist on one; None takes the part whose layers the file names.

    Raises:
        InputError, WeightsError: see :func:`~.models.lora.apply.with_lora`.
    """
    joint, report = with_lora(model.joint, lora, strength, part=part)
    return replace(model, joint=joint, loras=(*model.loras, report))


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

    Raises:
        InputError: an empty caption.
    """
    encoders = [getattr(side, "text", side) for side in (video, audio)]
    for name, encoder, caption in zip(("video", "audio"), encoders, (captions.video, captions.audio), strict=True):
        if encoder is not None and not read(caption).plain.strip():
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
    progress: Progress = SILENT,
    times: ClipTimes | None = None,
) -> JointLatents:
    """Draw noise and denoise both modalities together.

    Args:
        model: Towers and bridges.
        conditioning: Encoded captions.
        video_shape: ``(B, C, T, H, W)`` or None.
        audio_shape: ``(B, C, L)`` or None.
        options: Steps, scales, seed, schedule.
        progress: One unit a step, with the current estimate as preview.
        times: When the latent steps lie; None takes it from their numbers.

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
    guidance = options.guidance(bridged=model.joint.bridges is not None)
    noise = draw_noise(options.seed, video_shape=video_shape, audio_shape=audio_shape)

    def attempt(placement: Placement, plan: Plan | None) -> JointLatents:
        with running(model.joint, placement) as denoiser:
            return sample(
                partial(denoiser, times=times or _counted_times(model, video_shape, audio_shape)),
                conditioning,
                noise,
                schedule=schedule,
                guidance=replace(guidance, batching=plan.guidance_batching) if plan else guidance,
                seed=options.seed,
                device=placement.device,
                dtype=placement.dtype,
                latent_dtype=torch.bfloat16 if placement.cast_everything else torch.float32,
                progress=progress,
            )

    run = sampling(
        model.joint,
        _workload(options, video_shape, audio_shape),
        text_lengths=tuple(text.positive.shape[1] if text else 0 for text in (conditioning.video, conditioning.audio)),
        batchings=_batchings(options, video_shape),
    )
    _tell_of_length(model, video_shape, options, progress)
    with stoppable(progress):
        return run_fitting(run, model.placement, attempt)


def _counted_times(
    model: JoinedModel, video_shape: tuple[int, ...] | None, audio_shape: tuple[int, ...] | None
) -> ClipTimes | None:
    """When latent steps lie, by their numbers; None where there is nothing to bring together."""
    return model.geometry.times_from_counts(video_shape[2], audio_shape[2]) if video_shape and audio_shape else None


def _tell_of_length(
    model: JoinedModel, video_shape: tuple[int, ...] | None, options: SamplingOptions, progress: Progress
) -> None:
    slow = long_run_note(model, video_shape, options)
    if slow:
        note(slow)
        progress.tell(slow)


def _workload(
    options: SamplingOptions, video_shape: tuple[int, ...] | None, audio_shape: tuple[int, ...] | None
) -> Workload:
    scales = (options.video_guidance_scale, options.audio_guidance_scale)
    return Workload(video_shape, audio_shape, guided=max(scales) > 1)


def _batchings(options: SamplingOptions, video_shape: tuple[int, ...] | None) -> tuple[str, ...]:
    """Ways of guidance that the planner may choose from, fastest first."""
    if options.guidance_batching != "auto":
        return (options.guidance_batching,)
    return ("batched", "sequential") if is_small(video_shape) else ("sequential",)


def _planning(
    model: JoinedModel, timeline: Timeline, options: SamplingOptions, tiling: str
) -> tuple[tuple[Outline, Workload, Placement], dict[str, tuple[str, ...]]]:
    """What the planner asks of a run: the outline, the shapes and the placement, and the ways that are open."""
    video_shape = (1, *timeline.video_latent_shape) if model.video else None
    audio_shape = (1, *timeline.audio_latent_shape) if model.audio else None
    work = _workload(options, video_shape, audio_shape)
    ways = {
        "batchings": _batchings(options, video_shape),
        "tilings": tilings(timeline.width * timeline.height, tiling),
    }
    return (outline_loaded(model.joint, model.video, model.audio), work, model.placement), ways


def settled(
    model: JoinedModel, timeline: Timeline, options: SamplingOptions, *, tiling: str = "auto"
) -> tuple[JoinedModel, str]:
    """Model and tiling with offload ``auto`` decided as far as the whole run shows it (:func:`.runs.settle`).

    Raises:
        PlacementError: no plan fits the device's memory.
    """
    if model.placement.offload != "auto":
        return model, tiling
    run, ways = _planning(model, timeline, options, tiling)
    placement, tiling = settle(*run, **ways) or (model.placement, tiling)
    return replace(model, placement=placement), tiling


def forecast_of(model: JoinedModel, timeline: Timeline | None = None) -> dict[str, Any]:
    """Whether a clip fits the memory, and how long it takes (:func:`~.models.plan.runs.forecast`).

    Args:
        model: Towers, bridges, codecs.
        timeline: The clip; None is what the model was made for.
    """
    own = model.own
    timeline = timeline or Timeline(own.num_frames, own.fps, own.width, own.height, model.geometry)
    run, ways = _planning(model, timeline, SamplingOptions(), "auto")
    clip = {"frames": timeline.num_frames, "width": timeline.width, "height": timeline.height}
    told = forecast(*run, **ways, num_steps=own.num_steps)
    size = f"{timeline.num_frames} frames of {timeline.width}×{timeline.height}"
    return {"clip": clip, **told, "sentence": f"{size}: {told['sentence']}"}


def long_run_note(model: JoinedModel, video_shape: tuple[int, ...] | None, options: SamplingOptions) -> str:
    """A sentence where sampling takes longer than ten minutes here, to be told before it begins; else empty.

    Args:
        model: Whose video tower takes the time.
        video_shape: Latent ``(B, C, T, H, W)`` or None.
        options: Steps and scales.
    """
    if model.video is None or video_shape is None:
        return ""
    pushed = model.joint.bridges is not None and options.video_modality_scale > 1
    guided = max(options.video_guidance_scale, options.audio_guidance_scale) > 1
    passes = options.num_steps * (1 + guided + pushed)
    seconds = sampling_seconds(model.joint.video, video_shape, model.placement, passes=passes)
    if seconds < LONG_SECONDS:
        return ""
    own, frames = model.own, model.video.codec.temporal_stride * (video_shape[2] - 1) + 1
    height, width = (side * model.video.codec.spatial_stride for side in video_shape[3:])
    larger = width * height * frames > own.width * own.height * own.num_frames
    made_for = f"; this model was made for {own.extent}" if own.is_noted and larger else ""
    told = f"sampling {frames} frames of {width}×{height} in {options.num_steps} steps takes {worded(seconds)}"
    return f"{told} on {model.placement.device}{made_for}"


def clip_note(video: VideoParts | None, audio: AudioParts | None, timeline: Timeline, num_clips: int = 1) -> str:
    """A sentence where clips of this size take long to sample or do not fit the memory; else empty.

    Args:
        video: Loaded video side; without it nothing takes long.
        audio: Loaded audio side.
        timeline: One clip.
        num_clips: Made at once.
    """
    if video is None:
        return ""
    fitting = audio if audio is not None and audio.placement == video.placement else None
    model = JoinedModel(JointModel(video.tower, fitting and fitting.tower), video, fitting, video.placement)
    shape, own = (num_clips, *timeline.video_latent_shape), model.own
    if not sampling_seconds(video.tower, shape, model.placement, passes=2 * own.num_steps):
        return ""
    told = forecast_of(model, timeline)
    return long_run_note(model, shape, SamplingOptions(num_steps=own.num_steps)) if told["fits"] else told["sentence"]


def preview_maps(model: JoinedModel, progress: Progress = SILENT) -> PreviewMaps:
    """The maps that show latents while they are sampled, fitted once a codec and kept as long as it lives.

    To be called before the sampler fills the device.

    Args:
        model: Whose codecs make and read the latents.
        progress: Told as stage ``preview``; one unit a block of each codec that is not known yet.
    """
    maps = []
    for parts, fit in ((model.video, fit_colours), (model.audio, fit_levels)):
        if parts is not None and parts.codec not in _PREVIEW_MAPS:
            with stoppable(progress), on_device(parts.codec, model.placement):
                _PREVIEW_MAPS[parts.codec] = fit(parts.codec, progress.told_as("preview"))
        maps.append(parts and _PREVIEW_MAPS[parts.codec])
    audio = model.audio and model.audio.codec
    return PreviewMaps(*maps, audio and audio.hop / audio.sample_rate)


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
    _tell_of_length(model, (1, *timeline.video_latent_shape), options, progress)
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
