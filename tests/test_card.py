"""The script that measures a card: its rows run on a CPU and on a card that is not there, whatever becomes of one."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from fake_card import ON_CARD, CardBytes, SizedCard, fake_card, on_card
from small_models import write_pav_dit_folder
from sounding_video.core.clock import Timeline
from sounding_video.core.device import ATTENTION_KERNELS, OFFLOAD_MODES, STORAGES, Placement
from sounding_video.core.residency import managed_by
from sounding_video.models.codecs.oobleck import OobleckCodec
from sounding_video.models.codecs.wan_vae import WanVAECodec
from sounding_video.models.joined import JoinedModel
from sounding_video.models.parts import AudioParts
from sounding_video.models.pav_dit.codec import WholeCodec
from sounding_video.pipeline import load_models
from sounding_video.sampling.cache import PRESETS
from torch._subclasses.fake_tensor import unset_fake_temporarily

CPU = Placement(torch.device("cpu"), torch.float32)
KERNELS_OF_CARDS = {"xformers", "flash", "sage"}
# Not on a card that is not there: weights that other libraries' hooks move, or that they pack; filters that torchaudio
# makes of numbers; a compiler. A training step has fake-card tests of its own.
NOT_FAKE = {
    ("offload", "group"), ("offload", "sequential"), ("captions", "encode, offload group"),
    ("captions", "encode, offload sequential"), ("weights", "fp8"), ("weights", "int8"), ("weights", "nf4"),
    ("compiled", "blocks, inductor"), ("PAV-DiT", "decode both"), ("training", "bridges, one clip"),
}  # fmt: skip


@pytest.fixture(scope="module")
def card(root: Path) -> Iterator[ModuleType]:
    paths, modules = list(sys.path), set(sys.modules)
    spec = importlib.util.spec_from_file_location("card", root / "benchmarks/card.py")
    module = sys.modules["card"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = paths
    for name in set(sys.modules) - modules:
        if name == "card" or name.startswith(("card_", "joint_step")):
            del sys.modules[name]


@pytest.fixture(scope="module")
def planes_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pav_dit_folder(tmp_path_factory.mktemp("planes") / "planes")


@pytest.fixture
def make_bench(card: ModuleType, small_models_dir: Path, planes_dir: Path) -> Callable[..., Any]:
    """A bench of the small models; ``make_bench(seconds)``."""

    def make(seconds: float = 36_000.0) -> Any:
        model, planes = (load_models(folder, placement=CPU) for folder in (small_models_dir, planes_dir))
        timeline = Timeline(9, 15, 32, 32, model.geometry)
        return card.Bench(model, timeline, CPU, card.Clock(seconds), card.Meter(CPU.device), planes, rounds=1)

    return make


def states(lines: list[Any]) -> dict[tuple[str, str], str]:
    return {(line.row.group, line.row.name): line.state for line in lines}


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Compiling itself is tested elsewhere."""
    monkeypatch.setattr("sounding_video.models.compiled.BACKEND", "eager")
    yield
    torch._dynamo.reset()


def test_every_way_has_a_row(card: ModuleType) -> None:
    found = {(row.group, row.name) for row in card.all_rows()}
    assert {name for group, name in found if group == "attention"} == set(ATTENTION_KERNELS)
    assert {name for group, name in found if group == "offload"} == set(OFFLOAD_MODES)
    assert {name for group, name in found if group == "weights"} == set(STORAGES) - {"native", "auto"}
    assert {name for group, name in found if group == "step cache"} == set(PRESETS)


@pytest.mark.slow
def test_every_row_runs_on_a_cpu_or_says_that_it_needs_a_card(
    card: ModuleType, make_bench: Callable[..., Any], eager: None
) -> None:
    lines = card.lines_of(make_bench(), card.all_rows())
    found = states(lines)
    for (group, name), state in found.items():
        packed = name in ("int8", "nf4")
        wanted = {card.CARD_ONLY} if name in KERNELS_OF_CARDS else {card.RAN, card.ABSENT} if packed else {card.RAN}
        assert state in wanted, (group, name, [line.said for line in lines if line.row.name == name])
    for line in lines:
        assert line.state != card.OK and not line.measured.peak_bytes, "nothing of a CPU stands for a card"
        if line.state == card.RAN:
            assert line.measured.seconds > 0, line.row
    ratios = [line.measured.ratio for line in lines if line.row.group in ("step", "task", "offload", "training")]
    assert all(ratio > 0 for ratio in ratios)
    text = card.table(lines)
    assert len(text.splitlines()) == 2 + len(lines) and "5 of 12 steps computed" in text


def test_a_kernel_is_laid_aside_behind_its_row(card: ModuleType, make_bench: Callable[..., Any]) -> None:
    """Stock forwards run beside every row: they must not take the kernel of the one before."""
    bench = make_bench()
    modules = list(bench.model.joint.modules())

    def kernels() -> list[object]:
        processors = [module.processor for module in modules if hasattr(module, "processor")]
        return [*processors, *(getattr(each, "_attention_backend", None) for each in processors)]

    before, seen = kernels(), []
    row = next(row for row in card.all_rows() if (row.group, row.name) == ("attention", "sdpa"))
    stock = bench.stock
    bench.stock = lambda: (seen.append(kernels() == before), stock())[1]
    assert card.line_of(bench, row).state == card.RAN
    assert seen and all(seen) and kernels() == before


def boom(bench: Any) -> None:
    raise ValueError("no such kernel image\nis available")


