"""One side given: sound for the world's own pictures, pictures for its own sounds, clips that go on.

    python benchmarks/pocket/given.py --clips 100 --steps 25 --write

Prompts, captions and seeds are those of ``evaluate.py``. What is given is encoded and shown to the bundled model by
replacement; nothing was trained for it. Sounds and pictures are judged against the exact times of the world's events
in the part that was made. Clips that are there already are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from clips import (
    FPS,
    NUM_FRAMES,
    Wish,
    conditioning_of,
    load_pocket,
    measure,
    pocket_options,
    pocket_size,
    wishes,
)
from sounding_video.core.clock import WAN_STABLE_AUDIO, Timeline
from sounding_video.core.pair import Pair
from sounding_video.core.types import AVClip, JointLatents
from sounding_video.evaluation.matching import best_pairs
from sounding_video.evaluation.metrics.event_f1 import TOLERANCES_FRAMES, scores
from sounding_video.evaluation.sample import Sample
from sounding_video.media.mux import write_clip
from sounding_video.models.clip_encoding import encode_clip
from sounding_video.pipeline import JoinedModel, SamplingOptions, decode_latents, sample_latents
from sounding_video.sampling.given import Given, known
from torch import Tensor

FILE = Path(__file__).with_name("given.md")
KNOWN_LATENTS = 5  # of 9: frames 0 to 16 of 33
SEAM = 1 + 4 * (KNOWN_LATENTS - 1)
KNOWN_SOUND = int(SEAM / FPS * WAN_STABLE_AUDIO.sample_rate / WAN_STABLE_AUDIO.audio_hop)  # audio latents, 24
Made = Callable[[JoinedModel, Wish, SamplingOptions], AVClip]


def latents_of(
    model: JoinedModel, wish: Wish, options: SamplingOptions, give: Callable[[JointLatents, Timeline], Pair[Given]]
) -> tuple[AVClip, JointLatents]:
    """The clip that the model makes with something of the true clip given."""
    size = wish.truth.clip.video.frames.shape[1]
    timeline = Timeline(NUM_FRAMES, FPS, size, size, model.geometry)
    codecs = {"video_codec": model.video.codec, "audio_codec": model.audio.codec, "placement": model.placement}
    true = encode_clip(wish.truth.clip, timeline, **codecs)
    made = sample_latents(
        model,
        conditioning_of(model, wish, timeline),
        video_shape=(1, *timeline.video_latent_shape),
        audio_shape=(1, *timeline.audio_latent_shape),
        options=options,
        given=give(true, timeline),
        times=timeline.times,
    )
    return decode_latents(made, fps=FPS, **codecs), true


def _whole(latents: Tensor, options: SamplingOptions) -> Given:
    return Given(latents, how=options.given_how, time=options.given_level)


def sound(model: JoinedModel, wish: Wish, options: SamplingOptions) -> AVClip:
    """The true picture, untouched, with a sound that was made for it."""
    made, _ = latents_of(model, wish, options, lambda true, _: Pair(_whole(true.video, options), None))
    return replace(made, video=wish.truth.clip.video)


def picture(model: JoinedModel, wish: Wish, options: SamplingOptions) -> AVClip:
    """The true sound, untouched, with a picture that was made for it."""
    made, _ = latents_of(model, wish, options, lambda true, _: Pair(None, _whole(true.audio, options)))
    return replace(made, audio=wish.truth.clip.audio)


def longer(model: JoinedModel, wish: Wish, options: SamplingOptions) -> AVClip:
    """The first half of the true clip, and what comes after it."""

    def give(true: JointLatents, timeline: Timeline) -> Pair[Given]:
        return Pair(known(true.video, stop=KNOWN_LATENTS), known(true.audio, stop=KNOWN_SOUND))

    return latents_of(model, wish, options, give)[0]


TASKS: dict[str, Made] = {"sound": sound, "picture": picture, "longer": longer}
WORDS = {
    "sound": "sound for the true picture",
    "picture": "picture for the true sound",
    "longer": "first half given, second made",
}


def make_given(task: str, model: JoinedModel, wanted: Sequence[Wish], folder: Path, options: SamplingOptions) -> None:
    """Every clip of a task that is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for wish in wanted:
        path = folder / f"{wish.name}.mp4"
        if not path.is_file():
            write_clip(TASKS[task](model, wish, replace(options, seed=wish.seed)), path)


