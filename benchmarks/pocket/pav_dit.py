"""A small PAV-DiT on the world: train it, then see what it makes. Two commands, each goes on where it was stopped.

    python benchmarks/pocket/pav_dit.py train --output output/pav_dit                    autoencoder, then transformer
    python benchmarks/pocket/pav_dit.py judge --output output/pav_dit --clips 100 --write  clips and their figures

``train`` is the recipes ``pocket_pav_dit_mdsa``, ``pocket_pav_dit_mdsa_2`` and ``pocket_pav_dit``, each over the run
before it; ``--stage-steps`` says how long each learns, ``--only`` runs one, ``KEY=VALUE`` changes what is run. A stage
may as well be run with the same values by ``accelerate launch … -m sounding_video train RECIPE``, in several processes.
In the end ``OUTPUT/model`` is a folder in 16 bits for ``--models``. ``judge`` makes of each test prompt the world's own
clip through the autoencoder, a generated clip, one in whose making picture and sound did not attend to each other, and
the generated picture with the sound planes of another clip of the same scene: if planes make picture and sound belong
together, the last two meet by chance only.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from clips import NO_NEGATIVES, Wish, captions_of, measure, own_options, table, wishes, write_manifest
from intervals import counts_of, f1, f1_difference
from resumed import train_on
from sounding_video.core.clock import Timeline
from sounding_video.core.device import resolve_placement
from sounding_video.core.types import JointLatents
from sounding_video.evaluation.runner import Evaluation
from sounding_video.media.fit import FitStyle, fit_clip
from sounding_video.media.mux import write_clip
from sounding_video.models.families.pav_dit import PavDitModel
from sounding_video.models.pav_dit.new import link_tree
from sounding_video.models.weights.files import read_safetensors, write_safetensors
from sounding_video.pipeline import encode_captions, load_models, sample_latents
from sounding_video.training.assembly import exported
from sounding_video.training.checkpoint import latest_checkpoint
from sounding_video.training.recipes import recipe

STAGES = ("pocket_pav_dit_mdsa", "pocket_pav_dit_mdsa_2", "pocket_pav_dit")
FILE = Path(__file__).with_suffix(".md")
THROUGH, MADE, MASKED, PASTED = "autoencoder", "generated", "masked", "pasted"
TITLES = {
    THROUGH: "the world's clips through the autoencoder",
    MADE: "generated",
    MASKED: "generated without attention between picture and sound",
    PASTED: "generated, with the sound planes of another clip of the scene",
}


def run_stages(output: Path, only: str | None, steps: Sequence[int] | None, overrides: list[str]) -> None:
    """Train what is not finished yet, each stage over the one before it."""
    for index, name in enumerate(STAGES):
        if only not in (None, name):
            continue
        before = f"models.overlays={output / STAGES[index - 1]}" if index else "models.overlays="
        length = [] if steps is None else [f"num_steps={steps[index]}"]
        config = recipe(name, [f"data.cache={output / 'cache'}", before, *length, *overrides])
        print(f"== {name}", file=sys.stderr)
        train_on(config, output / name)
    if latest_checkpoint(output / STAGES[-1]) is not None:
        store(exported(output / STAGES[-1]), output / "model")


def store(folder: Path, target: Path) -> None:
    """The same model in 16 bits; statistics of the latents stay as they are."""
    shutil.rmtree(target, ignore_errors=True)
    link_tree(folder, target)
    for file in target.glob("*/*.safetensors"):
        tensors, notes = read_safetensors(file)
        kept = {name: one if name.startswith("latent_") else one.half() for name, one in tensors.items()}
        file.unlink()  # it is the export's own file
        write_safetensors(file, kept, notes)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    print(f"{size / 1e6:.1f} MB in {target}")


@contextmanager
def apart(model: PavDitModel) -> Iterator[None]:
    """Picture and sound do not attend to each other inside; each still reads both captions."""
    side = torch.arange(6) // 3
    near = side[:, None] == side

    def masked(_: Any, args: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        # A query whose own planes are all absent sees itself: what comes of it is left out.
        seen = near if given["mask"] is None else (given["mask"] & near) | torch.eye(6, dtype=torch.bool)
        return args, {**given, "mask": seen}

    blocks = model.transformer.temporal
    hooks = [block.attention.register_forward_pre_hook(masked, with_kwargs=True) for block in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class Judged:
    """One model, and the clips that are made of it.

    Args:
        model: Loaded.
        output: Folder of the variants' folders.
        clips: How many prompts.
        steps: Of the sampler; None for the model's own.
    """

    def __init__(self, model: PavDitModel, output: Path, clips: int, steps: int | None) -> None:
        own = model.own
        self.model, self.output, self.wanted = model, output, wishes(clips, own.width)
        self.timeline = Timeline(own.num_frames, own.fps, own.width, own.height, model.geometry)
        self.options = own_options(model, steps)

    def make(self, variant: str) -> Evaluation:
        """The clips that are not there yet, and what they measure."""
        folder = self.output / variant
        folder.mkdir(parents=True, exist_ok=True)
        for index, wish in enumerate(self.wanted):
            path = folder / f"{wish.name}.mp4"
            if not path.is_file():
                clip = self.model.decode(self.latents(variant, index), fps=Fraction(self.model.own.fps))
                write_clip(clip, path)
        write_manifest(self.wanted, folder)
        return measure(folder)

    def latents(self, variant: str, index: int) -> JointLatents:
        """Of one prompt; what was sampled is kept."""
        wish = self.wanted[index]
        if variant == THROUGH:
            fitted, _ = fit_clip(wish.truth.clip, self.timeline, start=Fraction(0), style=FitStyle())
            return self.model.encode(fitted, self.timeline)
        if variant == PASTED:
            return replace(self.latents(MADE, index), audio=self.latents(MADE, self._other(index)).audio)
        file = self.output / variant / f"{wish.name}.safetensors"
        if not file.is_file():
            made = self.sampled(wish, variant)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_safetensors(file, {"video": made.video, "audio": made.audio}, {})
        tensors, _ = read_safetensors(file)
        return JointLatents(tensors["video"], tensors["audio"])

    def sampled(self, wish: Wish, variant: str) -> JointLatents:
        """From noise."""
        model, shapes = self.model, self.model.shapes(self.timeline)
        rest = {"negatives": NO_NEGATIVES, "seconds": float(self.timeline.seconds), "placement": model.placement}
        conditioning = encode_captions(*model.texts, captions_of(wish), **rest)
        asked = {"video_shape": shapes.video, "audio_shape": shapes.audio}
        options = replace(self.options, seed=wish.seed)
        with apart(model) if variant == MASKED else nullcontext():
            return sample_latents(model, conditioning, **asked, options=options)

    def _other(self, index: int) -> int:
        """The next prompt of the same scene, or the next one at all."""
        after = [(index + step) % len(self.wanted) for step in range(1, len(self.wanted))]
        scene = self.wanted[index].truth.scene
        return next((each for each in after if self.wanted[each].truth.scene == scene), (after or [index])[0])


def trained_how(output: Path) -> str:
    """What the runs' own configurations say."""
    configs = [json.loads((output / name / "config.json").read_text(encoding="utf-8")) for name in STAGES]
    steps = " ".join(str(config["num_steps"]) for config in configs)
    batches = ", ".join(str(config["batch_size"]) for config in configs)
    command = f"`python benchmarks/pocket/pav_dit.py train --stage-steps {steps}`"
    return f"Trained by {command}, batches of {batches} clips a process."


