"""ComfyUI's own Wan and Stable Audio as towers, with its real classes at small size. Runs inside it."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from sounding_video.core.clock import WAN_STABLE_AUDIO
from sounding_video.core.errors import Cancelled, IncompatibleWeightsError, InputError
from sounding_video.core.pair import Pair
from sounding_video.core.progress import SILENT, Progress
from sounding_video.core.types import POSITIVE, Conditioning, JointLatents, Modality
from sounding_video.media.preview import band_levels
from sounding_video.models.bridge_use import BridgeUse
from sounding_video.models.joint import JointModel
from sounding_video.models.patching import with_tuned_blocks
from sounding_video.pipeline import SamplingOptions
from sounding_video.sampling.given import Given
from sounding_video.sampling.loop import sample
from sounding_video.sampling.noise import draw_noise
from sounding_video.sampling.schedule import build_schedule

pytestmark = pytest.mark.inside_comfyui
SECONDS = 5.4
OPTIONS = SamplingOptions(num_steps=2, video_guidance_scale=4.0, audio_guidance_scale=3.0, seed=21)


@pytest.fixture(scope="module", autouse=True)
def comfy_importable(comfyui_path: Path):
    """ComfyUI's packages at the end of the path: nothing of ours or of site-packages is shadowed."""
    if str(comfyui_path) not in sys.path:
        sys.path.append(str(comfyui_path))
        yield
        sys.path.remove(str(comfyui_path))
    else:
        yield


@pytest.fixture(scope="module")
def native(comfy_importable):
    """The module under test."""
    from comfy.cli_args import args

    args.cpu = True
    return importlib.import_module("sounding_video.nodes.host.native")


def beside(name):
    """A module of this folder."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def parts(native):
    return beside("native_models")


@pytest.fixture(scope="module")
def models(parts, root):
    return parts.build(root)


@pytest.fixture
def run(native, parts, models):
    """Sample with the native models; returns latents by modality."""

    def start(bridges=None, *, video=None, audio=None, only=("video", "audio"), progress=SILENT, own=None, **changes):
        given = parts.texts()
        sides = {
            "video": (video or models.native_wan, parts.VIDEO_SHAPE),
            "audio": (audio or models.native_audio, parts.AUDIO_SHAPE),
        }
        prepared = [
            native.NativeSide(
                name,
                sides[name][0],
                changes.pop(f"{name}_positive", [[given[f"{name}_positive"], {}]]),
                [[given[f"{name}_negative"], {}]],
                (own or {}).get(name, {"samples": torch.zeros(sides[name][1])}),
            )
            for name in only
        ]
        settings = {"options": OPTIONS, "official_text": True, "seconds": SECONDS, **changes}
        with torch.inference_mode():
            return native.sample_native(prepared, bridges=bridges, progress=progress, **settings)

    return start


@pytest.fixture
def ours(native, parts, models):
    """The same through our own towers, in the native VAEs' space."""

    def start(bridges=None, *, wan=None, audio=None, only=("video", "audio"), options=OPTIONS, times=None, given=None):
        joint = JointModel(
            wan or models.wan if "video" in only else None,
            audio or models.stable_audio if "audio" in only else None,
            bridges and bridges.stack,
        )
        conditioning = parts.our_conditioning(models, SECONDS)
        shapes = {f"{name}_shape": getattr(parts, f"{name.upper()}_SHAPE") for name in only}
        latents = sample(
            partial(joint, times=times),
            Conditioning(**{name: conditioning[name] for name in only}),
            draw_noise(OPTIONS.seed, **shapes),
            schedule=options.build_schedule(video="video" in only, audio="audio" in only),
            guidance=options.guidance(frozenset({"video", "audio"} if bridges is not None else ())),
            seed=OPTIONS.seed,
            given=given,
            cache=options.build_cache(),
        )
        return in_vae_space(latents)

    return start


def in_vae_space(latents: JointLatents) -> dict[str, torch.Tensor]:
    import comfy.latent_formats

    formats = {"video": comfy.latent_formats.Wan21(), "audio": comfy.latent_formats.StableAudio1()}
    given = {"video": latents.video, "audio": latents.audio}
    return {name: formats[name].process_out(value) for name, value in given.items() if value is not None}


