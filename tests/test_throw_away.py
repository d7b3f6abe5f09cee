"""A writer and a metric that somebody adds: one registration each, listed by node and command, and run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from fractions import Fraction
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
