"""The loop against an independent one written with raw diffusers schedulers, and its manners."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from diffusers import CosineDPMSolverMultistepScheduler
from sounding_video.core.errors import Cancelled, InputError, NonFiniteError
from sounding_video.core.progress import Progress
from sounding_video.core.types import Conditioning, JointLatents, Modality
from sounding_video.sampling.guidance import dual_guidance
from sounding_video.sampling.loop import sample
from sounding_video.sampling.noise import draw_noise
from sounding_video.sampling.schedule import build_schedule

# The stock scheduler used as witness asks torchsde for points just outside its Brownian path.
pytestmark = pytest.mark.filterwarnings("ignore:Should have t[ab]")

VIDEO, AUDIO = (1, 4, 3, 6, 8), (1, 6, 13)
SEED = 1234


def run(denoiser, conditioning, noise, *, schedule=None, guidance=None, seed=SEED, **settings):
    schedule = schedule or build_schedule("lockstep", 4)
    return sample(
        denoiser,
        conditioning,
        noise,
        schedule=schedule,
        guidance=guidance or dual_guidance(6, 7),
        seed=seed,
        **settings,
    )


@torch.no_grad()
def official_loop(denoiser, texts, seed, unipc, w_video, w_audio):
    """The published sampling as its description reads (doubled latents, audio before video), with stock schedulers."""
    cosine = CosineDPMSolverMultistepScheduler()
    cosine.set_timesteps(len(unipc.timesteps))
    generator = torch.Generator("cpu").manual_seed(seed)
    audio = torch.randn(AUDIO, generator=generator) * cosine.init_noise_sigma
    video = torch.randn(VIDEO, generator=generator)
    steps = []
    for t_video, t_audio in zip(unipc.timesteps, cosine.timesteps, strict=True):
        flow, v = denoiser(
            Modality(
                unipc.scale_model_input(torch.cat([video, video]), t_video),
                t_video.expand(2),
                torch.cat([texts.video.negative, texts.video.positive]),
            ),
            Modality(
                cosine.scale_model_input(torch.cat([audio, audio]), t_audio),
                t_audio.unsqueeze(0),
                torch.cat([texts.audio.negative, texts.audio.positive]),
                torch.cat([texts.audio.duration] * 2),
            ),
        )
        flow = flow[:1] + w_video * (flow[1:] - flow[:1])
        v = v[:1] + w_audio * (v[1:] - v[:1])
        audio = cosine.step(v, t_audio, audio, generator=generator).prev_sample
        video = unipc.step(flow, t_video, video).prev_sample
        steps.append((video, audio))
    return steps


@pytest.mark.parametrize("flow_sigmas", ["diffusers-0.36", "diffusers-0.37"])
@pytest.mark.parametrize("num_steps", [2, 6, 18, 50])
def test_every_step_equals_the_official_loop(mixing, conditioning, unipc_witness, num_steps, flow_sigmas):
    texts = conditioning()
    expected = official_loop(mixing, texts, SEED, unipc_witness(num_steps, flow_sigmas), 6.0, 7.0)
    seen = []
    result = run(
        mixing,
        texts,
        draw_noise(SEED, video_shape=VIDEO, audio_shape=AUDIO),
        schedule=build_schedule("lockstep", num_steps, flow_sigmas=flow_sigmas),
        on_step=lambda step, latents: seen.append((step, latents)),
    )
    assert [step for step, _ in seen] == list(range(num_steps))
    for (_, ours), (video, audio) in zip(seen, expected, strict=True):
        assert (ours.video - video).abs().max() <= 1e-6 * video.abs().max()
        assert (ours.audio - audio).abs().max() <= 1e-6 * audio.abs().max()
    assert torch.equal(result.video, seen[-1][1].video)
    assert torch.equal(result.audio, seen[-1][1].audio)


def test_video_alone_equals_the_plain_unipc_loop(mixing, conditioning, unipc_witness):
    texts, stock = conditioning(audio=False), unipc_witness(8, "diffusers-0.36")
    latents = torch.randn(VIDEO, generator=torch.Generator("cpu").manual_seed(SEED))
    for t in stock.timesteps:
        u, _ = mixing(Modality(latents, t[None], texts.video.negative), None)
        c, _ = mixing(Modality(latents, t[None], texts.video.positive), None)
        latents = stock.step(u + 5.0 * (c - u), t, latents).prev_sample
    noise = draw_noise(SEED, video_shape=VIDEO)
    schedule = build_schedule("lockstep", 8, audio=False)
    result = run(mixing, texts, noise, schedule=schedule, guidance=dual_guidance(video_scale=5.0))
    assert result.audio is None
    torch.testing.assert_close(result.video, latents, rtol=1e-6, atol=1e-6)


def test_audio_alone_equals_the_plain_cosine_loop(mixing, conditioning):
    texts, stock = conditioning(video=False), CosineDPMSolverMultistepScheduler()
    stock.set_timesteps(8)
    generator = torch.Generator("cpu").manual_seed(SEED)
    latents = torch.randn(AUDIO, generator=generator) * stock.init_noise_sigma
    for t in stock.timesteps:
        scaled = stock.scale_model_input(latents, t)
        _, u = mixing(None, Modality(scaled, t[None], texts.audio.negative, texts.audio.duration))
        _, c = mixing(None, Modality(scaled, t[None], texts.audio.positive, texts.audio.duration))
        latents = stock.step(u + 5.0 * (c - u), t, latents, generator=generator).prev_sample
    noise = draw_noise(SEED, audio_shape=AUDIO)
    schedule = build_schedule("lockstep", 8, video=False)
    result = run(mixing, texts, noise, schedule=schedule, guidance=dual_guidance(audio_scale=5.0))
    assert result.video is None
    torch.testing.assert_close(result.audio, latents, rtol=1e-6, atol=1e-6)


def test_what_the_towers_are_told(mixing, conditioning, noise):
    for name, dtype in (("lockstep", torch.int64), ("coupled", torch.float32)):
        mixing.calls.clear()
        schedule = build_schedule(name, 5)
        run(mixing, conditioning(), noise, schedule=schedule, dtype=torch.bfloat16)
        for step, (video, audio) in enumerate(mixing.calls):
            assert video.timestep.dtype == dtype
            assert audio.timestep.dtype == torch.float32
            assert video.timestep.tolist() == schedule.video.timesteps[step : step + 1].tolist()
            assert audio.timestep.tolist() == schedule.audio.timesteps[step : step + 1].tolist()
            for tensor in (video.latents, video.text, audio.latents, audio.text, audio.duration):
                assert tensor.dtype == torch.bfloat16
            if name == "coupled":
                assert float(video.timestep) == pytest.approx(1000 * float(audio.timestep), rel=1e-6)
        assert audio.latents.float().std() < 2


def test_same_seed_same_clip_and_another_seed_another_sound(mixing, conditioning, noise):
    first, again, other = (run(mixing, conditioning(), noise, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.video, again.video)
    assert torch.equal(first.audio, again.audio)
    assert not torch.allclose(first.audio, other.audio)


class OnMeta:
    """A denoiser on another device: sees inputs there, answers with ordinary CPU numbers."""

    def __init__(self):
        self.devices = set()

    def __call__(self, video, audio):
        tensors = (video.latents, video.timestep, video.text, audio.latents, audio.timestep, audio.text, audio.duration)
        self.devices |= {tensor.device.type for tensor in tensors}
        return torch.full(video.latents.shape, 0.25), torch.full(audio.latents.shape, -0.5)


def test_only_model_inputs_travel_to_the_device(conditioning, noise):
    """The Brownian path and the solvers stay on the CPU, so the device cannot change them."""
    remote, local = OnMeta(), OnMeta()
    far = run(remote, conditioning(), noise, device="meta")
    near = run(local, conditioning(), noise, device="cpu")
    assert (remote.devices, local.devices) == ({"meta"}, {"cpu"})
    assert far.audio.device.type == "cpu"
    assert torch.equal(far.video, near.video)
    assert torch.equal(far.audio, near.audio)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu(mixing, conditioning, noise):
    near, far = (run(mixing, conditioning(), noise, device=device) for device in ("cpu", "cuda"))
    torch.testing.assert_close(far.video, near.video, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(far.audio, near.audio, rtol=1e-3, atol=1e-3)


def test_progress_counts_every_step_and_previews_the_estimate(mixing, conditioning, noise):
    seen = []

    def report(stage, done, total, preview=None):
        seen.append((stage, done, total, preview))

    result = run(mixing, conditioning(), noise, progress=Progress(report=report))
    assert [entry[:3] for entry in seen] == [("sample", done, 4) for done in (1, 2, 3, 4)]
    previews = [entry[3]() for entry in seen]
    assert all(isinstance(preview, JointLatents) for preview in previews)
    # Each preview keeps the estimate of its own step, and the last estimate is the result.
    assert not torch.equal(previews[0].video, previews[1].video)
    torch.testing.assert_close(previews[-1].video, result.video, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(previews[-1].audio, result.audio, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps_before", [0, 1, 3])
def test_cancel_stops_before_the_next_forward(mixing, conditioning, noise, steps_before):
    checks = iter(range(100))

    def check():
        if next(checks) == steps_before:
            raise Cancelled

    with pytest.raises(Cancelled):
        run(mixing, conditioning(), noise, progress=Progress(check_cancelled=check), guidance=dual_guidance(1, 1))
    assert len(mixing.calls) == steps_before


@pytest.mark.parametrize(("name", "value"), [("video", float("nan")), ("audio", float("inf"))])
def test_a_broken_prediction_names_step_and_modality(mixing, conditioning, noise, name, value):
    def breaks(video, audio):
        predictions = dict(zip(("video", "audio"), mixing(video, audio), strict=True))
        if len(mixing.calls) == 3:
            predictions[name].view(-1)[0] = value
        return predictions["video"], predictions["audio"]

    with pytest.raises(NonFiniteError, match=f"the {name} prediction at step 3 of 4 contains NaN.*bfloat16"):
        run(breaks, conditioning(), noise, guidance=dual_guidance(6, 6, "batched"))
    assert len(mixing.calls) == 3


def test_broken_noise_is_refused_before_any_forward(mixing, conditioning, noise):
    noise.audio[0, 0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="the initial audio noise contains NaN or infinity: got 1 of 78 values"):
        run(mixing, conditioning(), noise)
    assert mixing.calls == []


def test_one_text_serves_a_batch_of_latents(mixing, conditioning):
    noise = draw_noise(5, video_shape=(3, *VIDEO[1:]), audio_shape=(3, *AUDIO[1:]))
    result = run(mixing, conditioning(), noise, schedule=build_schedule("coupled", 3))
    assert result.video.shape[0] == result.audio.shape[0] == 3
    alone = run(
        mixing, conditioning(audio=False), JointLatents(noise.video[1:2]), schedule=build_schedule("coupled", 3)
    )
    together = run(mixing, conditioning(audio=False), JointLatents(noise.video), schedule=build_schedule("coupled", 3))
    torch.testing.assert_close(together.video[1:2], alone.video, rtol=1e-5, atol=1e-5)


def test_batches_that_do_not_match_are_refused(mixing, conditioning, noise):
    doubled = JointLatents(noise.video.repeat(2, 1, 1, 1, 1), noise.audio)
    with pytest.raises(InputError, match="different batches: got 2 and 1"):
        run(mixing, conditioning(), doubled)
    with pytest.raises(InputError, match="the video text does not match the video noise: got 3 texts for 1 clips"):
        run(mixing, conditioning(batch=3), noise)


def test_missing_parts_are_named(mixing, conditioning, noise):
    with pytest.raises(InputError, match=r"there is audio noise but no audio text.*leave the audio noise out"):
        run(mixing, conditioning(audio=False), noise)
    with pytest.raises(InputError, match=r"the schedule has no video part.*built with video=True"):
        run(mixing, conditioning(), noise, schedule=build_schedule("lockstep", 4, video=False))
    with pytest.raises(InputError, match="the seed cannot be used"):
        run(mixing, conditioning(), noise, seed=-1)


def test_bfloat16_latents_round_after_every_step(mixing, conditioning, noise):
    seen = []
    result = run(
        mixing, conditioning(), noise, latent_dtype=torch.bfloat16, on_step=lambda _, latents: seen.append(latents)
    )
    plain = run(mixing, conditioning(), noise)
    assert {call[0].latents.dtype for call in mixing.calls[:4]} == {torch.bfloat16}
    for latents in (*seen, result):
        for tensor in (latents.video, latents.audio):
            assert tensor.dtype == torch.float32
            assert torch.equal(tensor, tensor.bfloat16().float())
    assert 0 < float((result.video - plain.video).abs().max()) < 0.2


def test_the_callers_tensors_are_left_alone(mixing, conditioning, noise):
    before = [noise.video.clone(), noise.audio.clone()]

    def spoils(video, audio):
        predictions = mixing(video, audio)
        video.latents.zero_()
        audio.latents.zero_()
        return predictions

    spoiled = run(spoils, conditioning(), noise, guidance=dual_guidance(1, 1))
    assert torch.equal(noise.video, before[0])
    assert torch.equal(noise.audio, before[1])
    clean = run(mixing, conditioning(), noise, guidance=dual_guidance(1, 1))
    assert torch.equal(spoiled.video, clean.video)


def test_a_run_keeps_no_copy_of_the_texts(mixing, conditioning, noise):
    texts, alive = conditioning(), []

    def watches(video, audio):
        alive.extend(weakref.ref(tensor) for tensor in (video.text, audio.text, audio.duration, video.latents))
        return mixing._one(video, audio, 1000.0), mixing._one(audio, video, 1.0)

    schedule = build_schedule("lockstep", 3)
    run(watches, texts, noise, schedule=schedule)
    gc.collect()
    assert len(alive) == 12
    assert [reference() for reference in alive] == [None] * 12


def test_texts_are_placed_once(mixing, conditioning, noise):
    run(mixing, conditioning(), noise, dtype=torch.bfloat16)
    assert len({id(call[0].text) for call in mixing.calls}) == 1
    assert len({id(call[1].text) for call in mixing.calls}) == 1


def test_runs_inside_and_outside_inference_mode(conditioning, noise):
    layer = torch.nn.Conv1d(6, 6, 1)

    def learned(video, audio):
        return video.latents, layer(audio.latents)

    with torch.inference_mode():
        inside = run(learned, conditioning(), JointLatents(noise.video.clone(), noise.audio.clone()))
    outside = run(learned, conditioning(), noise)
    assert torch.equal(inside.audio, outside.audio)
    assert not outside.audio.requires_grad
    assert not outside.audio.is_inference()
    assert torch.is_grad_enabled()


def test_extra_texts_do_no_harm(mixing, conditioning):
    """A model may be asked for one modality while the captions of both are encoded."""
    noise = draw_noise(1, audio_shape=AUDIO)
    both = conditioning()
    first, second = run(mixing, both, noise), run(mixing, Conditioning(audio=both.audio), noise)
    assert first.video is None
    assert torch.equal(first.audio, second.audio)
