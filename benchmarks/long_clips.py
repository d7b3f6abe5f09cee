"""Clips longer than the bundled model's own: are the windows' seams seen or heard, and what do they take?

    python benchmarks/long_clips.py --clips 16 --seconds 30 --steps 25 --write

Prompts are those of ``evaluate.py`` that have events. At each seam, picture and sound are looked at by the world's own
detectors, and beside them, as a control, half-way between two seams. Peaks of memory are those of processes of their
own: a clip of one window and the long one, a sound for a video of five seconds and for a long one. Clips that are
there already are kept.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from statistics import mean

import av
import numpy as np
import torch
from sounding_video.core.clock import Timeline, nearest_frames
from sounding_video.core.types import AVClip, Captions
from sounding_video.core.windows import LatentPlan
from sounding_video.evaluation.matching import best_pairs
from sounding_video.long_clips import plan_of
from sounding_video.media.mux import write_clip
from sounding_video.media.probe import read_clip
from sounding_video.media.remux import copy_with_sound
from sounding_video.media.user_file import open_user_file
from sounding_video.pipeline import FamilyModel, SamplingOptions, generate
from sounding_video.sampling.windows import WINDOWS
from sounding_video.tasks.base import Run
from sounding_video.tasks.sound import sound_for
from sounding_video.world.detectors import picture_events, sound_events

sys.path.insert(0, str(Path(__file__).parent / "pocket"))
from clips import FPS, NUM_FRAMES, Wish, captions_of, load_pocket, pocket_options, pocket_size, wishes
from intervals import rate_difference

LOOKS, EVENTS = ("pictures", "jumps", "levels"), ("seconds", "events", "alone", "doubled")
FILE = Path(__file__).with_suffix(".md")
NONE = Captions("", "")
NEAR_SECONDS = 0.2
DOUBLE_SECONDS = 0.25  # the world's events lie further apart
SHORT_SECONDS = 5


@dataclass
class Counts:
    """What was found near some places of one clip.

    Attributes:
        seconds: Time that was looked at, of one clip.
        events: Seen and heard events.
        alone: Of those, how many have no partner on the other side within two frames.
        doubled: Of those, how many follow another one of their side too soon.
        jumps: Loudest step from sample to sample over the clip's own 99.9 % quantile, a place each.
        levels: Change of the level within 20 ms over the clip's own 99 % quantile.
        pictures: Change from frame to frame over the clip's own 99 % quantile.
    """

    seconds: float = 0.0
    events: int = 0
    alone: int = 0
    doubled: int = 0
    jumps: list[float] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    pictures: list[float] = field(default_factory=list)


def row(name: str, clips: dict[str, Counts]) -> str:
    """One line of the table: of all clips."""
    pooled = [[number for each in clips.values() for number in getattr(each, of)] for of in LOOKS]
    values = [f"{mean(each):.2f} / {max(each):.2f}" for each in pooled]
    seconds, events, *counts = (sum(getattr(each, of) for each in clips.values()) for of in EVENTS)
    shares = [f"{count / events:.1%}" if events else "–" for count in counts]
    rate = f"{events / seconds:.2f}" if seconds else "–"
    return f"| {name} | {len(pooled[0])} | {' | '.join(values)} | {rate} | {' | '.join(shares)} |"


def difference(name: str, at: dict[str, Counts], between: dict[str, Counts]) -> str:
    """What seams have more than places between them, with intervals over clips."""
    of = [partial(_sum_and_count, name) for name in LOOKS]
    of += [attrgetter(*pair) for pair in (("events", "seconds"), ("alone", "events"), ("doubled", "events"))]
    found = [rate_difference(*({key: rate(c) for key, c in each.items()} for each in (at, between))) for rate in of]
    return f"| {name}, difference | | {' | '.join('–' if each is None else each.difference() for each in found)} |"


def _sum_and_count(name: str, counts: Counts) -> tuple[float, int]:
    numbers = getattr(counts, name)
    return sum(numbers), len(numbers)


def seams(plan: LatentPlan, way: str) -> list[float]:
    """Where one window's say ends and the next one's begins, in seconds."""
    step = plan.windows[0].times.audio.step
    share = Fraction(1) if way == "given" else Fraction(1, 2)
    return [float(window.start + window.shared.audio * share * step) for window in plan.windows[1:]]


def long_timeline(model: FamilyModel, seconds: float) -> Timeline:
    """The nearest length of whole latents."""
    size, frames = pocket_size(), nearest_frames(round(seconds * FPS))[0]
    return Timeline(frames, FPS, size, size, model.geometry)


def look(clip: AVClip, places: Sequence[float], scene: str, counts: Counts) -> None:
    """Count what is near some places of a clip."""
    frames, wave, rate = clip.video.frames, clip.audio.waveform, clip.audio.sample_rate
    change = (frames[1:] - frames[:-1]).abs().mean((1, 2, 3))
    jumps = wave.diff(dim=1).abs().amax(0)
    block = rate // 50
    level = wave.square().mean(0)[: wave.shape[1] // block * block].view(-1, block).mean(1).sqrt()
    steps = level.diff().abs()
    quantiles = [float(torch.quantile(each[:: max(1, len(each) // 100_000)], share)) + 1e-9 for each, share in
                 ((change, 0.99), (jumps, 0.999), (steps, 0.99))]  # fmt: skip
    seen = picture_events(frames, FPS, scene)
    heard = sound_events(wave, rate, scene)
    paired = best_pairs(seen, heard, 2 / FPS)
    sides = ((seen, {one for one, _ in paired}), (heard, {other for _, other in paired}))
    for place in places:
        frame, sample, part = round(place * FPS), round(place * rate), round(place * rate / block)
        if not 2 <= frame < len(change) - 1:
            continue
        counts.pictures.append(float(change[frame - 1 : frame + 1].max()) / quantiles[0])
        counts.jumps.append(float(jumps[sample - rate // 1000 : sample + rate // 1000].max()) / quantiles[1])
        counts.levels.append(float(steps[part - 1 : part + 1].max()) / quantiles[2])
        counts.seconds += 4 * NEAR_SECONDS  # both sides
        for events, partnered in sides:
            for index, moment in enumerate(events):
                if abs(moment - place) <= NEAR_SECONDS:
                    counts.events += 1
                    counts.alone += index not in partnered
                    counts.doubled += index > 0 and moment - events[index - 1] < DOUBLE_SECONDS


def clips_table(args: argparse.Namespace) -> Iterator[str]:
    """Seams against places between them, a row each."""
    model, wanted = load_pocket(), _with_events(args.clips)
    timeline = long_timeline(model, args.seconds)
    yield f"{len(wanted)} clips of {float(timeline.seconds):.1f} s, {args.steps} steps, overlap {args.overlap:g} s.\n"
    yield "Picture, click and level: mean / worst, in shares of the clip's own quantiles. Intervals are over clips.\n"
    yield "| | places | picture | click | level | events a second | alone | doubled |"
    yield "|---|---|---|---|---|---|---|---|"
    for way in args.ways:
        options = _options(args, way)
        at, between = ({wish.name: Counts() for wish in wanted} for _ in range(2))
        for wish in wanted:
            plan = plan_of(model, options, model.shapes(timeline), timeline.times)
            places = seams(plan, way)
            clip = _made(model, wish, timeline, replace(options, seed=wish.seed), args.output / way)
            look(clip, places, wish.truth.scene, at[wish.name])
            middles = [(one + other) / 2 for one, other in pairwise(places)]
            look(clip, middles, wish.truth.scene, between[wish.name])
        yield row(f"{way}, at seams", at)
        yield row(f"{way}, between", between)
        yield difference(way, at, between)


def _with_events(count: int) -> list[Wish]:
    found = [wish for wish in wishes(10 * count, pocket_size()) if wish.truth.events]
    return found[:count]


def _options(args: argparse.Namespace, way: str) -> SamplingOptions:
    return pocket_options(steps=args.steps, windows=way, overlap_seconds=args.overlap)


def _made(model: FamilyModel, wish: Wish, timeline: Timeline, options: SamplingOptions, folder: Path) -> AVClip:
    path = folder / f"{wish.name}_{timeline.num_frames}_{options.num_steps}_{options.overlap_seconds:g}.mkv"
    if not path.is_file():
        begun = time.monotonic()
        clip = generate(model, captions_of(wish), timeline=timeline, negatives=NONE, options=options)
        write_clip(clip, path, codec="ffv1")
        print(f"{path.name}: {time.monotonic() - begun:.0f} s", flush=True)
    return read_clip(path)


# --- Memory, each in a process of its own ------------------------------------------------------------------------


def peak_of_clip(args: argparse.Namespace) -> None:
    """Make a clip and print the process's peak."""
    model = load_pocket()
    timeline = long_timeline(model, args.child_seconds)
    generate(
        model, captions_of(_with_events(1)[0]), timeline=timeline, negatives=NONE, options=_options(args, args.child)
    )
    print(json.dumps({"peak": _peak()}))


