"""What ``--compile`` gives: joint steps of the bundled model, compiled and not, in turn on the same machine.

    python benchmarks/compiled.py                  # the CPU
    python benchmarks/compiled.py --device cuda

The first compiled step, in which the compiler works, is told by itself. Of the others the table has the median over
rounds, and the median of time(compiled) / time(as they are) within a round, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch
from sounding_video.core.device import resolve_placement
from sounding_video.core.types import Modality
from sounding_video.models.compiled import compiled
from sounding_video.models.joint import JointModel
from sounding_video.pipeline import load_models


def inputs_of(joint: JointModel, device: torch.device) -> tuple[Modality, Modality]:
    """A clip of the bundled model: 33 frames of 64×64 and their sound."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device, joint.video.dtype)

    video, audio = joint.video, joint.audio
    return (
        Modality(draw(1, 16, 9, 8, 8), torch.tensor([500.0], device=device), draw(1, 512, video.text_width)),
        Modality(
            draw(1, 64, 48),
            torch.tensor([0.5], device=device),
            draw(1, 128, audio.text_width),
            draw(1, 1, audio.duration_width),
        ),
    )


def seconds_of(step: Callable[[], object], device: torch.device) -> float:
    """By the clock."""
    started = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


@torch.no_grad()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    placement = resolve_placement(device=args.device)
    model = load_models(placement=placement)
    joint, device = model.root.to(placement.device), placement.device
    inputs = inputs_of(joint, device)
    ways = {"as they are": nullcontext, "compiled": lambda: compiled(joint, print)}
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(args.rounds + 1):
        for way, context in ways.items():
            with context():
                seconds = seconds_of(lambda: joint(*inputs), device)
            if number:
                taken[way].append(seconds)
            elif way == "compiled":
                print(f"first compiled step: {seconds:.1f} s")
    ratio = statistics.median(b / a for a, b in zip(taken["as they are"], taken["compiled"], strict=True))
    print(
        f"| blocks | seconds a step ({device}, {torch.get_num_threads()} threads, torch {torch.__version__}) |"
        "\n|---|---|"
    )
    for way, each in taken.items():
        print(f"| {way} | {statistics.median(each):.4f} |")
    print(f"| compiled / as they are | {ratio:.3f} |")


if __name__ == "__main__":
    main()