def test_a_row_that_fails_is_told_and_the_others_go_on(card: ModuleType, make_bench: Callable[..., Any]) -> None:
    rows = [card.Row("a", "boom", boom), card.Row("a", "fine", lambda bench: card.Measured(1.0, said="all | well"))]
    told: list[str] = []
    lines = card.lines_of(make_bench(), rows, told.append)
    assert [line.state for line in lines] == [card.FAILED, card.RAN]
    assert "ValueError: no such kernel image is available" in told[0] and "all / well" in told[1]
    assert all(line.count("|") == len(card.TITLES) + 1 for line in told)


def test_what_no_longer_fits_the_time_is_not_begun_or_stopped(card: ModuleType, make_bench: Callable[..., Any]) -> None:
    rows = {(row.group, row.name): row for row in card.all_rows()}
    late = card.lines_of(make_bench(1.0), rows.values())
    assert {line.state for line in late} <= {card.LATE, card.CARD_ONLY, card.RAN}
    assert late[-1].state == card.LATE and late[-1].row.group == "compiled"
    bench = make_bench()

    class Stops(card.Clock):
        asked = 0

        def check(self) -> None:
            self.asked += 1
            if self.asked > 40:
                raise card.OutOfTime

    bench.clock = Stops(600)
    line = card.line_of(bench, rows["step cache", "gentle"])
    assert (line.state, line.said) == (card.LATE, "it was begun")


def test_what_does_not_fit_is_not_tried(card: ModuleType, make_bench: Callable[..., Any]) -> None:
    row = next(row for row in card.all_rows() if row.name == "joint step, one pass")
    with managed_by(SizedCard(10)):
        line = card.line_of(make_bench(), row)
    assert line.state == card.TOO_LARGE and "0.0 MB free memory, says the planner" in line.said


def test_the_clip_becomes_smaller_where_the_card_is(card: ModuleType) -> None:
    timeline, why = card.largest(ON_CARD, int(24e9))
    assert (timeline.width, timeline.height, timeline.num_frames) == (832, 480, 81)
    assert why.startswith("832×480×81 needs ") and "of 24.0 GB free memory for a joint step, says the planner" in why
    smaller, why = card.largest(ON_CARD, int(7.2e9))
    assert smaller.num_frames < 81 and why.count("needs") > 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_it_says_so_and_ends_with_2(card: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert card.main([]) == card.main(["--device", "cpu"]) == 2
    errors = capsys.readouterr().err
    assert "there is no CUDA card that this torch sees" in errors and "a CPU takes --tiny" in errors


def test_the_command_runs_the_bundled_model(card: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert card.main(["--device", "cpu", "--tiny", "--only", "step", "--write"]) == 0
    out = capsys.readouterr().out
    assert "no card" in out and out.count(card.RAN) == 2 and "2 rows in" in out
    assert not card.FILE.exists() or "no card" not in card.FILE.read_text(encoding="utf-8")


class FakeMeter:
    """Of a card that is not there."""

    def __init__(self, bytes_on_card: CardBytes) -> None:
        self.device, self._card = ON_CARD.device, bytes_on_card

    def start(self) -> None:
        self._card.peak = self._card.now

    def wait(self) -> None:
        pass

    def peak(self) -> int:
        return self._card.peak


def without_numbers(model: JoinedModel) -> JoinedModel:
    """A twin whose tensors are fake ones in main memory; inside ``fake_card``."""
    joint = on_card(model.joint, "cpu")
    texts = {side: on_card(encoder, "cpu") for side, encoder in model.texts.present.items()}
    oobleck = type(model.audio.codec.vae).from_config(model.audio.codec.vae.config).eval()
    codecs = WanVAECodec(on_card(model.video.codec.vae, "cpu")), OobleckCodec(oobleck)
    parts = [
        replace(side, tower=getattr(joint, name), codec=codec, text=texts[name], placement=ON_CARD)
        for (name, side), codec in zip(model.sides.present.items(), codecs, strict=True)
    ]
    assert isinstance(parts[1], AudioParts)
    return replace(model, joint=joint, video=parts[0], audio=parts[1], placement=ON_CARD)


@contextmanager
def bench_of_fakes(card: ModuleType, model: JoinedModel, timeline: Timeline, planes: Any = None) -> Iterator[Any]:
    with fake_card() as counter, managed_by(SizedCard(80e9)):
        twin = planes and replace(
            planes,
            transformer=on_card(planes.transformer, "cpu"),
            text=on_card(planes.text, "cpu"),
            whole=WholeCodec(on_card(planes.whole.model, "cpu")),
            placement=ON_CARD,
        )
        meter, rest = FakeMeter(counter), (twin, model, unset_fake_temporarily)
        yield card.Bench(without_numbers(model), timeline, ON_CARD, card.Clock(36_000), meter, *rest, rounds=1)


@pytest.mark.slow
def test_the_way_of_a_card_runs_on_one_that_is_not_there(
    card: ModuleType, small_models_dir: Path, planes_dir: Path
) -> None:
    half = replace(CPU, dtype=torch.bfloat16)
    model, planes = (load_models(folder, placement=half) for folder in (small_models_dir, planes_dir))
    rows = [row for row in card.all_rows() if (row.group, row.name) not in NOT_FAKE]
    with bench_of_fakes(card, model, Timeline(9, 15, 32, 32, model.geometry), planes) as bench:
        lines = card.lines_of(bench, rows)
    for line in lines:
        wanted = {card.ABSENT, card.OK} if line.row.name in KERNELS_OF_CARDS else {card.OK}
        assert line.state in wanted, (line.row.group, line.row.name, line.said)
        assert line.state != card.OK or line.measured.peak_bytes > 0
