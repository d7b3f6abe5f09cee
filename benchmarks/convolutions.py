"""Decoding a clip of the bundled model on a CPU: with oneDNN's convolutions, as the codec does, and torch's.

    python benchmarks/convolutions.py --rounds 5

Both decode the same latents in turns, so that a busy machine slows both; seconds are CPU seconds. Shown are the
medians, and the median of their ratio within a round.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
from sounding_video.models.codecs import wan_vae

sys.path.insert(0, str(Path(__file__).with_name("pocket")))
from clips import load_pocket

WAYS: dict[str, Callable[[], object]] = {
    "torch's choice": lambda: patch.object(wan_vae, "quick_convolutions", lambda module: nullcontext()),
    "oneDNN": nullcontext,
}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    codec = load_pocket(device="cpu").video.codec
    latents = torch.randn(1, 16, 9, 8, 8, generator=torch.Generator().manual_seed(0))
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(args.rounds + 1):
        for way, context in WAYS.items():
            with context():
                started = time.process_time()
                codec.decode(latents)
                if number:  # the first round warms up
                    taken[way].append(time.process_time() - started)
    ratio = median(theirs / ours for theirs, ours in zip(*taken.values(), strict=True))
    print(f"| convolutions | CPU seconds a clip ({torch.get_num_threads()} threads, torch {torch.__version__}) |")
    print("|---|---:|")
    for way, seconds in taken.items():
        print(f"| {way} | {median(seconds):.3f} |")
    print(f"| ratio | {ratio:.2f} |")


if __name__ == "__main__":
    main()
