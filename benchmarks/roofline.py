"""What a clip takes in arithmetic and in bytes, by stage, step cache and kind of operation; and how fast cards can be.

    python benchmarks/roofline.py            # a few minutes on any machine; no card, no weights
    python benchmarks/roofline.py --write

The real modules of the published sizes run as fake tensors on ``cuda`` (``tests/fake_card.py``): Wan 1.3B, Stable Audio
Open, four ``dual_cross`` bridges, UMT5-XXL and T5, 832×480×81. Arithmetic is torch's own count of products,
convolutions and attention. Bytes are what every operation reads and writes on the card, each by itself, as eager
PyTorch runs them; views move nothing, and attention reads and writes no scores. An operation lasts as long as the
slower of both takes on a card that reaches its peaks, and a stage as long as all of its operations: no card is faster
without fusing some of them, real ones are slower. How many passes a run has is counted in the real loop.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, AutoencoderOobleck
from sounding_video.core.types import Conditioning, JointLatents, Modality, ModalityConditioning
from sounding_video.models.codecs.oobleck import OobleckCodec
from sounding_video.models.codecs.wan_vae import WanVAECodec
from sounding_video.models.plan.published import SHAPES
from sounding_video.pipeline import decode_latents
from sounding_video.sampling.cache import OFF, PRESETS
from sounding_video.sampling.loop import sample
from sounding_video.sampling.noise import draw_noise
from sounding_video.sampling.options import SamplingOptions
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry
from torch.utils.module_tracker import ModuleTracker

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from fake_card import AUDIO_SHAPE, ON_CARD, VIDEO_SHAPE, fake_card, on_card, published

FILE = Path(__file__).with_suffix(".md")
HALF = 0.5


@dataclass(frozen=True)
class Card:
    """Peaks of a card.

    Args:
        flops: Operations a second of products in bfloat16.
        bandwidth: Bytes a second of its memory.
    """

    flops: float
    bandwidth: float

    @property
    def name(self) -> str:
        """For a title."""
        return f"{self.flops / 1e12:g} TFLOP/s, {self.bandwidth / 1e12:.1f} TB/s"


CARDS = (Card(165e12, 1.0e12), Card(790e12, 4.3e12))
# By the name of the operation; all else is element by element, norms and copies.
KINDS = {
    "attention": ("attention",),
    "products": ("mm", "addmm", "bmm", "baddbmm"),
    "convolutions": ("convolution",),
}
REST = "norms, activations, copies"
PARTS = {"video": "video tower", "audio": "audio tower", "bridges": "bridges"}
BETWEEN = "between them"
# Reads of their table no more than they give.
LOOKING_UP = ("embedding", "index", "gather", "index_select")


@dataclass
class Work:
    """Arithmetic, bytes, and the seconds of both together on each of ``CARDS``."""

    flops: float = 0
    bytes: float = 0
    seconds: tuple[float, ...] = (0.0,) * len(CARDS)

    def __add__(self, other: Work) -> Work:
        seconds = tuple(mine + theirs for mine, theirs in zip(self.seconds, other.seconds, strict=True))
        return Work(self.flops + other.flops, self.bytes + other.bytes, seconds)

    def __mul__(self, times: float) -> Work:
        return Work(self.flops * times, self.bytes * times, tuple(times * each for each in self.seconds))

    @classmethod
    def of(cls, flops: float, num_bytes: float) -> Work:
        """Of one operation."""
        return cls(flops, num_bytes, tuple(max(flops / card.flops, num_bytes / card.bandwidth) for card in CARDS))


class Traffic(TorchDispatchMode):
    """Arithmetic and bytes of every operation on the card, by the part of the model and the kind of operation."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[tuple[str, str], Work] = defaultdict(Work)
        self._tracker = ModuleTracker()

    def __enter__(self) -> Traffic:
        self._tracker.__enter__()
        return super().__enter__()

    def __exit__(self, *args: object) -> None:
        super().__exit__(*args)
        self._tracker.__exit__(*args)

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = function(*args, **kwargs)
        count = flop_registry.get(function._overloadpacket)
        flops = 0 if count is None else count(*args, **kwargs, out_val=made)
        moved = moved_bytes(function, (args, kwargs), made)
        if flops or moved:
            self.found[self._part(), kind_of(function)] += Work.of(flops, moved)
        return made

    def _part(self) -> str:
        names = {name.split(".")[1] for name in self._tracker.parents if name.startswith("JointModel.")}
        return next((title for part, title in PARTS.items() if part in names), BETWEEN)

    def total(self) -> Work:
        """All of it."""
        return sum(self.found.values(), Work())


def kind_of(function: Any) -> str:
    """One of ``KINDS``, or the rest."""
    name = function._overloadpacket.__name__
    return next((kind for kind, words in KINDS.items() if name in words or kind in name), REST)