def peak_of_sound(args: argparse.Namespace) -> None:
    """Make a sound for a video and print the process's peak."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "silent.mp4"
        write_silent(path, args.child_seconds)
        run = Run(load_pocket(), captions_of(_with_events(1)[0]), NONE, pocket_options(steps=args.steps))
        begun = time.monotonic()
        sound, _ = sound_for(run, open_user_file(path, sound=False), overlap=args.overlap)
        copy_with_sound(path, sound, Path(folder) / "sounding.mp4")
    print(json.dumps({"peak": _peak(), "seconds": time.monotonic() - begun}))


def write_silent(path: Path, seconds: float) -> None:
    """A video of a wandering bar, frame by frame; the writers of the package would hold all of it."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        for index in range(round(seconds * 30)):
            picture = np.full((128, 128, 3), 60, np.uint8)
            left = index * 3 % 112
            picture[:, left : left + 16] = (230, 120, 30)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))


def _peak() -> int:
    """Of this process alone: what ``getrusage`` says begins with the peak of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


def _child(args: argparse.Namespace, what: str, seconds: float, steps: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", what, "--child-seconds", str(seconds), "--steps", str(steps)]
    done = subprocess.run([*command, "--overlap", str(args.overlap)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def memory_table(args: argparse.Namespace) -> Iterator[str]:
    """Peaks of the long clip against that of one window."""
    own = float(NUM_FRAMES / FPS)
    one = _child(args, "off", own, 2)["peak"]
    yield f"| | peak, GB | against one window |\n|---|---|---|\n| one window, {own:g} s | {one / 1e9:.3f} | 1 |"
    for way in args.ways:
        peak = _child(args, way, args.seconds, 2)["peak"]
        yield f"| {way}, {args.seconds:g} s | {peak / 1e9:.3f} | {peak / one:.3f} |"


def video_table(args: argparse.Namespace) -> Iterator[str]:
    """Peaks of a sound for a long video against that for a short one."""
    short = _child(args, "sound", SHORT_SECONDS, 2)
    yield f"| a sound for | peak, GB | against {SHORT_SECONDS} s | made in |\n|---|---|---|---|"
    yield f"| {SHORT_SECONDS} s | {short['peak'] / 1e9:.3f} | 1 | {short['seconds']:.0f} s |"
    long = _child(args, "sound", args.video_seconds, args.video_steps)
    ratio = long["peak"] / short["peak"]
    yield f"| {args.video_seconds:g} s | {long['peak'] / 1e9:.3f} | {ratio:.3f} | {long['seconds']:.0f} s |"


TABLES = {"clips": clips_table, "memory": memory_table, "video": video_table}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--clips", type=int, default=16)
    add("--seconds", type=float, default=30.0)
    add("--steps", type=int, default=25)
    add("--overlap", type=float, default=1.0)
    add("--ways", nargs="+", default=WINDOWS.names(), choices=WINDOWS.names())
    add("--video-seconds", type=float, default=600.0)
    add("--video-steps", type=int, default=2)
    add("--parts", nargs="+", default=list(TABLES), choices=list(TABLES))
    add("--output", type=Path, default=Path("output/long_clips"))
    add("--write", action="store_true", help=f"write {FILE.name} too")
    add("--child", help=argparse.SUPPRESS)
    add("--child-seconds", type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        (peak_of_sound if args.child == "sound" else peak_of_clip)(args)
        return
    lines = ["# Clips longer than the bundled model's own", "", "Made by `benchmarks/long_clips.py`."]
    for part in args.parts:
        lines += ["", f"## {part}", ""]
        for line in TABLES[part](args):
            print(line, flush=True)
            lines.append(line)
    if args.write:
        FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