def assert_same(first, second):
    assert set(first) == set(second)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def assert_close(first, second, tolerance=1e-4):
    assert set(first) == set(second)
    for name, value in first.items():
        scale = float(second[name].abs().max())
        assert float((value - second[name]).abs().max()) <= tolerance * max(1.0, scale), name


def test_an_identity_bridge_changes_nothing_bit_for_bit(run, parts):
    assert_same(run(parts.bridges(identity=True)), run())


def test_bridges_on_the_clock_go_by_the_same_seconds_as_ours(run, ours, parts):
    """With a rate and without one; and the rate makes a difference."""
    bridges = parts.bridges(identity=False, rope="clock")
    results = []
    for times in (None, WAN_STABLE_AUDIO.times(8), WAN_STABLE_AUDIO.times(30)):
        results.append(run(bridges, times=times))
        assert_close(results[-1], ours(bridges, times=times))
    for first, second in itertools.pairwise(results):
        assert not any(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("kind", ["modality_adaptor", "video_features"])
def test_syncflows_bridges_lead_to_the_sound_and_leave_a_native_picture_alone(run, ours, parts, kind):
    """The picture of a joint run is that of the run without bridges, bit for bit; one that is given leads the sound."""
    bridges = parts.bridges(identity=False, rope="time_aligned", kind=kind)
    made, plain = run(bridges), run()
    assert_close(made, ours(bridges))
    assert torch.equal(made["video"], plain["video"])
    assert float((made["audio"] - plain["audio"]).abs().max()) > 1e-2
    own = torch.randn(parts.VIDEO_SHAPE, generator=torch.Generator().manual_seed(8))
    given = run(bridges, own={"video": {"samples": own}}, task="sound for the picture")
    assert torch.equal(given["video"], own) and not torch.equal(given["audio"], made["audio"])
    sound = {"audio": {"samples": torch.ones(parts.AUDIO_SHAPE)}}
    with pytest.raises(InputError, match="nothing leads from the given sound to the picture"):
        run(bridges, own=sound, task="picture for the sound")


@pytest.mark.parametrize("name", ["video", "audio"])
@pytest.mark.parametrize(
    ("how", "bridge"),
    [
        ("replace", {}),
        ("fixed", {}),
        ("fixed", {"kind": "fusion_block", "rope": "token_clock"}),
        ("replace", {"kind": "fusion_block", "rope": "token_clock", "reinject": False, "moments": True}),
    ],
)
def test_a_given_side_is_the_users_own_and_the_other_is_made_as_by_ours(run, ours, parts, name, how, bridge):
    import comfy.latent_formats

    form = {"video": comfy.latent_formats.Wan21(), "audio": comfy.latent_formats.StableAudio1()}[name]
    shape = {"video": parts.VIDEO_SHAPE, "audio": parts.AUDIO_SHAPE}[name]
    own = torch.randn(shape, generator=torch.Generator().manual_seed(8))
    bridges = parts.bridges(identity=False, **bridge)
    task = {"video": "sound for the picture", "audio": "picture for the sound"}[name]
    native = run(bridges, own={name: {"samples": own}}, task=task, options=replace(OPTIONS, given_how=how))
    assert torch.equal(native[name], own)
    theirs = ours(bridges, given=Pair(**{name: Given(form.process_in(own), how=how)}))
    other = "audio" if name == "video" else "video"
    assert_close({other: native[other]}, {other: theirs[other]})
    assert not torch.equal(native[other], run(bridges)[other])


def test_bridges_that_say_at_which_level_a_side_is_given_are_followed_and_another_use_is_told(run, ours, parts):
    own = torch.randn(parts.AUDIO_SHAPE, generator=torch.Generator().manual_seed(8))
    bridges = replace(parts.bridges(identity=False), use=BridgeUse("a2v", given_audio_time=0.4))
    sides, fixed = {"audio": {"samples": own}}, replace(OPTIONS, given_how="fixed")
    told = []
    progress = Progress(tell=told.append)
    made = run(bridges, own=sides, task="picture for the sound", options=fixed, progress=progress)
    theirs = ours(bridges, given=Pair(audio=Given(own, how="fixed", time=0.4)))
    assert_close({"video": made["video"]}, {"video": theirs["video"]})
    assert told == []
    run(bridges, own=sides, task="picture for the sound", options=replace(fixed, given_time=0.9), progress=progress)
    run(bridges, progress=progress)
    assert "given at 0.9" in told[0] and "are used for picture and sound made together" in told[1] and len(told) == 2


def test_a_noise_mask_keeps_a_part_of_a_native_side(run, parts):
    own = torch.randn(parts.AUDIO_SHAPE, generator=torch.Generator().manual_seed(8))
    mask = torch.ones(1, 1, own.shape[-1])
    mask[..., :3] = 0
    made = run(parts.bridges(identity=False), own={"audio": {"samples": own, "noise_mask": mask}})
    assert torch.equal(made["audio"][..., :3], own[..., :3])
    assert not torch.equal(made["audio"][..., 3:], own[..., 3:])


def test_nothing_leads_from_a_given_side_without_bridges(run, parts):
    own = {"video": {"samples": torch.ones(parts.VIDEO_SHAPE)}}
    with pytest.raises(InputError, match="nothing leads from the given picture to the sound"):
        run(own=own, task="sound for the picture")


@pytest.mark.parametrize("name", ["video", "audio"])
def test_each_forward_is_the_native_one_bit_for_bit(native, parts, models, name):
    """Against ComfyUI's own sampling function on the same latent, inside a guider of ComfyUI's; with hooks too."""
    import comfy.samplers

    model, shape, timestep = {
        "video": (models.native_wan, parts.VIDEO_SHAPE, torch.tensor([700])),
        "audio": (models.native_audio, parts.AUDIO_SHAPE, torch.tensor([0.6])),
    }[name]
    seen, passed = [], []

    def identity(number, state):
        passed.append(number)
        return state.hidden.clone()

    class Compare(comfy.samplers.Sampler):
        def sample(self, guider, sigmas, extra_args, *rest, **more):
            options, points = extra_args["model_options"], getattr(parts.POINTS, name)
            ready = native.ReadyTower(native.TOWERS[name](model), guider, options, points)
            latents = torch.randn(shape, generator=torch.Generator().manual_seed(2))
            text = parts.texts()[f"{name}_positive"]  # not read: the pass names a conditioning of the guider
            modality = Modality(latents, timestep, text, passes=(POSITIVE,))
            if name == "video":
                sigma = torch.tensor([0.7])
                noisy = latents
            else:
                sigma = torch.tan(timestep.double() * torch.pi / 2).float()
                noisy = latents * (sigma**2 + 1).sqrt()
            clean = comfy.samplers.sampling_function(
                guider.inner_model, noisy, sigma, None, guider.conds["positive"], 1.0, options
            )
            if name == "video":
                native_one = (noisy - clean) / sigma
            else:  # its model's own prediction, from x0 = x/(σ²+1) − v·σ/√(σ²+1)
                native_one = (noisy / (sigma**2 + 1) - clean) * (sigma**2 + 1).sqrt() / sigma
            seen.extend([native_one, ready.predict(modality), ready.predict(modality, identity)])
            return latents

    guider = comfy.samplers.CFGGuider(model)
    extra = {"seconds_start": 0.0, "seconds_total": SECONDS} if name == "audio" else {}
    guider.inner_set_conds({"positive": [[parts.texts()[f"{name}_positive"], extra]]})
    with torch.inference_mode():
        empty = torch.zeros(shape)
        guider.sample(empty, empty, Compare(), torch.tensor([1.0, 0.0]), disable_pbar=True, seed=0)
    native_one, plain, hooked = seen
    assert torch.equal(plain, native_one)
    assert torch.equal(hooked, native_one)
    assert tuple(passed) == getattr(parts.POINTS, name)


def test_bridged_native_models_equal_our_towers(run, ours, parts):
    bridges = parts.bridges(identity=False)
    bridged = run(bridges)
    assert_close(bridged, ours(bridges))
    plain = run()
    for name in bridged:
        assert float((bridged[name] - plain[name]).abs().max()) > 1e-2, "the bridges must do something"


def test_modality_guidance_of_native_models_equals_ours(run, ours, parts):
    bridges = parts.bridges(identity=False)
    options = replace(OPTIONS, video_modality_scale=2.5, audio_modality_scale=1.5)
    pushed = run(bridges, options=options)
    assert_close(pushed, ours(bridges, options=options))
    for name, plain in run(bridges).items():
        assert float((pushed[name] - plain).abs().max()) > 1e-2, "the scales must do something"
    assert_same(run(options=options), run())


def test_repeated_guidance_few_steps_and_other_solvers_of_native_models_equal_ours(run, ours, parts):
    bridges = parts.bridges(identity=False)
    plain = replace(OPTIONS, num_steps=8)
    options = replace(
        plain, solver="res_multistep", audio_solver="unipc", step_bend=1.5, guidance_every=3, guidance_end=0.9
    )
    made = run(bridges, options=options)
    assert_close(made, ours(bridges, options=options), 1e-3)
    for name, value in run(bridges, options=replace(options, guidance_every=1)).items():
        assert float((made[name] - value).abs().max()) > 1e-4, "the last push is repeated"
    for name, value in run(bridges, options=plain).items():
        assert float((made[name] - value).abs().max()) > 1e-2


@pytest.mark.parametrize("sound", ["fresh", "cached"])
def test_a_step_cache_over_native_models_equals_ours(run, ours, parts, sound):
    """The native sound alone is told what the bridges added, through the hooks of its own forward."""
    bridges = parts.bridges(identity=False)
    plain = replace(OPTIONS, num_steps=8)
    options = replace(plain, step_cache="fast", step_cache_sound=sound)
    told = []
    cached = run(bridges, options=options, progress=Progress(tell=told.append))
    assert_close(cached, ours(bridges, options=options), 1e-3)
    assert told[-1].startswith(f"step cache: {options.num_computed} of 8 steps computed")
    for name, value in run(bridges, options=plain).items():
        assert float((cached[name] - value).abs().max()) > 1e-4, "the cache must leave something out"
    assert_close(run(options=options), ours(options=options), 1e-3)


def test_a_step_cache_that_looks_into_native_models_is_refused(run, parts):
    with pytest.raises(InputError, match="cannot stop behind their first block"):
        run(parts.bridges(identity=False), options=replace(OPTIONS, step_cache="first_block"))


@pytest.mark.parametrize("name", ["video", "audio"])
def test_one_modality_alone_equals_our_tower(run, ours, parts, name):
    assert_close(run(parts.bridges(identity=False), only=(name,)), ours(only=(name,)))


def test_native_text_is_another_text(run):
    """512 rows instead of 1024, and the two duration tokens: the choice does something to both."""
    official, native = run(), run(official_text=False)
    assert not torch.equal(official["video"], native["video"])
    assert not torch.equal(official["audio"], native["audio"])


def test_the_length_reaches_the_audio_model_from_either_place(run, parts):
    told = [[parts.texts()["audio_positive"], {"seconds_start": 0.0, "seconds_total": SECONDS}]]
    same = run(only=("audio",), audio_positive=told)
    assert_same(run(only=("audio",)), same)
    assert not torch.equal(run(only=("audio",), seconds=2.0)["audio"], same["audio"])


def tuned_weights(models, seed=7, spread=0.02):
    """Two blocks of each tower as a bridge file holds them: diffusers' names, biases that are not zero."""
    generator = torch.Generator().manual_seed(seed)
    result = {}
    for name, tower, stem in (
        ("video", models.wan, "blocks"),
        ("audio", models.stable_audio, "transformer_blocks"),
    ):
        state = {
            key: value
            for key, value in tower.model.state_dict().items()
            if key.startswith((f"{stem}.0.", f"{stem}.1."))
        }
        result[name] = {
            key: value + spread * torch.randn(value.shape, generator=generator) for key, value in state.items()
        }
    return result


def test_tuned_blocks_act_as_patches_and_leave_no_trace(run, ours, parts, models):
    before = run()
    weights = tuned_weights(models)
    bridges = parts.bridges(identity=True, tower_weights=weights)
    tuned = run(bridges)
    expected = ours(
        bridges,
        wan=with_tuned_blocks(models.wan, weights["video"]),
        audio=with_tuned_blocks(models.stable_audio, weights["audio"]),
    )
    assert_close(tuned, expected)
    assert not torch.equal(tuned["video"], before["video"])
    assert not torch.equal(tuned["audio"], before["audio"])
    assert_same(run(), before)
    assert models.native_wan.patches == {}
    assert models.native_audio.object_patches == {}


def test_a_lora_acts_on_both_modalities_and_on_top_of_tuned_blocks(run, parts, models):
    bridges = parts.bridges(identity=False)
    key = "diffusion_model.blocks.0.ffn.0.weight"
    shape = models.native_wan.model.state_dict()[key].shape
    difference = 0.05 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    lora = models.native_wan.clone()
    lora.add_patches({key: ("diff", (difference,))})
    plain, changed = run(bridges), run(bridges, video=lora)
    assert not torch.equal(plain["video"], changed["video"])
    assert not torch.equal(plain["audio"], changed["audio"]), "the sound hears the picture's LoRA through the bridge"
    assert_same(run(bridges), plain)

    weights = tuned_weights(models)
    with_lora = {name: {key: value.clone() for key, value in side.items()} for name, side in weights.items()}
    with_lora["video"]["blocks.0.ffn.net.0.proj.weight"] = (
        weights["video"]["blocks.0.ffn.net.0.proj.weight"] + difference
    )
    assert_close(
        run(parts.bridges(identity=True, tower_weights=weights), video=lora),
        run(parts.bridges(identity=True, tower_weights=with_lora)),
        1e-6,
    )


def test_tuned_blocks_that_fit_nowhere_are_refused(run, parts, models):
    weights = tuned_weights(models)
    weights["video"]["blocks.9.attn1.to_q.weight"] = torch.zeros(2, 2)
    with pytest.raises(
        IncompatibleWeightsError, match=r"native video model: got 1 of .*blocks\.9\.attn1\.to_q\.weight"
    ):
        run(parts.bridges(identity=True, tower_weights=weights))


def wan_state(models):
    """The native Wan's weights by their names in a file."""
    return {
        name.removeprefix("diffusion_model."): tensor.clone()
        for name, tensor in models.native_wan.model.state_dict().items()
        if name.startswith("diffusion_model.")
    }


def relative(rough, exact):
    return float((rough["video"] - exact["video"]).norm() / exact["video"].norm())


def test_wan_stored_in_fp8_stays_close(run, ours, parts, models):
    import comfy.sd

    narrow = {
        name: tensor.to(torch.float8_e4m3fn) if tensor.ndim == 2 and ".blocks." in f".{name}" else tensor
        for name, tensor in wan_state(models).items()
    }
    wan = comfy.sd.load_diffusion_model_state_dict(narrow, model_options={"dtype": torch.float8_e4m3fn})
    assert wan.model.state_dict()["diffusion_model.blocks.0.self_attn.q.weight"].dtype == torch.float8_e4m3fn
    bridges = parts.bridges(identity=False)
    assert 0 < relative(run(bridges, video=wan), ours(bridges)) < 0.15


def scaled_fp8(state):
    """A file of scaled fp8, and what it means: with its layers' biases as they are, and rounded as well."""
    fp8 = torch.float8_e4m3fn
    stored, meaning, rounded = {"scaled_fp8": torch.zeros(2, dtype=fp8)}, dict(state), {}
    for name, tensor in state.items():
        stored[name] = tensor
        if tensor.ndim == 2 and name.endswith(".weight"):
            stem, scale = name.removesuffix(".weight"), tensor.abs().max() / 448
            stored |= {name: (tensor / scale).to(fp8), f"{stem}.scale_weight": scale}
            meaning[name] = stored[name].float() * scale
            rounded[f"{stem}.bias"] = state[f"{stem}.bias"].to(fp8).float()
    return stored, [meaning, meaning | rounded]


def test_wan_in_scaled_fp8_computes_what_its_file_means(run, ours, parts, models):
    import comfy.sd

    stored, meanings = scaled_fp8(wan_state(models))
    with torch.inference_mode():  # as ComfyUI loads; its quantised tensors stay what they were made as
        wan = comfy.sd.load_diffusion_model_state_dict(stored)
    kept = wan.model.state_dict()
    layer = "diffusion_model.blocks.0.self_attn.q."
    assert kept[f"{layer}weight"].dtype == torch.float8_e4m3fn
    assert [name for name in kept if name.startswith(layer) and "scale" in name], "how it is called is ComfyUI's affair"
    plain = [
        comfy.sd.load_diffusion_model_state_dict(state, model_options={"dtype": torch.float32}) for state in meanings
    ]
    bridges = parts.bridges(identity=False)
    rough = run(bridges, video=wan)
    # Whether biases are rounded too is a version's choice.
    assert min(relative(rough, run(bridges, video=model)) for model in plain) < 1e-5
    assert 0 < relative(rough, ours(bridges)) < 0.15

    weights = tuned_weights(models, spread=0.002)
    tuned = parts.bridges(identity=False, tower_weights=weights)
    expected = ours(
        tuned,
        wan=with_tuned_blocks(models.wan, weights["video"]),
        audio=with_tuned_blocks(models.stable_audio, weights["audio"]),
    )
    changed = run(tuned, video=wan)
    assert relative(changed, expected) < 0.15
    assert not torch.equal(changed["video"], rough["video"])
    assert_same(run(bridges, video=wan), rough)


def test_packed_weights_take_bridges_tuned_blocks_and_a_lora(run, parts, models):
    """As loaders of GGUF files keep them: the state dict tells the bytes only, patches wait for the unpacking."""
    pytest.importorskip("gguf", reason="the gguf package is not installed")
    import comfy.sd

    packed, meaning = beside("packed_models").packed_wan(wan_state(models))
    plain = comfy.sd.load_diffusion_model_state_dict(meaning, model_options={"dtype": torch.float32})
    bridges, weights = parts.bridges(identity=False), tuned_weights(models)
    tuned = parts.bridges(identity=False, tower_weights=weights)
    before = run(bridges, video=packed)
    assert_close(before, run(bridges, video=plain))
    changed = run(tuned, video=packed)
    assert_close(changed, run(tuned, video=plain))
    assert not torch.equal(changed["video"], before["video"])
    difference = 0.05 * torch.randn(96, parts.WIDTH, generator=torch.Generator().manual_seed(1))
    with_lora = []
    for model in (packed, plain):
        lora = model.clone()
        lora.add_patches({"diffusion_model.blocks.0.ffn.0.weight": ("diff", (difference,))})
        with_lora.append(run(tuned, video=lora))
    assert_close(*with_lora)
    assert not torch.equal(with_lora[0]["video"], changed["video"])
    assert_same(run(bridges, video=packed), before)


def test_another_pack_s_replacement_of_a_block_is_kept(run, parts, models):
    calls = []
    other = models.native_wan.clone()

    def replacement(args, extra):
        calls.append(1)
        return extra["original_block"](args)

    other.set_model_patch_replace(replacement, "dit", "double_block", parts.POINTS.video[1])
    bridges = parts.bridges(identity=False)
    assert_same(run(bridges, video=other), run(bridges))
    assert len(calls) == 2 * OPTIONS.num_steps


def threads():
    return [thread for thread in threading.enumerate() if thread is not threading.main_thread() and thread.is_alive()]


def test_a_patch_that_skips_the_forward_is_found_out(run, parts, models):
    """As step caches do: they give back an older prediction without running the blocks."""
    import comfy.patcher_extension

    before = threads()
    cached = models.native_wan.clone()
    cached.add_wrapper_with_key(
        comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "cache", lambda executor, x, *args, **named: x
    )
    with pytest.raises(InputError, match=r"the video model skips bridges: got 0 of 3 bridge points.*TeaCache"):
        run(parts.bridges(identity=False), video=cached)
    assert threads() == before


def test_a_model_that_runs_twice_is_found_out(run, parts, models):
    import comfy.patcher_extension

    def twice(executor, *args, **named):
        executor(*args, **named)
        return executor(*args, **named)

    doubled = models.native_wan.clone()
    doubled.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "twice", twice)
    with pytest.raises(InputError, match=r"does not give one time embedding|another way than the bridges need"):
        run(parts.bridges(identity=False), video=doubled)


