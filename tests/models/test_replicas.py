"""Two devices that share the guidance passes: the same numbers as one, and one way out of every trouble."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from fake_card import AUDIO_SHAPE, VIDEO_SHAPE, fake_card, on_card, published
from small_models import write_alignment
from sounding_video.cli import build_parser
from sounding_video.core.clock import Timeline
from sounding_video.core.device import resolve_devices, resolve_placement
from sounding_video.core.errors import Cancelled, InputError, PlacementError
from sounding_video.core.pair import Pair
from sounding_video.core.progress import Progress
from sounding_video.core.types import NEGATIVE, POSITIVE, Captions, Modality
from sounding_video.models.alignment.condition import conditioned
from sounding_video.models.bridges import BRIDGES
from sounding_video.models.compiled import why_not_compiled
from sounding_video.models.conditioning import ConditioningCache
from sounding_video.models.joint import BridgeStack, JointModel, placement
from sounding_video.models.lora.files import read_lora
from sounding_video.models.plan.fit import noted
from sounding_video.models.plan.needs import Workload
from sounding_video.models.plan.plans import plans
from sounding_video.models.plan.published import outline_shapes
from sounding_video.models.replicas import Replicas, _shares, copy_on, is_copied
from sounding_video.models.weights.alignment import load_alignment
from sounding_video.pipeline import SamplingOptions, add_lora, encode_captions, generate, load_models, sample_latents
from sounding_video.sampling.given import Given
from torch.utils._python_dispatch import TorchDispatchMode

CPU = torch.device("cpu")
CAPTIONS = Captions("a dog runs", "a dog barks")
# Sequential passes go through the very same forwards, so nothing differs by a bit.
BIT = {"guidance_batching": "sequential"}


@pytest.fixture(scope="module")
def model(small_models_dir):
    return aligned(load_models(small_models_dir, placement=resolve_placement(device="cpu")))


def aligned(model):
    """Weights read from a file lie anywhere in memory, and kernels for places that suit them round otherwise."""
    for parameter in model.joint.parameters():
        parameter.data = parameter.data.clone()
    return model


def on_two(model, **changed):
    return replace(model, placement=replace(model.placement, partners=(CPU,), **changed))


@pytest.fixture(scope="module")
def conditioning(model):
    rest = {"seconds": 1.0, "placement": model.placement, "cache": ConditioningCache()}
    return encode_captions(model.video, model.audio, CAPTIONS, **rest)


def sampled(model, conditioning, *, options=None, progress=None, frames=5, **given):
    timeline = Timeline(frames, 15, 32, 32, model.geometry)
    return sample_latents(
        model,
        conditioning,
        video_shape=(1, *timeline.video_latent_shape),
        audio_shape=(1, *timeline.audio_latent_shape),
        options=options or SamplingOptions(num_steps=3),
        times=timeline.times,
        progress=progress or Progress(),
        **given,
    )


def same(one, two):
    return torch.equal(one.video, two.video) and torch.equal(one.audio, two.audio)


WAYS = {
    "plain": {},
    "modality guidance": {"video_modality_scale": 2.0, "audio_modality_scale": 3.0},
    "guidance every 2nd, in a part": {"guidance_every": 2, "guidance_start": 0.3},
    "step cache": {"step_cache": "interval", "step_cache_every": 2, "num_steps": 8},
    "step cache that looks": {"step_cache": "first_block", "num_steps": 6},
    "sound cached": {"step_cache": "fast", "step_cache_sound": "cached", "num_steps": 8},
    "one scale off": {"video_guidance_scale": 1.0},
    "another solver": {"solver": "res_multistep", "schedule": "flow"},
}


@pytest.mark.parametrize("way", WAYS)
def test_two_devices_give_what_one_gives_to_the_bit(model, conditioning, way):
    settings = {"num_steps": 4, **WAYS[way]}
    one = sampled(model, conditioning, options=SamplingOptions(**settings, **BIT))
    seen = watch(model)
    two = sampled(on_two(model), conditioning, options=SamplingOptions(**settings))
    assert same(one, two)
    assert len({thread for thread, rows in seen}) == 2 and {rows for _, rows in seen} == {1}


def watch(model):
    """Threads and rows of the forwards of both copies' first blocks."""
    seen = []
    for joint in (model.joint, copy_on(model.joint, CPU)):
        block = joint.video.blocks[0]
        for key in list(block._forward_hooks):
            del block._forward_hooks[key]
        block.register_forward_hook(lambda *args: seen.append((threading.get_ident(), len(args[2]))))
    return seen


