"""How long the lexicon backend takes for a prompt: anchors, and both captions in both profiles.

python benchmarks/lexicon_speed.py                       # the labelled prompts of the tests
python benchmarks/lexicon_speed.py --prompts FILE.tsv    # any table with the prompts in its second column
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from sounding_video.captions.backends import make_backend
from sounding_video.captions.profiles import PROFILES

LABELLED = Path(__file__).resolve().parents[1] / "tests" / "captions" / "prompts_200.tsv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=Path, default=LABELLED)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    prompts = [line.split("\t")[1] for line in options.prompts.read_text(encoding="utf-8").splitlines()[1:]]
    start = time.perf_counter()
    backend = make_backend("lexicon")
    backend.check("a dog barks")
    print(f"reading the word lists: {1e3 * (time.perf_counter() - start):.0f} ms, once")
    times: dict[str, list[float]] = {"anchors": [], "bridgedit": [], "short": []}
    for prompt in prompts * options.rounds:
        start = time.perf_counter()
        anchors = backend.check(prompt).anchors
        times["anchors"].append(time.perf_counter() - start)
        for name in ("bridgedit", "short"):
            start = time.perf_counter()
            backend.rewrite(anchors, PROFILES.get(name))
            times[name].append(time.perf_counter() - start)
    for name, values in times.items():
        ordered = sorted(values)
        print(
            f"{name:>10}: median {1e3 * statistics.median(values):6.2f} ms, "
            f"95 % {1e3 * ordered[int(0.95 * len(ordered))]:6.2f} ms, worst {1e3 * ordered[-1]:6.2f} ms"
        )


if __name__ == "__main__":
    main()
