"""Foretold against measured memory, and on a graphics card peak and seconds per step of every plan.

    .venv/bin/python benchmarks/peak_memory.py                    any machine: weights of the real 1.3B sizes a mode
    .venv/bin/python benchmarks/peak_memory.py --device cuda      a card: every plan at 832×480, 81 frames

Weights are random: they decide nothing here. On a CPU the device is the same memory, so there the towers (real
widths, few blocks; the whole ones are reckoned, on ``meta``) are weighed by what the process grows by, and in
``sequential``, where weights at rest are taken out of the module, by what the layers in work hold, and in ``group`` by
the groups that diffusers has brought in and not yet taken out (without the stream that fetches the next one ahead).
Peaks of activations are compared by the tests, on small towers.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import torch
from sounding_video.core.clock import Timeline
from sounding_video.core.device import resolve_placement
from sounding_video.core.types import Modality
from sounding_video.models.bridges.base import BridgeConfig
from sounding_video.models.joint import BridgePoints, BridgeStack, JointModel
from sounding_video.models.placement import running
from sounding_video.models.plan.needs import Needs, Workload, num_bytes, streamed_bytes
from sounding_video.models.plan.outline import outline_shapes, without_weights
from sounding_video.models.plan.plans import Plan, choose, plans
from sounding_video.models.points import placement
from sounding_video.models.towers.stable_audio import StableAudioTower
from sounding_video.models.towers.wan import WanTower
from torch import nn

REPORT = Path(__file__).with_suffix(".md")
MODES = ("none", "model", "group", "sequential")
NOT_RUN = "Not run: no card was at hand. The same script fills this table with `--device cuda`."
CARDS_GB = (8, 12, 16, 24, 48)
NUM_STEPS = 3
FULL_DEPTH = 30


def real_joint(num_blocks: int, device: str) -> JointModel:
    """Wan 1.3B, Stable Audio Open and 1.3B bridges with the published widths and ``num_blocks`` blocks a tower."""
    from diffusers import StableAudioDiTModel, WanTransformer3DModel

    with torch.device("meta"):
        wan = WanTransformer3DModel(num_attention_heads=12, ffn_dim=8960, num_layers=num_blocks)
        audio = StableAudioDiTModel(num_layers=min(num_blocks, 24))
        points = placement("uniform_early") if num_blocks == FULL_DEPTH else BridgePoints((0,), (0,))
        stack = BridgeStack("dual_cross", BridgeConfig(), points)
        joint = JointModel(WanTower(wan), StableAudioTower(audio), stack).to(torch.bfloat16).eval()
    joint.to_empty(device=device)
    for tensor in (*joint.parameters(), *joint.buffers()):
        tensor.data.normal_(std=0.02)
    return joint.requires_grad_(False)


def small_inputs() -> tuple[Modality, Modality]:
    """A few tokens: weights are measured here, not activations."""
    like = {"dtype": torch.bfloat16}
    return (
        Modality(torch.zeros(1, 16, 1, 4, 4, **like), torch.tensor([500.0]), torch.zeros(1, 8, 4096, **like)),
        Modality(
            torch.zeros(1, 64, 4, **like),
            torch.tensor([0.5]),
            torch.zeros(1, 8, 768, **like),
            torch.zeros(1, 1, 1536, **like),
        ),
    )


@contextmanager
def watching(joint: JointModel) -> Iterator[Callable[[], int]]:
    """Gives the most bytes of weights that layers in work held at once: their own, and those of the modules around."""
    parents = {child: module for module in joint.modules() for child in module.children()}
    stay = sum(buffer.nbytes for buffer in joint.buffers())
    peak, forwards = 0, {}

    def look(leaf: nn.Module) -> None:
        nonlocal peak
        held, module = 0, leaf
        while module is not None:
            held += sum(p.nbytes for p in module.parameters(recurse=False) if not p.is_meta)
            module = parents.get(module)
        peak = max(peak, held)

    for leaf in (module for module in joint.modules() if not list(module.children())):
        name = "_old_forward" if hasattr(leaf, "_old_forward") else "forward"
        forwards[leaf, name] = own = getattr(leaf, name)
        setattr(leaf, name, lambda *args, _leaf=leaf, _own=own, **kwargs: (look(_leaf), _own(*args, **kwargs))[1])
    try:
        yield lambda: peak + stay
    finally:
        for (leaf, name), forward in forwards.items():
            setattr(leaf, name, forward)


@contextmanager
def watching_groups() -> Iterator[Callable[[], int]]:
    """Gives the most bytes of weights that diffusers' offload groups had brought in at once."""
    from diffusers.hooks.group_offloading import ModuleGroup

    inside: dict[ModuleGroup, int] = {}
    bring, take, peak = ModuleGroup.onload_, ModuleGroup.offload_, 0

    def brought(group: ModuleGroup) -> None:
        nonlocal peak
        bring(group)
        tensors = [*group.parameters, *group.buffers]
        for module in group.modules:
            tensors += [*module.parameters(), *module.buffers()]
        inside[group] = sum(tensor.nbytes for tensor in dict.fromkeys(tensors))
        peak = max(peak, sum(inside.values()))

    def taken(group: ModuleGroup) -> None:
        take(group)
        inside.pop(group, None)

    ModuleGroup.onload_, ModuleGroup.offload_ = brought, taken
    try:
        yield lambda: peak
    finally:
        ModuleGroup.onload_, ModuleGroup.offload_ = bring, take