@pytest.mark.parametrize("side", ["video", "audio"])
@pytest.mark.parametrize("cache", ["off", "fast"])
def test_given_sides(model, conditioning, side, cache):
    plain = sampled(model, conditioning)
    given = Pair(**{side: Given(getattr(plain, side) * 0.9)})
    options = {"num_steps": 6, "step_cache": cache}
    one = sampled(model, conditioning, options=SamplingOptions(**options, **BIT), given=given)
    two = sampled(on_two(model), conditioning, options=SamplingOptions(**options), given=given)
    assert same(one, two) and torch.equal(getattr(two, side), getattr(plain, side) * 0.9)


@pytest.mark.parametrize("windows", ["blended", "given"])
def test_longer_clips(model, conditioning, windows):
    options = {"num_steps": 3, "windows": windows, "window_seconds": 0.6, "overlap_seconds": 0.2}
    one = sampled(model, conditioning, options=SamplingOptions(**options, **BIT), frames=17)
    two = sampled(on_two(model), conditioning, options=SamplingOptions(**options), frames=17)
    assert same(one, two)


@pytest.mark.parametrize("given", ["video", "audio"])
def test_what_a_tower_is_told_frame_by_frame(model, conditioning, tmp_path, given):
    frames = write_alignment(tmp_path / "frames.safetensors", reads=("video", "audio"), frames=("video", "audio"))
    shown = getattr(sampled(model, conditioning), given)
    told = conditioned(conditioning, load_alignment(frames), given, shown)
    side = "audio" if given == "video" else "video"
    alone = model.alone(side)
    shapes = alone.shapes(Timeline(5, 15, 32, 32, model.geometry))

    def made(one, **options):
        options = SamplingOptions(num_steps=3, **options)
        return sample_latents(one, told, video_shape=shapes.video, audio_shape=shapes.audio, options=options)

    one, two = made(alone, **BIT), made(on_two(alone))
    assert all(
        torch.equal(*pair) for pair in zip(*(Pair.of(each).present.values() for each in (one, two)), strict=True)
    )


def test_a_lora_and_a_second_clip_have_copies_of_their_own(model, conditioning, tmp_path):
    from lora_files import LAYOUTS, factors

    path = LAYOUTS["diffusers"](tmp_path / "x.safetensors", factors(model.joint.video.model))
    styled = aligned(add_lora(model, read_lora(path), 0.3))
    assert not is_copied(styled.joint, CPU)
    one = sampled(styled, conditioning, options=SamplingOptions(num_steps=3, **BIT))
    assert same(one, sampled(on_two(styled), conditioning)) and is_copied(styled.joint, CPU)
    assert not same(one, sampled(on_two(model), conditioning))
    assert copy_on(styled.joint, CPU) is copy_on(styled.joint, CPU)
    weights, copied = (dict(each.named_parameters()) for each in (styled.joint, copy_on(styled.joint, CPU)))
    assert weights.keys() == copied.keys()
    assert all(torch.equal(w, copied[n]) and w.data_ptr() != copied[n].data_ptr() for n, w in weights.items())


def test_the_whole_way_and_what_the_planner_says_of_the_other_device(model):
    timeline = Timeline(5, 15, 32, 32, model.geometry)
    told = []
    with noted() as notes:
        clip = generate(
            on_two(model, offload="auto"),
            CAPTIONS,
            timeline=timeline,
            options=SamplingOptions(num_steps=2),
            progress=Progress(tell=told.append),
        )
    assert clip.video.frames.shape[0] == 5 and told == []
    (sentence,) = [note for note in notes if "once more" in note]
    assert sentence.startswith("sample: cpu has towers and bridges once more and runs the other guidance passes: needs")


