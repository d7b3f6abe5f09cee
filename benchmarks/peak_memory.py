"""Foretold against measured memory, stage by stage, and on a graphics card peak and seconds of every plan.

    .venv/bin/python benchmarks/peak_memory.py                    any machine: weights of the real 1.3B sizes a mode
    .venv/bin/python benchmarks/peak_memory.py --device cuda      a card too: every plan at 832×480, 81 frames

Weights are random: they decide nothing here. The stages are the pipeline's own. On a CPU the device is the same memory,
so there (real widths, few blocks; the whole ones are reckoned, on ``meta``) it is kept in a ledger which modules a mode
brings in and leaves behind, and of those that are streamed, what the layers in work hold while all others are out of
the module (``sequential``), or what diffusers' groups have brought in and not yet taken out (``group``, without the
stream that fetches the next one ahead). Peaks of activations are compared by the tests, on small towers.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import torch
from sounding_video.core.clock import Timeline
from sounding_video.core.device import Placement, resolve_placement
from sounding_video.core.progress import Progress
from sounding_video.core.residency import Moving, managed_by
from sounding_video.core.types import Conditioning, JointLatents, ModalityConditioning
from sounding_video.models.bridges.config import BridgeConfig
from sounding_video.models.codecs.oobleck import OobleckCodec
from sounding_video.models.codecs.wan_vae import WanVAECodec
from sounding_video.models.joint import BridgePoints, BridgeStack, JointModel
from sounding_video.models.parts import AudioParts, VideoParts
from sounding_video.models.placement import on_device
from sounding_video.models.plan.fit import noted
from sounding_video.models.plan.needs import Needs, Workload, num_bytes
from sounding_video.models.plan.outline import outline_loaded
from sounding_video.models.plan.plans import Plan, choose, plans
from sounding_video.models.plan.published import outline_shapes
from sounding_video.models.points import placement
from sounding_video.models.storage import store
from sounding_video.models.text._encoder import PromptEncoder
from sounding_video.models.text.t5 import T5TextEncoder
from sounding_video.models.text.umt5 import UMT5TextEncoder
from sounding_video.models.towers.stable_audio import StableAudioTower
from sounding_video.models.towers.wan import WanTower
from sounding_video.pipeline import JoinedModel, SamplingOptions, decode_latents, sample_latents
from torch import nn

REPORT = Path(__file__).with_suffix(".md")
MODES = ("none", "model", "group", "sequential")
NOT_RUN = "Not run: no card was at hand. The same script fills this table with `--device cuda`."
CARDS_GB = (8, 12, 16, 24, 48)
NUM_STEPS = 3
FULL_DEPTH = 30
SMALL = Workload((1, 16, 1, 4, 4), (1, 64, 4))


def real_model(num_blocks: int, device: str = "cpu") -> JoinedModel:
    """Wan 1.3B, Stable Audio Open, 1.3B bridges, UMT5-XXL and T5 with the published widths and codecs, on the CPU.

    Args:
        num_blocks: Blocks a tower and text encoder, or all that they have; fewer ones read short texts.
        device: Draws the numbers; on a CPU they are zeros, which take memory only where they are read.
    """
    from diffusers import (
        AutoencoderKLWan,
        AutoencoderOobleck,
        StableAudioDiTModel,
        StableAudioProjectionModel,
        WanTransformer3DModel,
    )
    from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

    with torch.device("meta"):
        wan = WanTransformer3DModel(num_attention_heads=12, ffn_dim=8960, num_layers=num_blocks)
        audio = StableAudioDiTModel(num_layers=min(num_blocks, 24))
        points = placement("uniform_early") if num_blocks == FULL_DEPTH else BridgePoints((0,), (0,))
        stack = BridgeStack("dual_cross", BridgeConfig(), points)
        umt5 = UMT5EncoderModel(
            UMT5Config(
                vocab_size=256_384, d_model=4096, d_ff=10_240, num_layers=min(num_blocks, 24), num_heads=64, d_kv=64,
                feed_forward_proj="gated-gelu",
            )
        )  # fmt: skip
        t5 = T5EncoderModel(
            T5Config(
                vocab_size=32_128, d_model=768, d_ff=3072, num_layers=min(num_blocks, 12), num_heads=12, d_kv=64
            )
        )  # fmt: skip
        projection = StableAudioProjectionModel(768, 768, 0, 512)
    wan, audio, stack, umt5, t5, projection = (
        _with_numbers(module, device) for module in (wan, audio, stack, umt5, t5, projection)
    )
    joint = JointModel(WanTower(wan), StableAudioTower(audio), stack).eval()
    where = resolve_placement(device="cpu", dtype="bfloat16")
    vae, oobleck = (codec().eval().requires_grad_(False) for codec in (AutoencoderKLWan, AutoencoderOobleck))
    lengths = (1024, 128) if num_blocks == FULL_DEPTH else (8, 8)
    texts = (
        UMT5TextEncoder(None, umt5, lengths[0]),
        T5TextEncoder(SimpleNamespace(model_max_length=lengths[1]), t5, projection),
    )
    video = VideoParts(joint.video, WanVAECodec(vae), texts[0], where, "wan-1.3b")
    return JoinedModel(joint, video, AudioParts(joint.audio, OobleckCodec(oobleck), texts[1], where, "audio"), where)


def _with_numbers(module: nn.Module, device: str) -> nn.Module:
    """A module on ``meta`` with numbers, in bfloat16."""
    module = module.to(torch.bfloat16).to_empty(device=device).eval().requires_grad_(False)
    if hasattr(module, "shared"):
        module.encoder.embed_tokens.weight = module.shared.weight
    for tensor in (*module.parameters(), *module.buffers()):
        if device == "cpu":
            tensor.data = torch.zeros(tensor.shape, dtype=tensor.dtype)
        else:
            tensor.data.normal_(std=0.02)
    return module.to("cpu")


@dataclass(frozen=True)
class Stages:
    """The stages of a run, each to be called with an offload mode.

    Args:
        model: What runs.
        work: The clip.
        num_steps: Denoising steps.
    """

    model: JoinedModel
    work: Workload
    num_steps: int = 1

    @property
    def modules(self) -> tuple[nn.Module, ...]:
        """Everything that a run moves."""
        video, audio = self.model.video, self.model.audio
        return (self.model.joint, video.text, audio.text, video.codec, audio.codec)

    @torch.no_grad()
    def run(self, stage: str, where: Placement, tiling: str = "off") -> float:
        """Run one stage.

        Returns:
            Seconds: of a step of sampling, of any other stage as a whole.

        Raises:
            torch.OutOfMemoryError: also when it went on with another plan, which is not what is measured.
        """
        started = time.perf_counter()
        with noted() as notes:
            seconds = {
                "encode": self._encode,
                "sample": self._sample,
                "decode video": self._decode_video,
                "decode audio": self._decode_audio,
            }[stage](where, tiling)
        if notes:
            raise torch.OutOfMemoryError("; ".join(notes))
        return time.perf_counter() - started if seconds is None else seconds

    def _encode(self, where: Placement, _: str) -> None:
        for encoder in self.modules[1:3]:
            with on_device(encoder, where):
                _read_a_caption(encoder)

    def _sample(self, where: Placement, _: str) -> float:
        texts = [_noise(1, *size) for size in self._text_sizes()]
        video = ModalityConditioning(texts[0], texts[0])
        width = self.model.audio.tower.model.config.global_states_input_dim
        audio = ModalityConditioning(texts[1], texts[1], _noise(1, 1, width))
        times: list[float] = []

        def report(stage: str, done: int, total: int, preview: object = None) -> None:
            times.append(time.perf_counter())

        sample_latents(
            replace(self.model, placement=where),
            Conditioning(video, audio),
            video_shape=self.work.video_shape,
            audio_shape=self.work.audio_shape,
            options=SamplingOptions(num_steps=self.num_steps, guidance_batching="sequential"),
            progress=Progress(report),
        )
        return (times[-1] - times[0]) / max(1, len(times) - 1)

    def _text_sizes(self) -> list[tuple[int, int]]:
        towers = [side.tower.model.config for side in (self.model.video, self.model.audio)]
        widths = (towers[0].text_dim, towers[1].cross_attention_input_dim)
        lengths = [side.text.max_length for side in (self.model.video, self.model.audio)]
        return list(zip(lengths, widths, strict=True))

    def _decode_video(self, where: Placement, tiling: str) -> None:
        self._decode(JointLatents(video=_noise(*self.work.video_shape)), where, tiling)

    def _decode_audio(self, where: Placement, tiling: str) -> None:
        self._decode(JointLatents(audio=_noise(*self.work.audio_shape)), where, tiling)

    def _decode(self, latents: JointLatents, where: Placement, tiling: str) -> None:
        codecs = {"video_codec": self.model.video.codec, "audio_codec": self.model.audio.codec}
        decode_latents(latents, **codecs, fps=Fraction(15), placement=where, tiling=tiling)


def _noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def _read_a_caption(encoder: PromptEncoder) -> None:
    """What an encoder does with a caption, without its tokenizer."""
    ids = torch.zeros(1, encoder.max_length, dtype=torch.int64, device=encoder.device)
    hidden = encoder.model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    if hasattr(encoder, "projection"):
        encoder.projection.text_projection(hidden)


class Ledger(Moving):
    """Keeps account of the weights on the device: modules that are there whole, and layers that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.peak_bytes = 0
        self._whole: dict[nn.Module, int] = {}

    @contextmanager
    def hold(self, module: nn.Module, placement: Placement) -> Iterator[None]:
        """A module comes whole, and stays with offload ``none``."""
        self._whole[module] = num_bytes(module)
        self.peak_bytes = max(self.peak_bytes, sum(self._whole.values()))
        yield
        if placement.offload != "none":
            del self._whole[module]

    @contextmanager
    def stream(self, module: nn.Module, placement: Placement) -> Iterator[None]:
        """Its layers are watched."""
        with watching(module) if placement.offload == "sequential" else watching_groups(module) as peak:
            yield
        self.peak_bytes = max(self.peak_bytes, sum(self._whole.values()) + peak())


