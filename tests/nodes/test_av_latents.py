"""Picture and sound on one socket: the same clip as on two, and one sentence where it cannot be."""

from __future__ import annotations

import copy

import pytest
import torch
from small_models import write_bridge
from sounding_video.core.clock import WAN_STABLE_AUDIO
from sounding_video.core.errors import InputError
from sounding_video.headless.graph import read_workflow
from sounding_video.headless.runner import run_workflow
from sounding_video.nodes.av import joined, parted, rate_of, times_of
from sounding_video.nodes.conditioning import EmptyAVLatent
from sounding_video.nodes.host import standalone
from sounding_video.nodes.host.newer import NestedPair

SMALL = {
    "1": {"video_model": "wan"},
    "2": {"audio_model": "stable_audio"},
    "3": {"bridge_file": "bridge.safetensors"},
    "5": {"width": 32, "height": 32, "num_frames": 9},
    "7": {"steps": 2},
}
VIDEO, AUDIO = {"samples": torch.zeros(1, 16, 3, 4, 4)}, {"samples": torch.ones(1, 64, 12), "type": "audio"}


@pytest.fixture
def template(root):
    graph = read_workflow(root / "workflows" / "api" / "text_to_sounding_video_pocket.json")
    for node_id, values in SMALL.items():
        graph[node_id]["inputs"].update(values)
    return graph


@pytest.fixture
def run(small_models_dir, tmp_path):
    def start(graph):
        report = run_workflow(
            graph, models_dir=small_models_dir, output_dir=tmp_path / "out", device="cpu", embed_metadata=False
        )
        return report.files[0].read_bytes()

    return start


def on_one_socket(graph):
    graph = copy.deepcopy(graph)
    for node_id, names, name, source in (
        ("7", ("video_latent", "audio_latent"), "av_latent", ["5", 4]),
        ("8", ("video_samples", "audio_samples"), "av_samples", ["7", 2]),
    ):
        for old in names:
            del graph[node_id]["inputs"][old]
        graph[node_id]["inputs"][name] = source
    return graph


def test_one_socket_makes_the_clip_that_two_make(run, template):
    assert run(on_one_socket(template)) == run(template)


def test_a_nested_latent_on_the_old_sockets_gives_each_its_half(run, template):
    nested = copy.deepcopy(template)
    nested["7"]["inputs"] |= {"video_latent": ["5", 4], "audio_latent": ["5", 4]}
    nested["8"]["inputs"] |= {"video_samples": ["7", 2], "audio_samples": ["7", 2]}
    assert run(nested) == run(template)


def test_a_model_without_sound_takes_the_picture_of_both(run, template):
    del template["4"]["inputs"]["audio_tower"], template["4"]["inputs"]["bridge"]
    del template["6"]["inputs"]["audio_text_encoder"], template["8"]["inputs"]["audio_samples"]
    alone = copy.deepcopy(template)
    del alone["7"]["inputs"]["audio_latent"], template["7"]["inputs"]["audio_latent"]
    del template["7"]["inputs"]["video_latent"]
    template["7"]["inputs"]["av_latent"] = ["5", 4]
    for graph in (alone, template):
        del graph["9"]["inputs"]["audio"]
    assert run(template) == run(alone)


def test_two_become_one_and_one_becomes_two():
    both = joined(VIDEO, AUDIO)
    assert both["samples"].is_nested
    video, audio = parted(both, None, None)
    assert video["samples"] is VIDEO["samples"] and audio["samples"] is AUDIO["samples"]
    assert joined(VIDEO, None) is None and joined(None, AUDIO) is None
    assert parted(None, VIDEO, None) == (VIDEO, None)


@pytest.mark.parametrize(
    ("both", "video", "message"),
    [
        (joined(VIDEO, AUDIO), VIDEO, "a latent is given twice: got both on one socket, and picture on another"),
        (
            VIDEO,
            None,
            r"holds one latent only: got shape \(1, 16, 3, 4, 4\); expected picture and sound",
        ),
        ({"samples": NestedPair([torch.zeros(1)] * 3)}, None, "does not hold two latents: got 3; expected picture and"),
    ],
)
def test_what_cannot_be_parted_is_told(both, video, message):
    with pytest.raises(InputError, match=message):
        parted(both, video, None)


def test_the_frame_rate_stays_on_a_latent_from_node_to_node():
    video, audio, fps, _, both = EmptyAVLatent.execute(width=32, height=32, num_frames=9, fps=23.976, batch_size=1).args
    for latent in (video, audio, both, *parted(both, None, None), *parted(None, both, both)):
        assert rate_of(latent) == {"fps": fps}
        assert times_of(WAN_STABLE_AUDIO, latent) == WAN_STABLE_AUDIO.times("24000/1001")
    assert rate_of(None, VIDEO, audio) == {"fps": fps}


@pytest.mark.parametrize("rate", [{}, {"fps": "fast"}, {"fps": None}, {"fps": 0}, {"fps": [15]}])
def test_a_latent_from_elsewhere_leaves_the_time_to_the_counts(rate):
    assert times_of(WAN_STABLE_AUDIO, {**VIDEO, **rate}, AUDIO) is None
    assert times_of(WAN_STABLE_AUDIO, None, None) is None


def test_bridges_on_the_clock_hear_the_rate_of_the_latent(small_models_dir, tmp_path, template):
    """The same latents at another rate: the sampled sound is another with ``clock``, the same with ``official``."""
    from sounding_video.nodes.loaders import JoinTowers, LoadBridge, LoadStableAudioTower, LoadWanTower
    from sounding_video.nodes.sampling import JointSampler

    places = {rope: write_bridge(tmp_path / f"{rope}.safetensors", rope=rope) for rope in ("official", "clock")}
    sides = [{"dtype": "float32", "attention": "auto", "offload": "none"}] * 2
    with standalone.session(standalone.Session((small_models_dir, tmp_path))):
        video = LoadWanTower.execute("wan", **sides[0]).args[0]
        audio = LoadStableAudioTower.execute("stable_audio", **sides[1]).args[0]
        for rope, path in places.items():
            model = JoinTowers.execute(video, audio, LoadBridge.execute(path.name, "from file").args[0]).args[0]
            made = {}
            for rate in (None, 15.0, 30.0):
                latents = _latents(model, {} if rate is None else {"fps": rate})
                sampled = JointSampler.execute(model, _texts(video, audio), **latents, **PLAIN)
                made[rate] = sampled.args[1]
                assert made[rate].get("fps") == sampled.args[2].get("fps") == rate
            assert torch.equal(made[15.0]["samples"], made[30.0]["samples"]) == (rope == "official")


PLAIN = {
    "seed": 1, "steps": 2, "video_guidance_scale": 1.0, "audio_guidance_scale": 1.0, "schedule": "lockstep",
    "flow_sigmas": "diffusers-0.36", "guidance_batching": "auto", "preview": False,
}  # fmt: skip


def _latents(model, rate):
    shapes = {"video_latent": (1, 4, 3, 4, 4), "audio_latent": (1, 6, 40)}
    return {name: {"samples": torch.zeros(shape), **rate} for name, shape in shapes.items()}


def _texts(video, audio):
    from sounding_video.core.types import Captions
    from sounding_video.pipeline import encode_captions

    return encode_captions(video, audio, Captions("a ball", "a knock"), seconds=0.6, placement=video.placement)