def make(task: str, args: argparse.Namespace, options: SamplingOptions) -> Path:
    """The clips of one task with the true event times beside them; their folder."""
    folder, wanted = args.output / task, wishes(args.clips, pocket_size())
    make_given(task, load_pocket(), wanted, folder, options)
    rows = [
        {"file": f"{wish.name}.mp4", "scene": wish.truth.scene, "prompt": wish.truth.prompt, **_events(task, wish)}
        for wish in wanted
    ]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def _events(task: str, wish: Wish) -> dict[str, object]:
    """Exact times where a side is the world's own; of a clip that goes on only their number is not known either."""
    times = list(wish.truth.events)
    return {"num_events": len(times)} if task == "longer" else {"num_events": len(times), "events": times}


def after_the_seam(folder: Path) -> list[str]:
    """What is said of clips that go on: seen and heard events of the made part alone, and both seams.

    The picture is continuous where it changes no more from the last known frame to the first made one than it does
    between two frames elsewhere in the clip; the sound where no jump beside the seam exceeds its own 99.9 % quantile.
    """
    start, samples = float(SEAM / FPS), [Sample.read(path) for path in sorted(folder.glob("*.mp4"))]
    counts = {name: [0, 0, 0] for name in TOLERANCES_FRAMES}
    smooth, ratios = 0, []
    for sample in samples:
        heard, seen = ([t for t in times if t >= start] for times in (sample.sound_events, sample.picture_events))
        for name, num_frames in TOLERANCES_FRAMES.items():
            pairs = len(best_pairs(heard, seen, float(num_frames / FPS)))
            counts[name] = [sum(two) for two in zip(counts[name], (pairs, len(heard), len(seen)), strict=True)]
        jumps, seam = sample.clip.audio.waveform.diff(dim=-1).abs(), KNOWN_SOUND * WAN_STABLE_AUDIO.audio_hop
        smooth += bool(jumps[:, seam - 16 : seam + 16].max() <= torch.quantile(jumps.flatten(), 0.999))
        changes = sample.clip.video.frames.diff(dim=0).abs().mean((1, 2, 3))
        elsewhere = torch.cat([changes[: SEAM - 1], changes[SEAM:]])
        ratios.append(float(changes[SEAM - 1] / elsewhere.max()))
    within = {name: f"{scores(*each)[0]:.3f}" for name, each in counts.items()}
    return [
        f"Of the made part alone, heard against seen: event F1 {within['2_frames']} within two frames and "
        f"{within['1_frame']} within one ({counts['2_frames'][2]} events seen, {counts['2_frames'][1]} heard).",
        f"In {smooth} of {len(samples)} clips no jump of the sound at the seam exceeds the clip's 99.9 % quantile, in "
        f"{sum(ratio <= 1 for ratio in ratios)} the picture changes at the seam no more than elsewhere (its change "
        f"there is {median(ratios):.2f} times the largest elsewhere in the middle clip, {max(ratios):.2f} at most).",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--clips", type=int, default=100, help="test prompts, scenes in turn (default: 100)")
    add("--steps", type=int, default=25)
    add("--only", nargs="+", choices=tuple(TASKS), default=list(TASKS))
    add("--output", type=Path, default=Path("output/pocket/given"), help="folder of the clips")
    add("--write", action="store_true", help=f"write {FILE.name}")
    args = parser.parse_args()
    options, started = pocket_options(steps=args.steps), time.monotonic()
    lines = ["| task | clips | event F1 ±2 | event F1 ±1 | made side against the true times ±2 | ±1 |"]
    lines.append("|---|---:|---:|---:|---:|---:|")
    notes = []
    for task in args.only:
        folder = make(task, args, options)
        result = measure(folder)
        values = result.summary["event_f1"]
        side = {"sound": "sound_", "picture": "picture_"}.get(task)
        own = [values[f"{side}f1_{within}"] if side else None for within in ("2_frames", "1_frame")]
        cells = [values["f1_2_frames"], values["f1_1_frame"], *own]
        words = ["–" if value is None else f"{value:.3f}" for value in cells]
        lines.append(f"| {WORDS[task]} | {len(result.clips)} | " + " | ".join(words) + " |")
        if task == "longer":
            notes += after_the_seam(folder)
        print("\n".join(lines), *notes, sep="\n", flush=True)
    text = "\n".join(lines) + "\n\n" + " ".join(notes)
    seconds = (
        f"{time.monotonic() - started:.0f} s on {os.cpu_count()} CPU cores; clips that were there were only measured."
    )
    if args.write:
        only = "" if len(args.only) == len(TASKS) else f" --only {' '.join(args.only)}"
        command = f"`python benchmarks/pocket/given.py --clips {args.clips} --steps {args.steps}{only} --write`"
        words = (
            f"Test prompts of the world, {args.steps} steps, the bundled model's own scales; by replacement, nothing "
            "trained for it. Event F1 is pooled over the clips."
        )
        FILE.write_text(f"# One side given\n\n{command}\n\n{words}\n\n{text}\n\n{seconds}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
