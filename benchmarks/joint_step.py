"""One joint denoising step against the two stock forwards, side by side in one run.

    python benchmarks/joint_step.py                 # real widths, a quarter of the depth, 2 040 video tokens
    python benchmarks/joint_step.py --preset full --device cuda --dtype bfloat16   # Wan 1.3B, 832×480×81

Every round runs all configurations once, in turn, on the same random weights; the table shows the median over rounds
of time(configuration) / time(stock) within a round, so a busy machine slows both sides of each ratio. Peak memory is
what a step adds to what is resident before it (CPU: resident set, sampled; CUDA: the allocator's peak).
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import StableAudioDiTModel, WanTransformer3DModel
from sounding_video.core.types import Modality
from sounding_video.models.bridges import BRIDGES
from sounding_video.models.joint import BridgePoints, BridgeStack, JointModel
from sounding_video.models.towers.stable_audio import StableAudioTower
from sounding_video.models.towers.wan import WanTower
from sounding_video.models.weights._build import kept_in_float32


@dataclass(frozen=True)
class Preset:
    """Depths and sizes; widths are always those of Wan 1.3B and Stable Audio Open."""

    video_blocks: int
    audio_blocks: int
    points: BridgePoints
    latent: tuple[int, int, int]
    audio_latents: int = 116


PRESETS = {
    # One bridge to 7 video and 6 audio blocks: a little more bridge than published (4 to 30 and 24), so the cost is not
    # understated. 5·17·24 = 2 040 video tokens.
    "quarter": Preset(7, 6, BridgePoints((3,), (2,)), (5, 34, 48)),
    # exactly the published ratio
    "half": Preset(15, 12, BridgePoints((3, 7), (2, 5)), (5, 34, 48)),
    "full": Preset(30, 24, BridgePoints((3, 7, 11, 15), (2, 5, 8, 11)), (21, 60, 104)),
    "smoke": Preset(2, 2, BridgePoints((0,), (0,)), (2, 8, 8), 12),
}


class PeakMemory:
    """Bytes added above the starting point while the block runs."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.bytes = device, 0

    def __enter__(self) -> PeakMemory:
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self.start = torch.cuda.memory_allocated()
        else:
            self.start, self.running = _resident_bytes(), True
            self.thread = threading.Thread(target=self._sample)
            self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated() - self.start
        else:
            self.running = False
            self.thread.join()

    def _sample(self) -> None:
        while self.running:
            self.bytes = max(self.bytes, _resident_bytes() - self.start)
            time.sleep(0.004)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def typed(model: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """In a type, but for what the product keeps in float32 as the stock class asks."""
    kept = kept_in_float32(model, dtype)
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(torch.float32 if kept.intersection(name.split(".")) else dtype)
    return model


def build(preset: Preset, device: torch.device, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """The configurations, by name, each a function that runs one step."""
    torch.manual_seed(0)
    wan = WanTransformer3DModel(num_attention_heads=12, ffn_dim=8960, num_layers=preset.video_blocks)
    audio = StableAudioDiTModel(num_layers=preset.audio_blocks)
    wan, audio = (typed(model, dtype).to(device).eval().requires_grad_(False) for model in (wan, audio))
    video = Modality(
        torch.randn(1, 16, *preset.latent, device=device, dtype=dtype),
        torch.tensor([500], device=device),
        torch.randn(1, 512, 4096, device=device, dtype=dtype),
    )
    sound = Modality(
        torch.randn(1, 64, preset.audio_latents, device=device, dtype=dtype),
        torch.tensor([0.5], device=device),
        torch.randn(1, 128, 768, device=device, dtype=dtype),
        torch.randn(1, 1, 1536, device=device, dtype=dtype),
    )
    towers = WanTower(wan), StableAudioTower(audio)
    rotary = towers[1].rotary(preset.audio_latents + 1, device)

    def stock() -> None:
        wan(video.latents, video.timestep, video.text, return_dict=False)
        audio(sound.latents, sound.timestep, sound.text, sound.duration, rotary, return_dict=False)

    runs: dict[str, Callable[[], object]] = {"stock forwards": stock}
    joint = JointModel(*towers).eval()
    runs["no bridges"] = lambda: joint(video, sound)
    for kind in BRIDGES:
        config = BRIDGES.get(kind).Config()
        stack = BridgeStack(kind, config, preset.points).to(device, dtype).eval().requires_grad_(False)
        bridged = JointModel(*towers, stack).eval()
        runs[kind] = lambda model=bridged: model(video, sound)
    return runs


def measure(runs: dict[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Seconds, ratio to stock and peak of every configuration."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    peaks: dict[str, int] = {}
    with torch.inference_mode():
        for index in range(-1, rounds + 1):  # round -1 touches all memory once, round 0 measures its peak
            for name, run in runs.items():
                memory = PeakMemory(device)
                start = time.perf_counter()
                if index == 0:
                    with memory:
                        run()
                    peaks[name] = memory.bytes
                else:
                    run()
                if device.type == "cuda":
                    torch.cuda.synchronize()
                print(f"round {index}: {name} {time.perf_counter() - start:.2f} s", file=sys.stderr)
                if index > 0:
                    seconds[name].append(time.perf_counter() - start)
    base = seconds["stock forwards"]
    return {
        name: {
            "seconds": statistics.median(times),
            "ratio": statistics.median(t / b for t, b in zip(times, base, strict=True)),
            "peak_mb": peaks[name] / 2**20,
        }
        for name, times in seconds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="quarter")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    device, dtype, preset = torch.device(args.device), getattr(torch, args.dtype), PRESETS[args.preset]
    tokens = preset.latent[0] * (preset.latent[1] // 2) * (preset.latent[2] // 2)
    where = (
        torch.cuda.get_device_name()
        if device.type == "cuda"
        else f"{platform.machine()}, {torch.get_num_threads()} threads"
    )
    title = (
        f"{preset.video_blocks} video blocks, {preset.audio_blocks} audio blocks, {len(preset.points.video)} bridges, "
        f"{tokens} video tokens, {preset.audio_latents + 1} audio tokens, {args.dtype}, {where}, "
        f"torch {torch.__version__}"
    )
    print(title)
    table = measure(build(preset, device, dtype), args.rounds, device)
    print(f"{'configuration':<18} {'seconds':>9} {'× stock':>9} {'peak MiB':>9}")
    for name, row in table.items():
        print(f"{name:<18} {row['seconds']:>9.3f} {row['ratio']:>9.3f} {row['peak_mb']:>9.0f}")
    if args.json:
        args.json.write_text(
            json.dumps({"setup": title, "rounds": args.rounds, "results": table}, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