def test_stopping_leaves_models_and_threads_as_they_were(run, parts, models):
    bridges = parts.bridges(identity=False)
    before, running = run(bridges), threads()

    def check(asked=[]):  # noqa: B006 - counts over the calls of this one run
        asked.append(1)
        if len(asked) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(bridges, progress=Progress(check_cancelled=check))
    assert threads() == running
    assert_same(run(bridges), before)


def test_an_error_in_the_audio_model_comes_out_of_the_node(run, parts, models):
    import comfy.patcher_extension

    def broken(*args, **named):
        raise RuntimeError("broken audio model")

    before = threads()
    audio = models.native_audio.clone()
    audio.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "broken", broken)
    with pytest.raises(RuntimeError, match="broken audio model"):
        run(parts.bridges(identity=False), audio=audio)
    assert threads() == before


def test_what_cannot_be_a_tower_is_refused(run, parts, models):
    with pytest.raises(InputError, match=r"not a model for the video: got StableAudio1; expected Wan 2\.1 T2V"):
        run(video=models.native_audio)
    text = parts.texts()["video_positive"]
    with pytest.raises(InputError, match="the positive video conditioning is not one text: got 2 conditionings"):
        run(video_positive=[[text, {}], [text, {}]])
    guided = models.native_wan.clone()
    guided.set_model_sampler_post_cfg_function(lambda args: args["denoised"])
    with pytest.raises(InputError, match=r"patches of the guidance.*got sampler_post_cfg_function"):
        run(video=guided)
    wide = parts.bridges(identity=True)
    object.__setattr__(wide.stack.config, "video_width", 5120)
    with pytest.raises(IncompatibleWeightsError, match=r"do not fit the towers: got video_width 5120 \(tower: 128\)"):
        run(wide)


