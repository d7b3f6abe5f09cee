"""The rows of ``card.py``: every way in which the product uses a card, one after the other, the short ones first."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from card_bench import Bench, Measured, timeline_of
from sounding_video.core.device import ATTENTION_KERNELS, OFFLOAD_MODES, STORAGES
from sounding_video.core.errors import MissingPackageError
from sounding_video.core.optional import available
from sounding_video.core.pair import Pair
from sounding_video.core.progress import Progress
from sounding_video.core.types import AVClip, JointLatents, VideoClip
from sounding_video.models.attention import AttentionKernel, StableAudioKernelProcessor, kernel_error, use_kernel
from sounding_video.models.clip_decoding import decode_clip
from sounding_video.models.clip_encoding import encode_clip
from sounding_video.models.placement import on_device
from sounding_video.models.plan.runs import decoding_audio, decoding_both, decoding_video, encoding, encoding_video
from sounding_video.models.storage import PACKAGES, require_storage, store
from sounding_video.sampling.cache import PRESETS
from sounding_video.sampling.given import Given
from sounding_video.sampling.options import SamplingOptions
from torch import nn

NEEDED = {"xformers": "xformers", "flash": "flash_attn", "sage": "sageattention"}
ALONE = {"video_guidance_scale": 1.0, "audio_guidance_scale": 1.0}
# Latent frames of a picture that is de- and encoded: from the third one on each takes the same.
CODED_FRAMES = 4
CACHED_STEPS = 12


@dataclass(frozen=True)
class Row:
    """One way to use a card.

    Args:
        group: What it is about.
        name: Which way.
        run: Measures it.
        passes: About how many stock forwards it takes, for the time that is left.
        seconds: What it takes beside them.
        card_only: Why it does not run on a CPU; empty where it does.
    """

    group: str
    name: str
    run: Callable[[Bench], Measured]
    passes: float = 8
    seconds: float = 4
    card_only: str = ""


def all_rows() -> Iterator[Row]:
    """All of them."""
    yield Row("step", "stock Wan, one forward", stock, passes=4)
    yield Row("step", "joint step, one pass", joint_step)
    for name in ATTENTION_KERNELS:
        why = f"the kernel of {NEEDED[name]} runs on cards" if name in NEEDED else ""
        yield Row("attention", name, partial(attention, name=name), card_only=why)
    for batching in ("sequential", "batched"):
        yield Row("guidance", f"two passes, {batching}", partial(guided, batching=batching), passes=14)
    for mode in OFFLOAD_MODES:
        yield Row("offload", mode, partial(offload, mode=mode), seconds=12)
    yield Row("task", "sound for a given picture", partial(task, given="video"))
    yield Row("task", "picture for a given sound", partial(task, given="audio"))
    for tiling in ("off", "2 tiles", "3 tiles", "on"):
        yield Row("picture's codec", f"decode, tiling {tiling}", partial(decode, tiling=tiling), seconds=8)
    yield Row("picture's codec", "encode, tiling off", partial(encode, tiling="off"), seconds=8)
    yield Row("picture's codec", "encode, tiling on", partial(encode, tiling="on"), seconds=8)
    yield Row("sound's codec", "decode", decode_sound)
    for storage in STORAGES:
        if storage not in ("native", "auto"):
            yield Row("weights", storage, partial(stored, storage=storage), seconds=20)
    for name in PRESETS:
        yield Row("step cache", name, partial(cached, name=name), passes=CACHED_STEPS)
    yield Row("PAV-DiT", "sampling step", planes_step)
    yield Row("PAV-DiT", "decode both", planes_decode)
    for mode in ("model", "group", "sequential"):
        yield Row("captions", f"encode, offload {mode}", partial(captions, mode=mode), passes=0, seconds=12)
    yield Row("training", "bridges, one clip", training, passes=16, seconds=45)
    yield Row("compiled", "blocks, inductor", compiled_step, seconds=120)


def stock(bench: Bench) -> Measured:
    """What all others are held against."""
    bench.only(bench.model.joint.video)
    bench.meter.start()
    seconds = bench.stock()
    return Measured(seconds, 1.0, bench.meter.peak())


def joint_step(bench: Bench) -> Measured:
    """Both towers and the bridges, without guidance, as the product samples."""
    return _sampling(bench, SamplingOptions(num_steps=3, **ALONE))


def _sampling(bench: Bench, options: SamplingOptions, **how: object) -> Measured:
    foretold = bench.foretold_sampling(bench.placement, options)
    return bench.beside_stock(lambda: bench.sampled(bench.placement, options, **how), foretold)


def attention(bench: Bench, name: str) -> Measured:
    """A kernel in towers and bridges, and how far it is from exact attention."""
    package = NEEDED.get(name)
    if package and not available(package):
        raise MissingPackageError(f"attention {name} needs the package {package!r}")
    error = kernel_error(name, bench.device, bench.placement.dtype)
    options = SamplingOptions(num_steps=3, **ALONE)
    where = replace(bench.placement, attention=name)

    def step() -> float:
        with with_kernel(bench.model.joint, name):
            return bench.sampled(where, options)

    found = bench.beside_stock(step, bench.foretold_sampling(where, options))
    return replace(found, said=f"off by {error:.2%} from attention in float32")


@contextmanager
def with_kernel(joint: nn.Module, name: str) -> Iterator[None]:
    """A kernel for as long as the block runs; stock forwards before and behind it take their own."""
    processors = [(child, child.processor) for child in joint.modules() if hasattr(child, "processor")]
    backends = [(each, each._attention_backend) for _, each in processors if hasattr(each, "_attention_backend")]
    kernels = [
        (child, child.kernel)
        for child in joint.modules()
        if isinstance(getattr(child, "kernel", None), AttentionKernel)
    ]
    try:
        use_kernel(joint, AttentionKernel(name))
        yield
    finally:
        for child, processor in processors:
            if isinstance(child.processor, StableAudioKernelProcessor):
                child.set_processor(processor)
        for processor, backend in backends:
            processor._attention_backend = backend
        for child, kernel in kernels:
            child.kernel = kernel


def guided(bench: Bench, batching: str) -> Measured:
    """Guidance by text: two passes a step."""
    return _sampling(bench, SamplingOptions(num_steps=3, guidance_batching=batching))


def offload(bench: Bench, mode: str) -> Measured:
    """Weights that come and go; a step without guidance."""
    where, options = replace(bench.placement, offload=mode), SamplingOptions(num_steps=3, **ALONE)
    foretold = bench.foretold_sampling(where, options)
    return bench.beside_stock(lambda: bench.sampled(where, options), foretold, away=mode != "none")


def task(bench: Bench, given: str) -> Measured:
    """One side is known."""
    known = Given(bench.noise(*bench.shapes[given]).float())
    return _sampling(bench, SamplingOptions(num_steps=3, **ALONE), given=Pair(**{given: known}))


def stored(bench: Bench, storage: str) -> Measured:
    """Weights of towers and bridges in fewer bits."""
    where = require_storage(replace(bench.placement, storage=storage, offload="model"))
    bench.only()
    bench.model.joint.forget_tables()
    joint = copy.deepcopy(bench.model.joint)
    for part in (joint.video.model, joint.audio.model, joint.bridges):
        store(part, where)
    twin, options = replace(bench.model, joint=joint), SamplingOptions(num_steps=3, **ALONE)
    foretold = bench.foretold_sampling(where, options, twin)
    found = bench.beside_stock(lambda: bench.sampled(where, options, twin), foretold, away=True)
    return replace(found, said=f"needs {PACKAGES[storage]}" if storage in PACKAGES else "")


def cached(bench: Bench, name: str) -> Measured:
    """Steps of a run of which some are not computed; by step, over the whole run."""
    options = SamplingOptions(num_steps=CACHED_STEPS, step_cache=name, **ALONE)
    told: list[str] = []
    found = _sampling(bench, options, tell=told.append)
    return replace(found, said=next((each for each in told if each.startswith("step cache")), ""))


def training(bench: Bench) -> Measured:
    """See :mod:`card_training`, whose packages a machine may lack."""
    from card_training import training_step

    return training_step(bench)


def compiled_step(bench: Bench) -> Measured:
    """Blocks compiled by region; the first step, in which the compiler works, is told by itself."""
    options, told = SamplingOptions(num_steps=3, compile=True, **ALONE), []
    bench.only(bench.model.joint)
    started = time.perf_counter()
    bench.sampled(bench.placement, replace(options, num_steps=1), tell=told.append)
    first = time.perf_counter() - started
    found = _sampling(bench, options, tell=told.append)
    failed = next((each for each in told if "as they are" in each or "not compiled" in each), "")
    if failed:
        raise RuntimeError(failed)
    return replace(found, said=f"compiling took {first:.0f} s")


def decode(bench: Bench, tiling: str) -> Measured:
    """Latents of few frames to pictures."""
    shape, codec = _few_frames(bench), bench.model.video.codec
    foretold = bench.foretold(
        lambda: decoding_video((bench.outlined or bench.model).video.codec, shape, tiling), bench.placement
    )
    latents = JointLatents(bench.noise(*shape).float(), None)
    return _coded(bench, codec, foretold, lambda: _decoded(bench, latents, Pair(codec), tiling))


def encode(bench: Bench, tiling: str) -> Measured:
    """Pictures to latents."""
    shape, codec = _few_frames(bench), bench.model.video.codec
    foretold = bench.foretold(
        lambda: encoding_video((bench.outlined or bench.model).video.codec, shape, tiling), bench.placement
    )
    timeline = replace(bench.timeline, num_frames=codec.temporal_stride * (shape[2] - 1) + 1)
    frames = torch.full((timeline.num_frames, timeline.height, timeline.width, 3), 0.5)
    clip = AVClip(VideoClip(frames, timeline.fps), None)
    rest = {"placement": bench.placement, "tiling": tiling, "progress": Progress(check_cancelled=bench.clock.check)}
    run = partial(encode_clip, clip, timeline, video_codec=codec, audio_codec=None, **rest)
    return _coded(bench, codec, foretold, run)


def _few_frames(bench: Bench) -> tuple[int, ...]:
    rows, channels, frames, *size = bench.shapes.video
    return rows, channels, min(frames, CODED_FRAMES), *size


def _decoded(bench: Bench, latents: JointLatents, codecs: Pair, tiling: str = "off") -> None:
    progress = Progress(check_cancelled=bench.clock.check)
    decode_clip(latents, codecs, fps=bench.timeline.fps, placement=bench.placement, tiling=tiling, progress=progress)


def _coded(bench: Bench, codec: nn.Module, foretold: int, run: Callable[[], object]) -> Measured:
    bench.only()
    bench.require(foretold)
    bench.only(codec)
    with torch.no_grad(), bench.timed() as taken:
        run()
    seconds, peak = taken()
    return Measured(
        seconds, None, peak, foretold, f"{CODED_FRAMES} latent frames" if codec is bench.model.video.codec else ""
    )


def decode_sound(bench: Bench) -> Measured:
    """Latents of the whole clip to a waveform."""
    shape, codec = bench.shapes.audio, bench.model.audio.codec
    foretold = bench.foretold(
        lambda: decoding_audio((bench.outlined or bench.model).audio.codec, shape), bench.placement
    )
    latents = JointLatents(None, bench.noise(*shape).float())
    return _coded(bench, codec, foretold, lambda: _decoded(bench, latents, Pair(None, codec)))


def planes_step(bench: Bench) -> Measured:
    """PAV-DiT's own clip, without guidance, beside a stock Wan forward of ours."""
    planes, options = _planes(bench), SamplingOptions(num_steps=3, schedule="coupled", solver="euler", **ALONE)
    foretold = bench.foretold_sampling(bench.placement, options, planes)
    return bench.beside_stock(lambda: bench.sampled(bench.placement, options, planes), foretold, away=True)


