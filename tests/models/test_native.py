"""Bridges between two forwards that run by themselves, and the places of tuned blocks in native models."""

from __future__ import annotations

import contextvars
import importlib.util
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_models import hooked_forward as forward
from sounding_video.core.clock import WAN_STABLE_AUDIO
from sounding_video.core.errors import IncompatibleWeightsError, InputError
from sounding_video.models.joint import BridgePoints, BridgeStack, JointModel
from sounding_video.models.native import BridgedForwards, Stop, Strand
from sounding_video.models.weights.native import native_replacements

_spec = importlib.util.spec_from_file_location("single_files", Path(__file__).with_name("single_files.py"))
files = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(files)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(autouse=True)
def _no_threads_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.mark.parametrize("points", [BridgePoints((0, 2), (1, 2)), BridgePoints((1,), (0,))])
def test_two_forwards_with_bridges_are_the_joint_model(wan_tower, audio_tower, inputs, bridge_config, points):
    torch.manual_seed(1)
    stack = BridgeStack("dual_cross", bridge_config, points)
    for parameter in stack.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    expected = JointModel(wan_tower, audio_tower, stack)(inputs["video"], inputs["audio"])
    bridged = BridgedForwards(stack)
    for _ in range(2):
        result = bridged(
            forward(wan_tower, inputs["video"], points.video), forward(audio_tower, inputs["audio"], points.audio)
        )
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(result, expected, strict=True))


def test_two_forwards_go_by_the_clock_that_the_joint_model_goes_by(
    wan_tower, audio_tower, inputs, bridge_config, random_stack
):
    stack = random_stack("dual_cross", replace(bridge_config, rope="clock"))
    model, towers = JointModel(wan_tower, audio_tower, stack), (wan_tower, audio_tower)
    results = []
    for times in (None, WAN_STABLE_AUDIO.times(15), WAN_STABLE_AUDIO.times(24)):
        forwards = (forward(t, inputs[t.modality], (0, 1)) for t in towers)
        results.append(BridgedForwards(stack, times)(*forwards))
        expected = model(inputs["video"], inputs["audio"], times=times)
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(results[-1], expected, strict=True))
    assert not torch.equal(results[1][0], results[2][0]) and not torch.equal(results[0][1], results[1][1])


@pytest.fixture
def two(wan_tower, audio_tower, inputs, bridge_config):
    """Runs both towers past the given hooks, with bridges at (0, 1)."""
    bridged = BridgedForwards(BridgeStack("dual_cross", bridge_config, BridgePoints((0, 1), (0, 1))))

    def run(video_points=(0, 1), audio_points=(0, 1)):
        return bridged(
            forward(wan_tower, inputs["video"], video_points), forward(audio_tower, inputs["audio"], audio_points)
        )

    return run


@pytest.mark.parametrize(
    ("points", "words"),
    [
        ({"video_points": (0,)}, "the video model skips bridges: got 1 of 2"),
        ({"video_points": ()}, "the video model skips bridges: got 0 of 2"),
        ({"audio_points": (0,)}, "the audio model skips bridges: got 1 of 2"),
        ({"audio_points": ()}, "the audio model skips bridges: got 0 of 2"),
        ({"video_points": (0, 2)}, r"the video model runs its blocks .*got block 2 after 1 of 2"),
        ({"audio_points": (0, 1, 2)}, r"the audio model runs its blocks .*got block 2 after 2 of 2"),
    ],
)
def test_a_forward_that_misses_a_bridge_is_refused(two, points, words):
    with pytest.raises(InputError, match=words):
        two(**points)


def test_extra_tokens_are_refused(wan_tower, audio_tower, inputs, bridge_config):
    bridged = BridgedForwards(BridgeStack("dual_cross", bridge_config, BridgePoints((0,), (0,))))

    def with_reference(stop: Stop) -> torch.Tensor:
        state = wan_tower.enter(inputs["video"])
        return stop(0, state.with_hidden(torch.cat([state.hidden[:, :2], state.hidden], dim=1)))

    with pytest.raises(InputError, match="adds tokens that the bridges do not know: got 20 tokens; expected 18"):
        bridged(with_reference, forward(audio_tower, inputs["audio"], (0,)))


def test_streams_of_another_type_come_back_in_it(wan_tower, audio_tower, inputs, bridge_config):
    bridged = BridgedForwards(BridgeStack("dual_cross", bridge_config, BridgePoints((0,), (0,))))
    types = []

    def in_half(tower, modality):
        def run(stop: Stop) -> torch.Tensor:
            state = tower.enter(modality)
            hidden = stop(0, state.with_hidden(state.hidden.half()))
            types.append(hidden.dtype)
            return hidden

        return run

    bridged(in_half(wan_tower, inputs["video"]), in_half(audio_tower, inputs["audio"]))
    assert types == [torch.float16, torch.float16]