def test_the_node_gives_latents_that_the_native_decoders_take(run, parts, models):
    from sounding_video.nodes.native import NativeSampler

    given = parts.texts()
    sides = {
        f"{name}_{part}": [[given[f"{name}_{part}"], {}]]
        for name in ("video", "audio")
        for part in ("positive", "negative")
    }
    bridges = parts.bridges(identity=False)
    with torch.inference_mode():
        result = NativeSampler.execute(
            wan_model=models.native_wan,
            video_latent={"samples": torch.ones(parts.VIDEO_SHAPE)},
            stable_audio_model=models.native_audio,
            audio_latent={"samples": torch.ones(parts.AUDIO_SHAPE)},
            bridge=bridges,
            **sides,
            text="official",
            seconds=SECONDS,
            preview=True,
            audio_vae=None,
            seed=OPTIONS.seed,
            steps=OPTIONS.num_steps,
            video_guidance_scale=OPTIONS.video_guidance_scale,
            audio_guidance_scale=OPTIONS.audio_guidance_scale,
            schedule="lockstep",
            flow_sigmas="diffusers-0.36",
            flow_shift=3.0,
        )
    video, audio, _both = result.args
    assert (set(video), audio["type"]) == ({"samples"}, "audio")
    assert_same({"video": video["samples"], "audio": audio["samples"]}, run(bridges))