def resident_rows(num_blocks: int) -> list[tuple[str, int, int]]:
    """Mode, foretold and measured bytes of weights during sampling."""
    process = psutil.Process()
    real_joint(1, "cpu")  # what the libraries themselves take on first use
    gc.collect()
    before = process.memory_info().rss
    joint = real_joint(num_blocks, "cpu")
    grown = process.memory_info().rss - before
    whole, streamed = num_bytes(joint), streamed_bytes([joint.video, joint.audio, joint.bridges])
    where = replace(resolve_placement(device="cpu", dtype="bfloat16"), offload="sequential")
    with torch.no_grad(), running(joint, where) as model, watching(model) as peak:
        model(*small_inputs())
        held = peak()
    with torch.no_grad(), watching_groups() as peak, running(joint, replace(where, offload="group")) as model:
        model(*small_inputs())
        grouped = peak()
    rows = [("none", whole, grown), ("model", whole, grown), ("group", streamed, grouped)]
    return [*rows, ("sequential", streamed, held)]


def published_plans() -> tuple[list[Plan], Needs]:
    """The plans of the whole 1.3B system at the published clip."""
    where = replace(
        resolve_placement(device="cpu", dtype="bfloat16", offload="auto", storage="auto"), device=torch.device("cuda")
    )
    outline = outline_shapes("wan-1.3b", where)
    work = Workload.of(Timeline())
    return plans(lambda storage: outline.stored(storage, torch.bfloat16), work, where), Needs(outline, work)


def gpu_rows(device: str) -> list[tuple[str, float, float, float]]:
    """Mode, foretold and measured peak in bytes and seconds a step, of the whole towers on a card."""
    joint, rows = real_joint(FULL_DEPTH, "cpu"), []
    work = Workload.of(Timeline())
    outline = replace(
        outline_shapes("wan-1.3b", resolve_placement(device="cpu", dtype="bfloat16")), joint=without_weights(joint)
    )
    needs = Needs(outline, work)
    like = {"dtype": torch.bfloat16, "device": device}
    video = Modality(
        torch.zeros(work.video_shape, **like), torch.tensor([500.0], device=device), torch.zeros(1, 1024, 4096, **like)
    )
    audio = Modality(
        torch.zeros(work.audio_shape, **like),
        torch.tensor([0.5], device=device),
        torch.zeros(1, 128, 768, **like),
        torch.zeros(1, 1, 1536, **like),
    )
    where = resolve_placement(device=device, dtype="bfloat16")
    with torch.no_grad():
        for mode in MODES:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            with running(joint, replace(where, offload=mode)) as model:
                model(video, audio)
                torch.cuda.synchronize()
                started = time.perf_counter()
                for _ in range(2 * NUM_STEPS):  # two guidance passes a step
                    model(video, audio)
                torch.cuda.synchronize()
            seconds = (time.perf_counter() - started) / NUM_STEPS
            weights = (
                num_bytes(joint)
                if mode in ("none", "model")
                else needs.weights_on_device("sample", mode, prefetch=True)
            )
            foretold = weights + needs.activations("sample")
            rows.append((mode, foretold, torch.cuda.max_memory_allocated(), seconds))
            joint.to("cpu")
    return rows


def report(blocks: int, resident: list[tuple[str, int, int]], gpu: list[tuple[str, float, float, float]] | None) -> str:
    """The tables."""
    candidates, needs = published_plans()
    lines = [
        "# Peak memory",
        "",
        f"`benchmarks/peak_memory.py`, torch {torch.__version__}. Sizes in GB (10⁹ bytes); bfloat16, codecs float32.",
        "",
        f"## Weights in memory while sampling, real widths, {blocks} blocks a tower and one bridge",
        "",
        "| offload | foretold | measured | error |",
        "|---|---|---|---|",
    ]
    for mode, foretold, measured in resident:
        error = f"{100 * (foretold - measured) / measured:+.1f} %"
        lines.append(f"| {mode} | {foretold / 1e9:.3f} | {measured / 1e9:.3f} | {error} |")
    lines += [
        "",
        "Measured on a CPU: what the process grew by (`none`, `model`), and what the layers in work hold while all "
        "other weights are out of the module (`sequential`) or what diffusers' groups have brought in (`group`; on "
        "a card its stream fetches the next group ahead, which the plan adds). Foretold peaks of activations are held "
        "against PyTorch's record of real allocations in `tests/models/test_plan.py`.",
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
        tiles = "tiles" if plan.tiling == "on" else "whole"
        lines.append(f"| {' | '.join([plan.offload, plan.text_offload, plan.storage, tiles, *peaks])} |")
    native = [plan for plan in candidates if plan.storage == "native"]
    lines += ["", "What `--offload auto` picks:", ""]
    for size in CARDS_GB:
        lines.append(f"- {size} GB free: {choose(native, int(size * 1e9), torch.device('cuda')).sentence}")
    lines += ["", "## On a graphics card, whole towers, 832×480, 81 frames", ""]
    if gpu is None:
        lines.append(NOT_RUN)
    else:
        lines += ["| offload | foretold peak | measured peak | error | seconds a step |", "|---|---|---|---|---|"]
        lines += [
            f"| {mode} | {a / 1e9:.2f} | {b / 1e9:.2f} | {100 * (a - b) / b:+.1f} % | {seconds:.2f} |"
            for mode, a, b, seconds in gpu
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the report beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=2, help="blocks a tower on the CPU (default: 2)")
    parser.add_argument("--device", default="cpu", help="cuda also fills the table of a card")
    args = parser.parse_args()
    gpu = gpu_rows(args.device) if args.device != "cpu" else None
    text = report(args.blocks, resident_rows(args.blocks), gpu)
    REPORT.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