@contextmanager
def watching(root: nn.Module) -> Iterator[Callable[[], int]]:
    """Gives the most bytes of weights that layers in work held at once: their own, and those of the modules around."""
    parents = {child: module for module in root.modules() for child in module.children()}
    stay = sum(buffer.nbytes for buffer in root.buffers())
    peak = 0

    def look(leaf: nn.Module) -> None:
        nonlocal peak
        held, module = 0, leaf
        while module is not None:
            held += sum(p.nbytes for p in module.parameters(recurse=False) if not p.is_meta)
            module = parents.get(module)
        peak = max(peak, held)

    # accelerate wraps what it finds, so this forward runs when the weights have come and before they go.
    leaves = [module for module in root.modules() if not list(module.children())]
    for leaf in leaves:
        leaf.forward = lambda *args, _leaf=leaf, _own=leaf.forward, **kwargs: (look(_leaf), _own(*args, **kwargs))[1]
    try:
        yield lambda: peak + stay
    finally:
        for leaf in leaves:
            leaf.__dict__.pop("forward", None)


@contextmanager
def watching_groups(root: nn.Module) -> Iterator[Callable[[], int]]:
    """Gives the most bytes of weights that diffusers' offload groups had brought in at once, with what stays there.

    Tables of modules without parameters are in no group, and neither is what stands directly in a tower.
    """
    from diffusers.hooks.group_offloading import ModuleGroup

    inside: dict[ModuleGroup, int] = {}
    towers = [tower.model for tower in (getattr(root, "video", None), getattr(root, "audio", None)) if tower]
    outside = {*root.buffers(), *(p for tower in towers for p in tower.parameters(recurse=False))}
    bring, take, peak = ModuleGroup.onload_, ModuleGroup.offload_, 0

    def brought(group: ModuleGroup) -> None:
        nonlocal peak
        bring(group)
        tensors = [*group.parameters, *group.buffers]
        for module in group.modules:
            tensors += [*module.parameters(), *module.buffers()]
        inside[group] = sum(tensor.nbytes for tensor in dict.fromkeys(tensors))
        outside.difference_update(tensors)
        peak = max(peak, sum(inside.values()))

    def taken(group: ModuleGroup) -> None:
        take(group)
        inside.pop(group, None)

    ModuleGroup.onload_, ModuleGroup.offload_ = brought, taken
    try:
        yield lambda: peak + sum(tensor.nbytes for tensor in outside)
    finally:
        ModuleGroup.onload_, ModuleGroup.offload_ = bring, take