def intervals(results: Mapping[str, Evaluation]) -> str:
    """Of each variant, and what it is less than the generated clips."""
    events = {title: counts_of(result) for title, result in results.items()}
    made = events.get(TITLES[MADE])
    lines = []
    for title, counts in events.items():
        text = f"{title} {f1(counts, '2_frames')}"
        if made is not None and counts is not made:
            text += f" ({f1_difference(counts, made, '2_frames').difference()} to generated)"
        lines.append(text)
    return "; ".join(lines) + "."


def judge(args: argparse.Namespace) -> None:
    """Make and measure the variants."""
    models = args.output / "model"
    model = load_models(models, placement=resolve_placement(device=args.device, dtype="float32"))
    judged, results = Judged(model, args.output / "clips", args.clips, args.steps), {}
    for variant in args.only or TITLES:
        results[TITLES[variant]] = judged.make(variant)
        print(table(results), flush=True)
    if args.write:
        text = (
            f"`python benchmarks/pocket/pav_dit.py judge --clips {args.clips} --write`\n\n"
            f"{trained_how(args.output)} {args.note}\n\n"
            f"{args.clips} prompts of the test split, {judged.options.num_steps} steps.\n\n{table(results)}\n\n"
            f"Event F1 ±2 with intervals of 95 % over prompts: {intervals(results)}\n"
        )
        FILE.write_text(f"# A small PAV-DiT on held-out prompts\n\n{text}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    training, judging = commands.add_parser("train"), commands.add_parser("judge")
    for command in (training, judging):
        command.add_argument("--output", type=Path, default=Path("output/pav_dit"), help="folder of runs and clips")
    training.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="for every recipe that is run")
    lengths = {"type": int, "nargs": len(STAGES), "metavar": "N"}
    training.add_argument("--stage-steps", **lengths, help="of the stages (default: the recipes' own)")
    training.add_argument("--only", choices=STAGES, help="one recipe instead of all")
    judging.add_argument("--clips", type=int, default=100, help="test prompts, scenes in turn (default: 100)")
    judging.add_argument("--steps", type=int, help="of the sampler (default: the model's own)")
    judging.add_argument("--only", nargs="+", choices=tuple(TITLES), help="some variants instead of all")
    judging.add_argument("--note", default="", help="what --write shall say of the training beside its configurations")
    judging.add_argument("--device", default="auto")
    judging.add_argument("--write", action="store_true", help=f"write {FILE.name}")
    args = parser.parse_args()
    if args.command == "train":
        run_stages(args.output, args.only, args.stage_steps, args.overrides)
    else:
        judge(args)


if __name__ == "__main__":
    main()