def moved_bytes(function: Any, inputs: Any, made: Any) -> int:
    """What an operation reads and writes on the card."""
    name = function._overloadpacket.__name__
    read, written = (_on_card(tree) for tree in (inputs, made))
    answers = any(isinstance(leaf, Tensor) for leaf in tree_leaves(made))  # or it is a question, such as for a device
    if "empty" in name or not answers:
        return 0
    places = {tensor.untyped_storage()._cdata for tensor in read}
    here = written and all(tensor.untyped_storage()._cdata in places for tensor in written)
    if here and not function._schema.is_mutable:  # a view
        return 0
    sizes = sum(map(_size, written))
    return 2 * sizes if name in LOOKING_UP else sizes + sum(map(_size, read))


def _on_card(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.device.type == "cuda"]


def _size(tensor: Tensor) -> int:
    """What is really there: a row that is repeated by its strides is read once."""
    return min(tensor.numel() * tensor.itemsize, tensor.untyped_storage().nbytes())


def text_work(encoder: nn.Module, length: int, projection: nn.Module | None = None) -> Work:
    """One caption through its encoder."""
    with fake_card(), torch.no_grad():
        encoder, projection = on_card(encoder), projection and on_card(projection)
        with Traffic() as traffic:
            ids = torch.zeros(1, length, dtype=torch.int64, device="cuda")
            hidden = encoder(ids, attention_mask=torch.ones_like(ids)).last_hidden_state
            if projection is not None:
                projection.text_projection(hidden)
    return traffic.total()


class Said:
    """What the bridges told the sound, as a step cache keeps it."""

    def __init__(self) -> None:
        self._changes: dict[int, Tensor] = {}

    def note(self, bridge: int, change: Tensor) -> None:
        """Keep it."""
        self._changes[bridge] = change

    def change(self, bridge: int) -> Tensor | None:
        """Say it again."""
        return self._changes.get(bridge)


def pass_work(joint: nn.Module, sides: tuple[Modality, Modality]) -> dict[str, Traffic]:
    """One pass in which both run (``both``), and one of the sound that hears again what was said (``sound``)."""
    with fake_card(), torch.no_grad():
        joint, said = on_card(joint), Said()
        video, audio = (on_the_card(side) for side in sides)
        audio = replace(audio, heard=said)
        found = {}
        for name, inputs in (("both", (video, audio)), ("sound", (None, audio))):
            with Traffic() as traffic:
                joint(*inputs)
            found[name] = traffic
    return found


def on_the_card(side: Modality) -> Modality:
    """The same of fake tensors on the card; inside ``fake_card``."""
    tensors = {name: value for name, value in vars(side).items() if isinstance(value, Tensor)}
    empty = {name: torch.empty(one.shape, dtype=one.dtype, device="cuda") for name, one in tensors.items()}
    return replace(side, **empty)


def decoding_work(side: str, make: Callable[[], nn.Module], shape: tuple[int, ...]) -> Work:
    """Latents to pictures or to a sound.

    Args:
        side: ``video`` or ``audio``.
        make: Makes the codec; its weights are on the card already.
        shape: Of the latents.
    """
    with fake_card(), torch.no_grad():
        codecs = {"video_codec": None, "audio_codec": None, f"{side}_codec": make().to("cuda")}
        with Traffic() as traffic:
            latents = JointLatents(**{side: torch.empty(shape)})
            decode_latents(latents, **codecs, fps=Fraction(15), placement=ON_CARD, tiling="off")
    return traffic.total()