def resident_rows(model: JoinedModel, work: Workload = SMALL) -> list[tuple[str, str, int, int]]:
    """Mode, stage, foretold and kept account of: bytes of weights, every mode run from stage to stage on a CPU."""
    stages, rows = Stages(model, work), []
    needs = Needs(outline_loaded(model.joint, model.video, model.audio), work)
    for mode in MODES:
        ledger, where = Ledger(), replace(model.placement, offload=mode)
        if mode == "none":  # what a first clip left there
            for module in stages.modules:
                with ledger.hold(module, where):
                    pass
        for stage in needs.stages():
            ledger.peak_bytes = 0
            with managed_by(ledger):
                stages.run(stage, where)
            rows.append((mode, stage, needs.weights_on_device(stage, mode, prefetch=False), ledger.peak_bytes))
    return rows


def published_plans() -> tuple[list[Plan], Needs]:
    """The plans of the whole 1.3B system at the published clip."""
    where = replace(
        resolve_placement(device="cpu", dtype="bfloat16", offload="auto", storage="auto"), device=torch.device("cuda")
    )
    outline = outline_shapes("wan-1.3b", where)
    work = Workload.of(Timeline())
    return plans(lambda storage: outline.stored(storage, torch.bfloat16), work, where), Needs(outline, work)


