"""Parts of a model, a writer and a metric that somebody adds: one registration each, listed and run."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch
from sounding_video.cli import build_parser, main
from sounding_video.core.registry import Registry
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.evaluation.metrics import METRICS
from sounding_video.evaluation.metrics.base import Measurement, Metric
from sounding_video.headless.runner import run_workflow
from sounding_video.media.mux import write_clip
from sounding_video.media.probe import probe
from sounding_video.media.writers import WRITERS
from sounding_video.media.writers.pyav import PyAV
from sounding_video.models.codecs import CODECS
from sounding_video.models.codecs.oobleck import OobleckCodec
from sounding_video.models.codecs.wan_vae import WanVAECodec
from sounding_video.models.text import TEXT_ENCODERS
from sounding_video.models.text.umt5 import UMT5TextEncoder
from sounding_video.models.towers import TOWERS
from sounding_video.models.towers.stable_audio import StableAudioTower
from sounding_video.models.towers.wan import WanTower
from sounding_video.nodes.host import standalone
from sounding_video.nodes.loaders import LoadStableAudioTower, LoadWanTower
from sounding_video.nodes.output import Mux

NAME = "throw_away"


@pytest.fixture
def enter() -> Iterator[Callable[[Registry, Any], Any]]:
    """Registers for one test."""
    entered: list[Registry] = []

    def add(registry: Registry, variant: Any) -> Any:
        registry.register(NAME)(variant)
        entered.append(registry)
        return variant

    yield add
    for registry in entered:
        registry._entries.pop(NAME)


def help_text(command: str, capsys: pytest.CaptureFixture) -> str:
    with pytest.raises(SystemExit):
        build_parser().parse_args([command, "--help"])
    return capsys.readouterr().out


def test_a_writer(enter, graph, small_models_dir, tmp_path, capsys) -> None:
    jobs = []

    class Noting(PyAV):
        """Writes as another does, two formats only, and leaves a note."""

        def check(self, container: Any) -> None:
            if container.suffix == ".webm":
                raise ValueError("never")

        def __call__(self, job: Any, progress: Any) -> None:
            jobs.append(job)
            super().__call__(job, progress)

    enter(WRITERS, Noting)
    options = {port.id: port.options.get("options") for port in Mux.GET_SCHEMA().inputs}
    assert options["writer"] == ["pyav", *sorted(set(WRITERS) - {"pyav"})] and NAME in options["writer"]
    assert NAME in help_text("generate", capsys)
    assert Mux.validate_inputs(writer=NAME, format="mp4") is True
    with pytest.raises(ValueError, match="never"):
        Mux.validate_inputs(writer=NAME, format="webm")
    mux = next(node for node in graph.values() if node["class_type"] == "T2SVMux")
    mux["inputs"]["writer"] = NAME
    report = run_workflow(graph, models_dir=small_models_dir, output_dir=tmp_path, device="cpu", embed_metadata=False)
    assert len(jobs) == 1 and probe(report.files[0]).num_frames == 9
    said = ("--models", small_models_dir, "--frames", 5, "--size", "32x32", "--steps", 2, "--writer", NAME, "--json")
    assert main([str(word) for word in ("generate", "a ball", "-o", tmp_path / "clip.mp4", *said)]) == 0
    assert len(jobs) > 1 and probe(tmp_path / "clip.mp4").num_frames == 5


def test_a_metric(enter, tmp_path, capsys) -> None:
    class Loudness(Metric):
        """How large the largest sample is."""

        title = "largest sample"
        values: ClassVar[tuple[str, ...]] = ("largest",)

        def measure(self, sample: Any) -> Measurement:
            return Measurement({"largest": float(sample.clip.audio.waveform.abs().max())})

    enter(METRICS, Loudness)
    assert NAME in help_text("evaluate", capsys)
    for name, level in (("a.mkv", 0.5), ("b.mkv", 0.25)):
        sound = AudioClip(torch.full((2, 8000), level), 8000)
        write_clip(AVClip(VideoClip(torch.zeros(10, 32, 32, 3), Fraction(10)), sound), tmp_path / name)
    assert main(["evaluate", str(tmp_path), "--metrics", NAME, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metrics"][NAME]["largest"] == pytest.approx(0.375, abs=1e-3)
    assert {clip["file"]: clip[NAME]["largest"] for clip in told["clips"]} == pytest.approx(
        {"a.mkv": 0.5, "b.mkv": 0.25}, abs=1e-3
    )


STOCK = "throw_away_stock"


@pytest.fixture
def stock(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A library with classes of its own, each a known one under another name."""
    from diffusers import AutoencoderKLWan, AutoencoderOobleck, StableAudioDiTModel, WanTransformer3DModel
    from transformers import AutoConfig, UMT5Config, UMT5EncoderModel

    module = ModuleType(STOCK)
    for base in (WanTransformer3DModel, AutoencoderKLWan, StableAudioDiTModel, AutoencoderOobleck):
        name = f"Other{base.__name__}"
        setattr(module, name, type(name, (base,), {"__module__": STOCK}))
    config = type("OtherConfig", (UMT5Config,), {"model_type": "other-umt5", "__module__": STOCK})
    own = {"config_class": config, "__module__": STOCK}
    module.OtherUMT5EncoderModel = type("OtherUMT5EncoderModel", (UMT5EncoderModel,), own)
    module.OtherConfig = config
    monkeypatch.setitem(sys.modules, STOCK, module)
    AutoConfig.register("other-umt5", config, exist_ok=True)
    yield module