def test_where_there_is_one_pass_the_second_device_is_told_to_do_nothing(model, conditioning, small_models_dir):
    fresh, told = load_models(small_models_dir, placement=model.placement), []
    for scales in (
        {"video_guidance_scale": 1.0, "audio_guidance_scale": 1.0},
        {"unconditional": "alone"},
    ):
        options = SamplingOptions(num_steps=2, **scales)
        sampled(on_two(fresh), conditioning, options=options, progress=Progress(tell=told.append))
        assert "the second device does nothing in this run" in told[-1]
    assert not is_copied(fresh.joint, CPU)


# Trouble


def test_a_stop_ends_both_within_a_layer(model, conditioning):
    """Asked in the middle of a forward; only this thread asks, as a host's own interrupt is raised once."""
    asked, threads = [0], set()

    def check():
        asked[0] += 1
        threads.add(threading.get_ident())
        if asked[0] == 300:
            raise Cancelled

    with pytest.raises(Cancelled):
        sampled(on_two(model), conditioning, progress=Progress(check_cancelled=check))
    assert asked[0] == 300 and threads == {threading.get_ident()}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("guidance")]
    assert same(
        sampled(on_two(model), conditioning), sampled(model, conditioning, options=SamplingOptions(num_steps=3, **BIT))
    )


def failing(module, error):
    def fail(*_):
        raise error

    return module.register_forward_pre_hook(fail)