@dataclass(frozen=True)
class CardRow:
    """One stage of a plan on a card; plans that run a stage in the same way share it.

    Args:
        stage: Which.
        offload: Of the stage's modules; codecs are moved whole in every mode but ``none``.
        storage: How weights are kept.
        tiling: Of the picture.
        foretold_bytes: What the plan says.
        measured_bytes: What torch's allocator held at most; 0 where it ran out of memory, or on a CPU.
        seconds: A step of sampling, or the stage as a whole.
    """

    stage: str
    offload: str
    storage: str
    tiling: str
    foretold_bytes: int
    measured_bytes: int
    seconds: float


def card_rows(model: JoinedModel, work: Workload, candidates: Sequence[Plan], device: torch.device) -> list[CardRow]:
    """Every stage of every plan, run on a device; the model ends up stored as the last plans keep it."""
    stages, rows = Stages(model, work, NUM_STEPS), []
    where = replace(model.placement, device=device)
    for storage in dict.fromkeys(plan.storage for plan in candidates):
        keep_as(model, storage)
        done: set[tuple[str, str, str]] = set()
        for plan in (plan for plan in candidates if plan.storage == storage):
            for peak in plan.stages:
                offload, tiling = _way(plan, peak.stage)
                if (peak.stage, offload, tiling) in done:
                    continue
                done.add((peak.stage, offload, tiling))
                way = replace(where, offload=offload)
                try:
                    with _measured(stages, offload, device) as measured:
                        result = (stages.run(peak.stage, way, tiling), measured())[::-1]
                except torch.OutOfMemoryError:
                    result = (0, 0.0)
                rows.append(CardRow(peak.stage, offload, storage, tiling, peak.bytes, *result))
                print(rows[-1], flush=True)
    return rows


def _way(plan: Plan, stage: str) -> tuple[str, str]:
    """Offload and tiling of a stage, alike where they make no difference."""
    if stage == "encode":
        return plan.text_offload, "off"
    if stage == "sample":
        return plan.offload, "off"
    return "none" if plan.offload == "none" else "model", plan.tiling if stage == "decode video" else "off"


def keep_as(model: JoinedModel, storage: str) -> None:
    """Keep the weights of towers, bridges and text encoders in a storage from now on."""
    where = replace(model.placement, storage=storage)
    sides = (model.video, model.audio)
    for module in (*(side.tower.model for side in sides), model.joint.bridges, *(side.text.model for side in sides)):
        store(module, where)