def passes_of(options: SamplingOptions) -> Counter[str]:
    """Passes of a run by the real loop, over a model that says nothing: ``both`` sides, or the ``sound`` alone."""
    seen: Counter[str] = Counter()

    def silent(video: Modality | None, audio: Modality | None) -> tuple[Tensor | None, Tensor | None]:
        sides = [side for side in (video, audio) if side is not None]
        seen["both" if len(sides) == 2 else "sound" if video is None else "picture"] += len(sides[0].latents)
        if len(sides) == 2 and audio.heard is not None:
            audio.heard.note(0, audio.latents)
        return tuple(None if side is None else torch.zeros_like(side.latents) for side in (video, audio))

    text = ModalityConditioning(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
    sample(
        silent,
        Conditioning(text, replace(text, duration=torch.zeros(1, 1, 1))),
        draw_noise(0, video_shape=(1, 1, 1, 2, 2), audio_shape=(1, 1, 2)),
        schedule=options.build_schedule(),
        guidance=options.guidance(),
        seed=0,
        cache=options.build_cache(),
    )
    return seen


def published_inputs() -> tuple[Modality, Modality]:
    """As the sampler makes them at 832×480×81."""
    like = {"dtype": torch.bfloat16, "device": "meta"}
    time = torch.empty(1, device="meta")
    return (
        Modality(torch.empty(VIDEO_SHAPE, **like), time, torch.empty(1, 1024, 4096, **like)),
        Modality(
            torch.empty(AUDIO_SHAPE, **like), time, torch.empty(1, 128, 768, **like), torch.empty(1, 1, 1536, **like)
        ),
    )


RUNS = {
    **{name: {"step_cache": name} for name in (OFF, *PRESETS)},
    **{f"{name}, guidance in the first half": {"step_cache": name, "guidance_end": HALF} for name in (OFF, *PRESETS)},
}


def table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """In Markdown; all columns but the first hold numbers."""
    titles = list(titles)
    lines = [titles, ["---", *["---:"] * (len(titles) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _numbers(work: Work) -> list[str]:
    intensity = f"{work.flops / work.bytes:.0f}" if work.bytes else "–"
    return [
        f"{work.flops / 1e12:.2f}",
        f"{work.bytes / 1e12:.3f}",
        intensity,
        *(f"{each:.2f}" for each in work.seconds),
    ]


COUNTED = ("TFLOP", "TB", "FLOP / byte", *(f"s at {card.name}" for card in CARDS))


def by_stage(stages: Mapping[str, Work]) -> str:
    """Stages of a clip, and all of it."""
    whole = sum(stages.values(), Work())
    return table(("stage", *COUNTED), ([name, *_numbers(work)] for name, work in {**stages, "clip": whole}.items()))


def by_run(passes: Mapping[str, Work], others: Work) -> str:
    """Runs with step caches and shorter guidance."""
    rows, base = [], None
    for title, settings in RUNS.items():
        seen = passes_of(SamplingOptions(guidance_batching="sequential", **settings))
        work = sum((passes[name] * count for name, count in seen.items()), others)
        base = base or work
        faster = [f"{base.seconds[n] / work.seconds[n]:.2f} ×" for n in range(len(CARDS))]
        rows.append([title, str(seen["both"]), str(seen["sound"]), *_numbers(work), *faster])
    saved = [f"faster at {card.flops / 1e12:g}" for card in CARDS]
    return table(("step cache", "joint passes", "of the sound alone", *COUNTED, *saved), rows)


def by_kind(traffic: Traffic) -> str:
    """A joint pass by part and kind."""
    total = traffic.total()
    rows = []
    for (part, kind), work in sorted(traffic.found.items(), key=lambda one: -one[1].seconds[0]):
        shares = [f"{mine / whole:.1%}" for mine, whole in zip(work.seconds, total.seconds, strict=True)]
        rows.append([f"{part}: {kind}", f"{work.flops / 1e12:.3f}", f"{work.bytes / 1e9:.1f}", *shares])
    titles = ("part and kind", "TFLOP", "GB", *(f"share at {card.name}" for card in CARDS))
    return table(titles, rows)


def report() -> str:
    """All tables."""
    outline = published(SHAPES[0])
    video_text = text_work(outline.video_text, outline.video_text_length)
    audio_text = text_work(outline.audio_text[0], outline.audio_text_length, outline.audio_text[1])
    texts = (video_text + audio_text) * 2
    traffic = pass_work(outline.joint, published_inputs())
    passes = {name: each.total() for name, each in traffic.items()}
    decoded = {
        "video": decoding_work("video", lambda: WanVAECodec(AutoencoderKLWan().eval()), VIDEO_SHAPE),
        "audio": decoding_work("audio", lambda: OobleckCodec(AutoencoderOobleck().eval()), AUDIO_SHAPE),
    }
    sampling = passes["both"] * passes_of(SamplingOptions(guidance_batching="sequential"))["both"]
    stages = {
        "text encoders, both captions and negatives": texts,
        "sampling, 50 steps of two passes": sampling,
        "decoding the picture (float32)": decoded["video"],
        "decoding the sound (float32)": decoded["audio"],
    }
    whole = sum(stages.values(), Work())
    least = " and ".join(f"{whole.flops / card.flops:.0f} s at {card.flops / 1e12:g} TFLOP/s" for card in CARDS)
    parts = [
        "# Arithmetic, bytes and the best a card could do",
        "`python benchmarks/roofline.py --write`",
        __doc__.split("\n\n")[2].strip(),
        "The codecs compute in float32, which cards do at half of these rates (TF32) or less: their seconds are a "
        "lower bound. Left out are the solver, guidance and what a step cache extrapolates: some megabytes a step.",
        f"Arithmetic alone takes {least}: what is between that and a clip's seconds are norms, activations and copies, "
        "of which compiled blocks spare a part.",
        f"## A clip by stage\n\n{by_stage(stages)}",
        f"## A clip by step cache, 50 steps, texts and decoding in it\n\n"
        f"{by_run(passes, texts + decoded['video'] + decoded['audio'])}",
        f"## Where a joint pass goes\n\n{by_kind(traffic['both'])}",
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Print, and write if asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"write {FILE.name}")
    args = parser.parse_args()
    text = report()
    print(text)
    if args.write:
        FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