def test_a_full_second_device_is_named_and_the_first_does_not_go_on(model, conditioning):
    twin, calls = copy_on(model.joint, CPU), []
    hook = failing(twin.video.blocks[1], torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    count = model.joint.video.blocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    with pytest.raises(PlacementError, match=r"cpu has no memory left for its part.*Tried to allocate 2 GiB.*--device"):
        sampled(on_two(model), conditioning)
    assert len(calls) == 1
    hook.remove(), count.remove()


def test_an_error_of_the_second_device_is_the_one_that_is_raised(model, conditioning):
    hook = failing(copy_on(model.joint, CPU).audio.blocks[0], ValueError("of the second"))
    with pytest.raises(ValueError, match="of the second"):
        sampled(on_two(model), conditioning)
    hook.remove()


def test_a_first_device_that_runs_out_of_memory_is_tried_once_more(model, conditioning):
    hook = failing(model.joint.video.blocks[0], torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        sampled(on_two(model), conditioning)
    hook.remove()


def test_no_room_on_the_second_device_is_found_before_anything_is_copied(
    model, conditioning, monkeypatch, small_models_dir
):
    fresh = load_models(small_models_dir, placement=model.placement)
    monkeypatch.setattr("sounding_video.forecast.free_bytes", lambda device: 1000)
    with pytest.raises(PlacementError, match=r"cpu has no room for its part of the guidance: got 0\.0 MB free"):
        sampled(on_two(fresh), conditioning)
    assert not is_copied(fresh.joint, CPU)


@pytest.mark.parametrize(
    ("changed", "options", "message"),
    [
        ({"offload": "group"}, {}, "got offload group"),
        ({"offload": "sequential"}, {}, "got offload sequential"),
        ({}, {"guidance_batching": "sequential"}, "got guidance batching sequential"),
    ],
)
def test_what_cannot_be_shared_is_refused(model, conditioning, changed, options, message):
    with pytest.raises(InputError, match=f"cannot be shared between two devices: {message}.*--device instead"):
        sampled(on_two(model, **changed), conditioning, options=SamplingOptions(num_steps=2, **options))


def test_blocks_are_not_compiled_and_that_is_told(model, conditioning):
    told = []
    assert "two devices" in why_not_compiled(model.joint, on_two(model).placement)
    options = SamplingOptions(num_steps=2, compile=True)
    sampled(on_two(model), conditioning, options=options, progress=Progress(tell=told.append))
    assert told == ["on two devices blocks are not compiled"]


def test_plans_for_two_cards_move_no_single_layers():
    where = replace(resolve_placement(device="cpu", dtype="bfloat16", offload="auto"), device=torch.device("cuda"))
    where = replace(where, partners=(torch.device("cuda:1"),))
    outline = outline_shapes("wan-1.3b", where)
    work = Workload.of(Timeline(5, 15, 64, 64, outline.geometry))
    ways = {(plan.offload, plan.storage) for plan in plans(lambda storage: outline, work, where, tilings=("off",))}
    assert ways == {("none", "native"), ("model", "native")}


def test_the_passes_are_spread_and_the_positive_one_stays_at_home():
    assert [_shares(passes, 2) for passes in (1, 2, 3, 4)] == [
        [range(0, 1)],
        [range(1, 2), range(0, 1)],
        [range(2, 3), range(0, 2)],
        [range(2, 4), range(0, 2)],
    ]


# On the command line


def test_two_devices_are_named_by_a_comma():
    assert resolve_devices("cpu,cpu") == (CPU, CPU)
    assert resolve_devices(" cpu , meta") == (CPU, torch.device("meta"))
    for names in ("cpu", "cpu,", "cpu,cpu,cpu", "auto,cpu", "", "meta,meta:0"):
        with pytest.raises(InputError, match="two different devices"):
            resolve_devices(names)
    with pytest.raises(PlacementError, match="the device cannot be used: got cuda:77"):
        resolve_devices("cpu,cuda:77")
    assert build_parser().parse_args(["generate", "x", "-o", "y.mp4", "--devices", "cpu,cpu"]).devices == "cpu,cpu"


# Cards that are not there


class Inline:
    """A pool without threads: fake cards are a thread's own."""

    def submit(self, work, *args):
        future = Future()
        future.set_result(work(*args))
        return future


class Travelled(TorchDispatchMode):
    """Bytes that go from one card to the other."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and args and isinstance(args[0], torch.Tensor):
            places = {made.device, args[0].device}
            self.bytes += made.nbytes * (len(places) == 2 and {place.type for place in places} == {"cuda"})
        return made


def test_between_two_cards_little_travels_and_nothing_is_mixed(monkeypatch):
    """At 832×480×81, the published sizes: the readme's numbers."""
    monkeypatch.setattr("torch.cuda.device", lambda device: nullcontext())
    cards, like = (torch.device("cuda:0"), torch.device("cuda:1")), {"dtype": torch.bfloat16, "device": "cuda:0"}
    config = BRIDGES.get("dual_cross").Config
    joint = published("wan-1.3b").joint
    with torch.device("meta"):
        sizes = {"video_width": joint.video.width, "video_time_width": joint.video.time_width}
        stack = BridgeStack("dual_cross", config(**sizes), placement("uniform_early")).to(torch.bfloat16)
    joint = JointModel(joint.video, joint.audio, stack).eval()
    with fake_card(), torch.no_grad():
        models = [on_card(joint, str(card)) for card in cards]
        rest = {"passes": (NEGATIVE, POSITIVE)}
        time = torch.empty(1, device="cuda:0")
        video = Modality(torch.empty(2, *VIDEO_SHAPE[1:], **like), time, torch.empty(2, 1024, 4096, **like), **rest)
        texts = torch.empty(2, 128, 768, **like), torch.empty(2, 1, 1536, **like)
        audio = Modality(torch.empty(2, *AUDIO_SHAPE[1:], **like), time, *texts, **rest)
        with Travelled() as travelled:
            made = Replicas(models, cards, Inline())(video, audio)
    assert [one.shape for one in made] == [video.latents.shape, audio.latents.shape]
    assert {one.device for one in made} == {cards[0]}
    assert 15e6 < travelled.bytes < 18e6
    tokens = VIDEO_SHAPE[2] * (VIDEO_SHAPE[3] // 2) * (VIDEO_SHAPE[4] // 2)
    assert tokens == 32_760
    for name, gigabytes in (("wan-1.3b", 6), ("wan-14b", 27)):
        tower = published(name).joint.video
        # Queries, keys, values and outputs of half of the tokens go half to the other card, in every block and pass.
        exchanged = 2 * tower.num_blocks * 4 * (tokens // 2 * tower.width // 2) * 2
        assert round(exchanged / 1e9) == gigabytes