def renamed(folder: Path, part: str, **values: str) -> None:
    """A part's configuration says another class."""
    path = folder / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def variant(base: type, method: str, calls: list[str], stock: str) -> type:
    """A known variant for another class, which notes that it is run."""

    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(type(self).__name__)
        return getattr(base, method)(self, *args, **kwargs)

    return type(f"Other{base.__name__}", (base,), {method: noted, "stock": f"{STOCK}.{stock}"})


ROLES = [
    ("video tower", TOWERS, WanTower, "enter", "wan", "transformer", {"_class_name": "OtherWanTransformer3DModel"}),
    ("audio tower", TOWERS, StableAudioTower, "enter", "stable_audio", "transformer",
     {"_class_name": "OtherStableAudioDiTModel"}),
    ("video codec", CODECS, WanVAECodec, "decode", "wan", "vae", {"_class_name": "OtherAutoencoderKLWan"}),
    ("audio codec", CODECS, OobleckCodec, "decode", "stable_audio", "vae", {"_class_name": "OtherAutoencoderOobleck"}),
    ("text encoder", TEXT_ENCODERS, UMT5TextEncoder, "encode", "wan", "text_encoder",
     {"model_type": "other-umt5", "architectures": ["OtherUMT5EncoderModel"]}),
]  # fmt: skip


@pytest.mark.parametrize(("registry", "base", "method", "side", "part", "said"), [role[1:] for role in ROLES],
                         ids=[role[0] for role in ROLES])  # fmt: skip
def test_a_part_of_a_model(
    registry, base, method, side, part, said, enter, stock, graph, small_models_dir, tmp_path, capsys
) -> None:
    models = shutil.copytree(small_models_dir, tmp_path / "models")
    (models / side).rename(models / f"other_{side}")
    renamed(models / f"other_{side}", part, **said)
    calls: list[str] = []
    stock_name = said.get("_class_name") or said["architectures"][0]
    enter(registry, variant(base, method, calls, stock_name))
    node, port, key = {
        "wan": (LoadWanTower, "video_model", "1"),
        "stable_audio": (LoadStableAudioTower, "audio_model", "2"),
    }[side]
    with standalone.session(standalone.Session(model_roots=(models,))):
        options = {port.id: port.options.get("options") for port in node.GET_SCHEMA().inputs}
    assert f"other_{side}" in options[port]
    assert main(["models", "--models", str(models), "--json"]) == 0
    assert f"other_{side}" in capsys.readouterr().out
    graph[key]["inputs"][port] = f"other_{side}"
    run_workflow(graph, models_dir=models, output_dir=tmp_path / "out", device="cpu", embed_metadata=False)
    assert f"Other{base.__name__}" in calls, "the node's way runs it"
    calls.clear()
    said = ("--models", models, "--frames", 5, "--size", "32x32", "--steps", 2, "--json")
    assert main([str(word) for word in ("generate", "a ball", "-o", tmp_path / "clip.mp4", *said)]) == 0
    assert f"Other{base.__name__}" in calls and probe(tmp_path / "clip.mp4").num_frames == 5