def test_a_strand_runs_only_between_resume_and_its_next_meeting():
    told = []

    def work(meet):
        told.append("begun")
        told.append(meet("first"))
        told.append(meet("second"))
        return "result"

    strand = Strand(work)
    assert told == []
    assert strand.resume() == "first"
    assert told == ["begun"]
    assert strand.resume("go on") == "second"
    assert (strand.done, told) == (False, ["begun", "go on"])
    assert strand.resume("and on") is None
    assert (strand.done, strand.result) == (True, "result")
    strand.close()


def test_a_strand_inherits_what_torch_and_the_host_keep_per_thread():
    variable = contextvars.ContextVar("variable", default="outside")
    variable.set("inside")
    with torch.inference_mode():
        strand = Strand(lambda meet: (torch.is_inference_mode_enabled(), torch.is_grad_enabled(), variable.get()))
        strand.resume()
    assert strand.result == (True, False, "inside")
    strand.close()


def test_an_abandoned_strand_unwinds():
    ended = []

    def work(meet):
        try:
            meet(1)
        except Exception:
            ended.append("held up")
            raise
        finally:
            ended.append("cleaned up")

    strand = Strand(work)
    strand.resume()
    strand.close()
    assert ended == ["cleaned up"]


def native_shapes(state: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {f"diffusion_model.{name}": tuple(tensor.shape) for name, tensor in state.items()}


def test_tuned_video_blocks_find_their_original_names(wan_tower):
    state = wan_tower.model.state_dict()
    shapes = native_shapes(files.rename(state, files.WAN_RULES))
    tuned = {name: tensor for name, tensor in state.items() if name.startswith("blocks.1.")}
    places = dict(zip(tuned, native_replacements("video", tuned, shapes), strict=True))
    assert len(places) == 27
    assert places["blocks.1.attn2.to_k.bias"].name == "diffusion_model.blocks.1.cross_attn.k.bias"
    assert places["blocks.1.scale_shift_table"].name == "diffusion_model.blocks.1.modulation"
    assert all(part.rows is None and not part.is_new for part in places.values())
    # Against the writer of the tests: what replaces a tensor is the tensor of that name.
    original = files.rename(tuned, files.WAN_RULES)
    assert all(part.value is original[part.name.removeprefix("diffusion_model.")] for part in places.values())


def test_tuned_audio_blocks_find_their_part_of_joined_matrices(audio_tower):
    state = audio_tower.model.state_dict()
    names = files.rename(state, files.DIT_RULES)
    stems = {name.rpartition("attn.to_")[0] for name in names if "attn.to_q" in name}
    joined = {name: tensor for name, tensor in names.items() if ".to_k." not in name and ".to_v." not in name}
    for stem in stems:
        query, key = names[f"{stem}attn.to_q.weight"], names[f"{stem}attn.to_k.weight"]
        if stem.endswith("self_"):
            del joined[f"{stem}attn.to_q.weight"]
            joined[f"{stem}attn.to_qkv.weight"] = torch.cat([query, key, names[f"{stem}attn.to_v.weight"]])
        else:
            joined[f"{stem}attn.to_kv.weight"] = torch.cat([key, names[f"{stem}attn.to_v.weight"]])
    shapes = native_shapes({name: tensor for name, tensor in joined.items() if not name.endswith(".beta")})
    tuned = {name: tensor for name, tensor in state.items() if name.startswith("transformer_blocks.0.")}
    found = native_replacements("audio", tuned, shapes)
    assert len(found) == len(tuned)
    for name, part in zip(tuned, found, strict=True):
        whole = joined[part.name.removeprefix("diffusion_model.")]
        start, count = part.rows or (0, len(whole))
        assert torch.equal(whole[start : start + count], tuned[name]), name
        assert part.is_new == part.name.endswith(".beta")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("blocks.7.attn1.to_q.weight", torch.zeros(24, 24)),
        ("blocks.0.attn1.to_q.weight", torch.zeros(3, 3)),
        ("blocks.0.nonsense.bias", torch.zeros(24)),
    ],
)
def test_a_tuned_tensor_without_a_place_is_refused(wan_tower, name, value):
    shapes = native_shapes(files.rename(wan_tower.model.state_dict(), files.WAN_RULES))
    with pytest.raises(IncompatibleWeightsError, match=f"native video model: got 1 of 1 tensors, for example {name}"):
        native_replacements("video", {name: value}, shapes)