def planes_decode(bench: Bench) -> Measured:
    """Both sides by its autoencoder."""
    planes = _planes(bench)
    whole, shapes = planes.codecs.video.whole, planes.shapes(timeline_of(planes))
    foretold = bench.foretold(lambda: decoding_both(whole, *shapes), bench.placement)
    latents = JointLatents(*(bench.noise(*shape).float() for shape in shapes))
    return _coded(bench, whole, foretold, lambda: _decoded(bench, latents, planes.codecs))


def _planes(bench: Bench) -> nn.Module:
    if bench.planes is None:
        raise MissingPackageError("there is no PAV-DiT on this bench")
    return bench.planes


def captions(bench: Bench, mode: str) -> Measured:
    """A caption of each side through its text encoder."""
    where = replace(bench.placement, offload=mode)
    planned = (bench.outlined or bench.model).texts
    foretold = max(bench.foretold(partial(encoding, encoder), where) for encoder in planned)
    bench.only()
    bench.require(foretold)
    with torch.no_grad(), bench.timed() as taken:
        for encoder in bench.model.texts:
            ids = torch.zeros(1, encoder.max_length, dtype=torch.int64, device=bench.device)
            with on_device(encoder, where):
                hidden = encoder.model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state
                if hasattr(encoder, "projection"):
                    encoder.projection.text_projection(hidden)
    seconds, peak = taken()
    return Measured(seconds, None, peak, foretold, "one caption each, their weights' way among it")
