"""ComfyUI's own Wan and Stable Audio as towers, with its real classes at small size. Needs COMFYUI_PATH."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from pathlib import Path

import pytest
import torch
from sounding_video.core.errors import Cancelled, IncompatibleWeightsError, InputError
from sounding_video.core.progress import SILENT, Progress
from sounding_video.core.types import Conditioning, JointLatents, Modality
from sounding_video.models.joint import JointModel
from sounding_video.models.patching import with_tuned_blocks
from sounding_video.pipeline import SamplingOptions
from sounding_video.sampling.guidance import Guidance
from sounding_video.sampling.loop import sample
from sounding_video.sampling.noise import draw_noise
from sounding_video.sampling.schedules import build_schedule

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


@pytest.fixture(scope="module")
def parts(native, root):
    spec = importlib.util.spec_from_file_location("native_models", root / "tests" / "integration" / "native_models.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["native_models"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models(parts, root):
    return parts.build(root)


@pytest.fixture
def run(native, parts, models):
    """Sample with the native models; returns latents by modality."""

    def start(bridges=None, *, video=None, audio=None, only=("video", "audio"), progress=SILENT, **changes):
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
                {"samples": torch.zeros(sides[name][1])},
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

    def start(bridges=None, *, wan=None, audio=None, only=("video", "audio")):
        joint = JointModel(
            wan or models.wan if "video" in only else None,
            audio or models.stable_audio if "audio" in only else None,
            bridges and bridges.stack,
        )
        conditioning = parts.our_conditioning(models, SECONDS)
        shapes = {f"{name}_shape": getattr(parts, f"{name.upper()}_SHAPE") for name in only}
        latents = sample(
            joint,
            Conditioning(**{name: conditioning[name] for name in only}),
            draw_noise(OPTIONS.seed, **shapes),
            schedule=build_schedule("lockstep", OPTIONS.num_steps, video="video" in only, audio="audio" in only),
            guidance=Guidance(OPTIONS.video_guidance_scale, OPTIONS.audio_guidance_scale, "sequential"),
            seed=OPTIONS.seed,
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


def test_without_bridges_each_forward_is_the_native_one(native, parts, models):
    """Against ComfyUI's own sampling function on the same latent, inside a guider of ComfyUI's."""
    import comfy.samplers

    seen = []

    class Compare(comfy.samplers.Sampler):
        def sample(self, guider, sigmas, extra_args, *rest, **more):
            options = extra_args["model_options"]
            tower = native.TOWERS["video"](models.native_wan)
            ready = native.ReadyTower(tower, guider, options)
            noisy = torch.randn(parts.VIDEO_SHAPE, generator=torch.Generator().manual_seed(2))
            mine = ready.predict(Modality(noisy, torch.tensor([700]), native.label("positive")))
            sigma = torch.tensor([0.7])
            clean = comfy.samplers.sampling_function(
                guider.inner_model, noisy, sigma, None, guider.conds["positive"], 1.0, options
            )
            seen.append((mine, (noisy - clean) / sigma))
            return noisy

    guider = comfy.samplers.CFGGuider(models.native_wan)
    guider.inner_set_conds({"positive": [[parts.texts()["video_positive"], {}]]})
    with torch.inference_mode():
        empty = torch.zeros(parts.VIDEO_SHAPE)
        guider.sample(empty, empty, Compare(), torch.tensor([1.0, 0.0]), disable_pbar=True, seed=0)
    assert torch.equal(*seen[0])


def test_bridged_native_models_equal_our_towers(run, ours, parts):
    bridges = parts.bridges(identity=False)
    bridged = run(bridges)
    assert_close(bridged, ours(bridges))
    plain = run()
    for name in bridged:
        assert float((bridged[name] - plain[name]).abs().max()) > 1e-2, "the bridges must do something"


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


def tuned_weights(models, seed=7):
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
            key: value + 0.02 * torch.randn(value.shape, generator=generator) for key, value in state.items()
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


def test_wan_stored_in_fp8_stays_close(run, ours, parts, models):
    import comfy.sd

    state = {
        name.removeprefix("diffusion_model."): tensor.clone()
        for name, tensor in models.native_wan.model.state_dict().items()
        if name.startswith("diffusion_model.")
    }
    narrow = {
        name: tensor.to(torch.float8_e4m3fn) if tensor.ndim == 2 and ".blocks." in f".{name}" else tensor
        for name, tensor in state.items()
    }
    wan = comfy.sd.load_diffusion_model_state_dict(narrow, model_options={"dtype": torch.float8_e4m3fn})
    assert wan.model.state_dict()["diffusion_model.blocks.0.self_attn.q.weight"].dtype == torch.float8_e4m3fn
    bridges = parts.bridges(identity=False)
    exact, rough = ours(bridges), run(bridges, video=wan)
    error = float((rough["video"] - exact["video"]).norm() / exact["video"].norm())
    assert 0 < error < 0.15


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
            seed=OPTIONS.seed,
            steps=OPTIONS.num_steps,
            video_guidance_scale=OPTIONS.video_guidance_scale,
            audio_guidance_scale=OPTIONS.audio_guidance_scale,
            schedule="lockstep",
            flow_sigmas="diffusers-0.36",
            flow_shift=3.0,
        )
    video, audio = result.args
    assert (set(video), audio["type"]) == ({"samples"}, "audio")
    assert_same({"video": video["samples"], "audio": audio["samples"]}, run(bridges))


def test_a_preview_has_the_colours_comfyui_knows(native, parts, models):
    side = native.NativeSide("video", models.native_wan, [], None, {"samples": torch.zeros(parts.VIDEO_SHAPE)})
    seen = []
    progress = native.preview_maps([side]).watch(
        Progress(lambda stage, done, total, preview=None: seen.append(preview()))
    )
    latents = torch.randn(parts.VIDEO_SHAPE)
    progress.report("sample", 1, 2, lambda: JointLatents(video=latents))
    factors = models.native_wan.model.latent_format
    colours = latents[0].movedim(0, -1) @ torch.tensor(factors.latent_rgb_factors)
    expected = ((colours + torch.tensor(factors.latent_rgb_factors_bias) + 1) / 2).clamp(0, 1)
    assert (seen[0].frames.float() / 255 - expected).abs().max() < 0.01
    assert native.preview_maps([]).render(JointLatents(video=latents)).frames is None