@pytest.fixture
def maps_of(native):
    return importlib.import_module("sounding_video.nodes.host.native_preview").preview_maps


def audio_side(native, parts, models):
    return native.NativeSide("audio", models.native_audio, [], None, {"samples": torch.zeros(parts.AUDIO_SHAPE)})


def test_a_preview_has_the_colours_comfyui_knows(native, maps_of, parts, models):
    side = native.NativeSide("video", models.native_wan, [], None, {"samples": torch.zeros(parts.VIDEO_SHAPE)})
    seen = []
    progress = maps_of([side]).watch(Progress(lambda stage, done, total, preview=None: seen.append(preview())))
    latents = torch.randn(parts.VIDEO_SHAPE)
    progress.report("sample", 1, 2, lambda: JointLatents(video=latents))
    factors = models.native_wan.model.latent_format
    colours = latents[0].movedim(0, -1) @ torch.tensor(factors.latent_rgb_factors)
    expected = ((colours + torch.tensor(factors.latent_rgb_factors_bias) + 1) / 2).clamp(0, 1)
    assert (seen[0].frames.float() / 255 - expected).abs().max() < 0.01
    assert maps_of([audio_side(native, parts, models)]).render(JointLatents(video=latents)) is None


@pytest.fixture
def audio_vae(parts, root):
    return parts.audio_vae(root)


