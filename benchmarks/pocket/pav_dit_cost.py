"""What a clip of a small PAV-DiT costs beside one of the two bundled towers: arithmetic and CPU seconds, one run.

    python benchmarks/pocket/pav_dit_cost.py output/pav_dit/model --clips 8 --write

Both make clips of 64×64 pixels and 2.2 s from the same captions. The rows take turns, so that what else runs on the
machine meets all of them; seconds are CPU seconds of this process. Arithmetic is counted by torch while a clip is made.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from statistics import median

import torch
from clips import FPS, NO_NEGATIVES, Wish, captions_of, load_pocket, own_options, pocket_options, wishes
from sounding_video.core.clock import Timeline
from sounding_video.core.device import resolve_placement
from sounding_video.models.families.base import FamilyModel
from sounding_video.pipeline import SamplingOptions, encode_captions, load_models, sample_latents
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

FILE = Path(__file__).with_suffix(".md")
STAGES = ("captions", "sampling", "decoding")
Shape = Sequence[int]
TOWERS = "two towers and bridges, {} steps"


@dataclass
class Row:
    """One way to make a clip.

    Args:
        model: Loaded.
        options: Of the sampler.
        operations: Of each stage, of one clip.
        seconds: Of each stage, a value a clip.
    """

    model: FamilyModel
    options: SamplingOptions
    operations: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})

    def make(self, wish: Wish, around: Callable[[str], object]) -> None:
        """A clip; each stage runs inside ``around``."""
        model, own = self.model, self.model.own
        timeline = Timeline(own.num_frames, FPS, own.width, own.height, model.geometry)
        shapes = model.shapes(timeline)
        rest = {"negatives": NO_NEGATIVES, "seconds": float(timeline.seconds), "placement": model.placement}
        with around("captions"):
            conditioning = encode_captions(*model.texts, captions_of(wish), **rest)
        asked = {"video_shape": shapes.video, "audio_shape": shapes.audio, "times": timeline.times}
        with around("sampling"):
            latents = sample_latents(model, conditioning, **asked, options=self.options)
        with around("decoding"):
            model.decode(latents, fps=Fraction(own.fps))

    @contextmanager
    def counted(self, stage: str) -> Iterator[None]:
        """Notes the arithmetic of a stage."""
        # Unlike all other convolutions those of the bundled codec on a CPU are not known to torch's counter.
        known = {torch.ops.aten.mkldnn_convolution: _operations_of_onednn}
        with FlopCounterMode(display=False, custom_mapping=known) as counter:
            yield
        self.operations[stage] = counter.get_total_flops()

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Notes the CPU seconds of a stage."""
        start = time.process_time()
        yield
        self.seconds[stage].append(time.process_time() - start)


def _operations_of_onednn(x: Shape, weight: Shape, *_: object, out_shape: Shape, **__: object) -> int:
    return conv_flop_count(x, weight, out_shape)


def table(rows: Mapping[str, Row], base: str) -> str:
    """Markdown, a line a row; ratios are of clips made one after the other."""
    lines = ["| | " + " | ".join(f"{stage}, GFLOP" for stage in STAGES) + " | all | seconds a clip | of the first |"]
    lines.append("|---|" + "---:|" * (len(STAGES) + 3))
    first = _whole(rows[base])
    for name, row in rows.items():
        counts = [row.operations[stage] / 1e9 for stage in STAGES]
        mine = _whole(row)
        ratios = sorted(one / other for one, other in zip(mine, first, strict=True))
        ratio = f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        cells = [name, *(f"{count:.1f}" for count in (*counts, sum(counts))), f"{median(mine):.2f}", ratio]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _whole(row: Row) -> list[float]:
    return [sum(stages) for stages in zip(*row.seconds.values(), strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="folder of a trained PAV-DiT")
    parser.add_argument("--clips", type=int, default=8, help="of each row (default: 8)")
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name}")
    args = parser.parse_args()
    planes = load_models(args.model, placement=resolve_placement(device="cpu", dtype="float32"))
    towers, own = load_pocket(device="cpu"), planes.own
    rows = {TOWERS.format(steps): Row(towers, pocket_options(steps=steps)) for steps in (50, 25)}
    rows[f"PAV-DiT, {own.num_steps} steps"] = Row(planes, own_options(planes))
    wanted = wishes(args.clips, own.width)
    for row in rows.values():
        row.make(wanted[0], row.counted)
    for wish in wanted:
        for row in rows.values():
            row.make(wish, row.timed)
    text = table(rows, TOWERS.format(50))
    print(text)
    if args.write:
        command = f"`python benchmarks/pocket/{FILE.stem}.py MODEL --clips {args.clips} --write`"
        parts = ["# A clip of planes beside one of two towers", command, __doc__.split("\n\n")[2], text]
        FILE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
