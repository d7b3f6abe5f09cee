"""Compiled blocks: the same numbers, one graph a class, none anew for another prompt, and a sentence where it fails."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from sounding_video.core.device import Placement
from sounding_video.core.errors import InputError
from sounding_video.core.progress import Progress, stoppable
from sounding_video.core.types import Modality
from sounding_video.models.bridges import BRIDGES
from sounding_video.models.compiled import compiled, regions, why_not_compiled
from sounding_video.models.joint import JointModel
from sounding_video.models.placement import running
from sounding_video.pipeline import load_models, sample_latents
from sounding_video.sampling.options import SamplingOptions
from torch._dynamo.utils import counters

CPU = Placement(torch.device("cpu"), torch.float32)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    with torch.no_grad():
        yield
    torch._dynamo.reset()


def graphs() -> int:
    assert not counters["graph_break"]
    return counters["stats"]["unique_graphs"]


def with_text(modality: Modality, length: int) -> Modality:
    generator = torch.Generator().manual_seed(length)
    return replace(modality, text=torch.randn(2, length, modality.text.shape[2], generator=generator))


def test_another_prompt_compiles_nothing_and_the_numbers_are_the_same(joint, inputs) -> None:
    told: list[str] = []
    for run, length in enumerate((10, 12, 33)):
        video, audio = with_text(inputs["video"], length), with_text(inputs["audio"], length + 3)
        plain = joint(video, audio)
        for _ in range(2):
            with compiled(joint, told.append, "eager"):
                made = joint(video, audio)
        for one, other in zip(made, plain, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
        if run == 0:
            first = graphs()
    assert graphs() == first == 3 and not told, "a graph for Wan's blocks, Stable Audio's and the bridges"


@pytest.mark.parametrize("kind", BRIDGES)
def test_every_kind_of_bridge_is_compiled_in_one_piece(kind, random_stack, wan_tower, audio_tower, inputs) -> None:
    joint = JointModel(wan_tower, audio_tower, random_stack(kind)).eval()
    plain = joint(inputs["video"], inputs["audio"])
    with compiled(joint, pytest.fail, "eager"):
        made = joint(inputs["video"], inputs["audio"])
    torch.testing.assert_close(made, plain, rtol=1e-5, atol=1e-5)
    graphs()


def test_blocks_are_their_own_again_and_a_twin_never_runs_anothers_weights(joint) -> None:
    with compiled(joint, pytest.fail, "eager"):
        assert all("forward" in block.__dict__ for block in regions(joint))
    assert not any("forward" in block.__dict__ for block in regions(joint))


def test_a_stop_is_asked_for_between_blocks_and_breaks_no_graph(joint, inputs) -> None:
    asked = []
    watched = Progress(check_cancelled=lambda: asked.append(1))
    with stoppable(watched), running(joint, CPU), compiled(joint, pytest.fail, "eager"):
        joint(inputs["video"], inputs["audio"])
    assert graphs() == 3 and len(asked) >= len(regions(joint))


def test_a_compiler_that_fails_is_told_once_and_the_blocks_run_as_they_are(joint, inputs) -> None:
    def broken(graph, examples):
        raise OSError("no C++ compiler")

    plain, told = joint(inputs["video"], inputs["audio"]), []
    for _ in range(2):
        with compiled(joint, told.append, broken):
            made = joint(inputs["video"], inputs["audio"])
    assert len(told) == 2 and all("blocks run as they are" in each for each in told)
    assert all(torch.equal(one, other) for one, other in zip(made, plain, strict=True))


def test_a_fault_of_the_model_is_no_fault_of_the_compiler(joint, inputs) -> None:
    wrong = replace(inputs["video"], text=torch.randn(2, 10, 5))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), compiled(joint, pytest.fail, "eager"):
        joint(wrong, inputs["audio"])


@pytest.mark.parametrize(("offload", "compiles"), [("none", True), ("group", False)])
def test_the_option_compiles_a_run_or_says_why_not(
    offload: str, compiles: bool, small_models_dir, texts, monkeypatch
) -> None:
    monkeypatch.setattr("sounding_video.models.compiled.BACKEND", "eager")
    model = load_models(small_models_dir, placement=replace(CPU, offload=offload))
    told: list[str] = []
    made = [
        sample_latents(
            model,
            texts,
            video_shape=(1, 4, 3, 4, 6),
            audio_shape=(1, 6, 11),
            options=SamplingOptions(num_steps=2, compile=compile),
            progress=Progress(tell=told.append),
        )
        for compile in (False, True)
    ]
    torch.testing.assert_close(made[0].video, made[1].video, rtol=1e-4, atol=1e-4)
    assert bool(counters["stats"]["unique_graphs"]) == compiles == (not told)
    assert compiles or "offload group" in told[0]


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_a_switch_is_on_or_off(value: object) -> None:
    with pytest.raises(InputError, match="true or false"):
        SamplingOptions(compile=value)


@pytest.mark.parametrize(
    ("offload", "said"), [("none", ""), ("model", ""), ("group", "come and go"), ("sequential", "come and go")]
)
def test_where_it_cannot_be_that_is_said(offload: str, said: str, joint) -> None:
    told = why_not_compiled(joint, replace(CPU, offload=offload))
    assert said in told and bool(told) == bool(said)
    assert "not made of two towers" in why_not_compiled(torch.nn.Linear(1, 1), CPU)