@torch.no_grad()
def test_the_sound_is_shown_as_its_vae_would_decode_it(native, maps_of, parts, models, audio_vae):
    units = []
    progress = Progress(lambda stage, done, total, preview=None: units.append((stage, done, total)))
    sides = [audio_side(native, parts, models)]
    maps = maps_of(sides, audio_vae, progress)
    # Every layer of the encoder and of the decoder is a unit; the decoder has one more, which does nothing.
    assert units == [("preview", done, total) for total in (8, 9) for done in range(total + 1)]
    time = torch.arange(24 * 2048) / 44_100
    sound = 0.5 * torch.sin(2 * torch.pi * 440 * time) * (time % 0.4 < 0.2)
    torch.manual_seed(9)  # ComfyUI draws from the encoder's posterior
    latents = audio_vae.encode(sound.expand(2, -1).T[None])
    preview = maps.render(JointLatents(audio=latents))
    assert (preview.frames, preview.seconds) == (None, 24 * 2048 / 44_100)
    shown, heard = maps.levels(latents).T, band_levels(audio_vae.decode(latents)[0].T, 44_100, 2048, 24)
    assert shown.shape == heard.shape
    correlation = torch.corrcoef(torch.stack([shown.flatten(), heard.flatten()]))[0, 1]
    assert correlation > 0.6
    assert maps_of(sides, audio_vae, progress).levels is maps.levels
    assert len(units) == 9 + 10, "the same VAE is fitted once"
    assert maps_of([], audio_vae).levels is None, "there is no sound in this run"