@contextmanager
def _measured(stages: Stages, offload: str, device: torch.device) -> Iterator[Callable[[], int]]:
    """Gives the most bytes that the block held; with offload ``none`` everything is there before it."""
    for module in stages.modules:
        module.to(device if offload == "none" else "cpu")
    gc.collect()
    if device.type != "cuda":
        yield lambda: 0
        return
    torch.cuda.empty_cache()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    yield torch.cuda.max_memory_allocated
    torch.cuda.synchronize()


def report(
    blocks: int,
    resident: list[tuple[str, str, int, int]],
    card: list[CardRow] | None,
    foretold: tuple[list[Plan], Needs],
) -> str:
    """The tables; ``foretold`` are plans and needs of the whole system."""
    candidates, needs = foretold
    lines = [
        "# Peak memory",
        "",
        f"`benchmarks/peak_memory.py`, torch {torch.__version__}. Sizes in GB (10⁹ bytes); bfloat16, codecs float32.",
        "",
        f"## Weights on the device by mode and stage, real widths, {blocks} blocks a tower and encoder, one bridge",
        "",
        "| offload | stage | foretold | measured | error |",
        "|---|---|---|---|---|",
        *(f"| {mode} | {stage} | {_sizes(expected, kept)} |" for mode, stage, expected, kept in resident),
        "",
        "Kept account of on a CPU, over towers, bridges, text encoders and codecs: the modules that a mode brings in "
        "and leaves there, and of those that are streamed, what the layers in work hold while all other weights are "
        "out of the module (`sequential`) or what diffusers' groups have brought in (`group`; on a card its stream "
        "fetches the next group ahead, which the plan adds). Foretold peaks of activations are held against PyTorch's "
        "record of real allocations in `tests/models/test_plan.py`.",
        "",
        "## Foretold for Wan 1.3B with Stable Audio Open and four bridges, 832×480, 81 frames",
        "",
        "Weights: " + ", ".join(f"{name} {size / 1e9:.2f}" for name, size in needs.weights().items()) + ".",
        "",
        "| offload | text encoders | weights | picture | encode | sample | picture | sound | main memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for plan in candidates:
        peaks = [f"{size / 1e9:.2f}" for size in (*(peak.bytes for peak in plan.stages), plan.host_bytes)]
        lines.append(f"| {' | '.join([plan.offload, plan.text_offload, plan.storage, _tiles(plan.tiling), *peaks])} |")
    native = [plan for plan in candidates if plan.storage == "native"]
    lines += ["", "What `--offload auto` picks:", ""]
    for size in CARDS_GB:
        lines.append(f"- {size} GB free: {choose(native, int(size * 1e9), torch.device('cuda')).sentence}")
    lines += ["", "## On a graphics card, whole towers, 832×480, 81 frames", ""]
    if card is None:
        return "\n".join([*lines, NOT_RUN]) + "\n"
    lines += [
        "| stage | offload | weights | picture | foretold peak | measured peak | error | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in card:
        said = [row.stage, row.offload, row.storage, _tiles(row.tiling) if row.stage == "decode video" else ""]
        lines.append(f"| {' | '.join(said)} | {_sizes(row.foretold_bytes, row.measured_bytes)} | {row.seconds:.2f} |")
    return "\n".join([*lines, "", "Seconds of a step for sampling (two passes), of the whole stage else."]) + "\n"


def _tiles(tiling: str) -> str:
    return "tiles" if tiling == "on" else "whole"


def _sizes(foretold: int, measured: int) -> str:
    error = f"{100 * (foretold - measured) / measured:+.1f} %" if measured else ""
    return f"{foretold / 1e9:.3f} | {measured / 1e9:.3f} | {error}"


def main() -> None:
    """Measure and write the report beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=2, help="blocks a tower on the CPU (default: 2)")
    parser.add_argument("--device", default="cpu", help="cuda also fills the table of a card")
    args = parser.parse_args()
    foretold, card = published_plans(), None
    if args.device != "cpu":
        device = torch.device(args.device)
        card = card_rows(real_model(FULL_DEPTH, args.device), Workload.of(Timeline()), foretold[0], device)
        gc.collect()
    text = report(args.blocks, resident_rows(real_model(args.blocks)), card, foretold)
    REPORT.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