def test_fitting_the_sound_s_preview_can_be_stopped(native, maps_of, parts, models, audio_vae):
    sides, units = [audio_side(native, parts, models)], []

    def check_cancelled():
        if len(units) == 12:
            raise Cancelled

    progress = Progress(lambda *given: units.append(given), check_cancelled)
    with torch.inference_mode(), pytest.raises(Cancelled):
        maps_of(sides, audio_vae, progress)
    assert len(units) == 12
    assert maps_of(sides, audio_vae).levels is not None


def test_another_vae_shows_no_sound(native, maps_of, parts, models):
    import comfy.sd

    other = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
    with pytest.raises(InputError, match=r"not the VAE of Stable Audio: got PixelspaceConversionVAE.*Load Checkpoint"):
        maps_of([audio_side(native, parts, models)], other)


@pytest.mark.parametrize("way", ["given", "blended"])
def test_longer_native_clips_go_in_windows_as_with_our_towers(run, parts, models, way):
    """The same windows over our towers, each told the same texts and the same length."""
    from sounding_video.long_clips import plan_for, sample_windows
    from sounding_video.models.own import PUBLISHED

    shapes = Pair((1, 16, 8, 6, 8), (1, 64, 41))
    options = replace(OPTIONS, windows=way, window_seconds=1.1, overlap_seconds=0.4)
    bridges, times, told = parts.bridges(identity=False), WAN_STABLE_AUDIO.times(15), []
    own = {side: {"samples": torch.zeros(shape)} for side, shape in shapes.present.items()}
    made = run(bridges, own=own, options=options, times=times, progress=Progress(tell=told.append))
    plan = plan_for(WAN_STABLE_AUDIO, PUBLISHED, options, shapes, times)
    assert len(plan.windows) == 3 and told[0] == plan.sentence
    joint = JointModel(models.wan, models.stable_audio, bridges.stack)
    conditioning = Conditioning(**parts.our_conditioning(models, float(plan.seconds)))
    settings = {
        "schedule": build_schedule("lockstep", options.num_steps),
        "guidance": options.guidance(),
        "cache": None,
    }
    latents = sample_windows(
        lambda at: partial(joint, times=at), plan, conditioning, shapes, options, Pair(), settings, SILENT
    )
    assert_close(made, in_vae_space(latents))
    assert float((run(bridges, own=own, options=OPTIONS, times=times)["video"] - made["video"]).abs().max()) > 1e-2
