"""AV-Link's laws of sampling (its reference, section 6, laws 6 to 8), on small real towers and Fusion Blocks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from sounding_video.core.pair import MODALITIES, Pair
from sounding_video.core.types import JointLatents
from sounding_video.models.joint import BridgePoints, BridgeStack, JointModel
from sounding_video.sampling.given import Given
from sounding_video.sampling.guidance import GuidedDenoiser, View, dual_guidance
from sounding_video.sampling.loop import sample
from sounding_video.sampling.noise import draw_noise
from sounding_video.sampling.schedule import build_schedule
from sounding_video.sampling.solvers import SOLVERS

SHAPES = {"video": (1, 4, 3, 4, 6), "audio": (1, 6, 11)}
OTHER = {"video": "audio", "audio": "video"}
STEPS = 4
SIDES = pytest.mark.parametrize("side", MODALITIES)


@pytest.fixture
def fused(wan_tower, audio_tower, config_of) -> Callable[..., JointModel]:
    """Small towers with Fusion Blocks, new ones or such as have learned something."""

    def make(*, fresh: bool = False) -> JointModel:
        torch.manual_seed(3)
        stack = BridgeStack("fusion_block", config_of("fusion_block", "token_clock"), BridgePoints((0, 1), (0, 1)))
        for parameter in () if fresh else stack.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        return JointModel(wan_tower, audio_tower, stack).eval()

    return make


class Watched:
    """A joint model that remembers what it was shown."""

    def __init__(self, model: JointModel) -> None:
        self.model, self.calls = model, []

    def __call__(self, video, audio):
        self.calls.append((video, audio))
        return self.model(video, audio)

    def of(self, side: str) -> list:
        return [call[MODALITIES.index(side)] for call in self.calls if call[MODALITIES.index(side)] is not None]


def clean(side: str, seed: int = 50) -> torch.Tensor:
    return torch.randn(SHAPES[side], generator=torch.Generator().manual_seed(seed))


def run(model, texts, noise, *, given=None, guidance=None):
    """As AV-Link samples: Euler, even steps, away from the tower alone."""
    guidance = guidance or dual_guidance(5, 5, unconditional="alone")
    schedule = build_schedule("flow", STEPS, flow_shift=1.0, solver="euler")
    return sample(model, texts, noise, schedule=schedule, guidance=guidance, seed=11, given=given or Pair())


@SIDES
def test_avlink_law_6_what_is_given_comes_back_to_the_bit_and_never_changes_on_the_way(
    side, fused, texts, noise
) -> None:
    """One noise and one timestep for all steps; the level of the noise is what was asked for."""
    seen, level = Watched(fused()), 0.1
    given = Given(clean(side), how="fixed", time=level)
    result = run(seen, texts, noise, given=Pair(**{side: given}))
    assert torch.equal(getattr(result, side), clean(side))
    views = seen.of(side)
    assert len(views) == STEPS and all(view.given for view in views)
    assert all(torch.equal(view.latents, views[0].latents) for view in views)
    assert [float(view.timestep) for view in views] == pytest.approx([level * (1000 if side == "video" else 1)] * STEPS)
    scale = 1 - level if side == "video" else float(torch.cos(torch.tensor(level * torch.pi / 2)))
    drawn = (views[0].latents - scale * clean(side)) / (level if side == "video" else (1 - scale**2) ** 0.5)
    torch.testing.assert_close(drawn, getattr(noise, side), rtol=0, atol=2e-5)


@SIDES
def test_avlink_law_6_what_is_made_starts_from_the_noise_of_joint_sampling(side, fused, texts, noise) -> None:
    joint, one = Watched(fused()), Watched(fused())
    run(joint, texts, noise)
    run(one, texts, noise, given=Pair(**{side: Given(clean(side), how="fixed")}))
    assert torch.equal(joint.of(OTHER[side])[0].latents, one.of(OTHER[side])[0].latents)


@SIDES
def test_avlink_law_6_at_time_0_no_noise_is_needed(side, fused, texts, noise) -> None:
    other = draw_noise(6, video_shape=SHAPES["video"], audio_shape=SHAPES["audio"])
    mixed = JointLatents(**{side: getattr(other, side), OTHER[side]: getattr(noise, OTHER[side])})
    given = Pair(**{side: Given(clean(side), how="fixed", time=0.0)})
    made = [getattr(run(fused(), texts, drawn, given=given), OTHER[side]) for drawn in (noise, mixed)]
    assert torch.equal(*made)
    given = Pair(**{side: Given(clean(side), how="fixed", time=0.2)})
    made = [getattr(run(fused(), texts, drawn, given=given), OTHER[side]) for drawn in (noise, mixed)]
    assert not torch.equal(*made)


@SIDES
def test_avlink_law_6_another_thing_given_is_another_thing_made_but_with_fresh_blocks(
    side, fused, texts, noise
) -> None:
    for fresh in (False, True):
        made = [
            getattr(run(fused(fresh=fresh), texts, noise, given=Pair(**{side: given})), OTHER[side])
            for given in (Given(clean(side, seed), how="fixed") for seed in (50, 51))
        ]
        assert torch.equal(*made) == fresh


@SIDES
def test_avlink_law_7_u_is_the_towers_own_forward_with_the_negative_text(side, fused, texts, noise) -> None:
    """By the stock class; ``v = u + 5·(c − u)`` with c of both towers."""
    model, made = fused(), OTHER[side]
    views = Pair(
        View(noise.video, torch.tensor([40.0]), given=side == "video"),
        View(noise.audio, torch.tensor([0.5]), given=side == "audio"),
    )
    guidance = dual_guidance(5, 5, unconditional="alone")
    with torch.no_grad():
        guided = GuidedDenoiser(model, texts, guidance, num_positions=1, given=frozenset({side}))(*views)
        plain = GuidedDenoiser(model, texts, dual_guidance(1, 1), num_positions=1, given=frozenset({side}))(*views)
        if made == "audio":
            net, time = model.audio.model, torch.tensor([0.5])
            length, half = SHAPES["audio"][-1] + 1, net.config.attention_head_dim // 2  # as the stock pipeline has it
            rotary = get_1d_rotary_pos_embed(half, length, use_real=True, repeat_interleave_real=False)
            states = (texts.audio.negative, texts.audio.duration, rotary)
            alone = net(noise.audio, time, *states, return_dict=False)[0]
        else:
            alone = model.video.model(noise.video, torch.tensor([40.0]), texts.video.negative).sample
    both, result = (pair[MODALITIES.index(made)] for pair in (plain, guided))
    torch.testing.assert_close(result, alone + 5 * (both - alone), rtol=1e-5, atol=1e-5)
    assert guided[MODALITIES.index(side)] is None, "what is given is not predicted"


@SIDES
@pytest.mark.parametrize(("scale", "passes"), [(5, 2), (1, 1), (0.5, 1)])
def test_avlink_law_7_the_given_tower_runs_once_a_step_and_a_scale_of_1_is_one_pass(
    side, scale, passes, fused, texts, noise
) -> None:
    """Counted at the first block of each tower, and at the last of the given one, which its walk does not reach."""
    model, counts = fused(), {}
    places = {f"{name} {index}": getattr(model, name).blocks[index] for name in MODALITIES for index in (0, -1)}
    hooks = []
    for name, block in places.items():
        counts[name] = 0

        def count(*args, name=name):
            counts[name] += 1

        hooks.append(block.register_forward_hook(count))
    try:
        guidance = dual_guidance(scale, scale, unconditional="alone")
        run(model, texts, noise, given=Pair(**{side: Given(clean(side), how="fixed")}), guidance=guidance)
    finally:
        for hook in hooks:
            hook.remove()
    assert counts[f"{OTHER[side]} 0"] == counts[f"{OTHER[side]} -1"] == passes * STEPS
    assert (counts[f"{side} 0"], counts[f"{side} -1"]) == (STEPS, 0)


def euler(process: str, steps: int = 8):
    schedule = build_schedule("flow", steps, flow_shift=1.0, solver="euler")
    one = schedule.video if process == "flow" else schedule.audio
    return one, one.start()


def test_avlink_law_8_euler_is_exact_where_the_velocity_is_constant() -> None:
    """From noise to data in any number of steps, by the straight line."""
    data, start = clean("video"), torch.randn(SHAPES["video"], generator=torch.Generator().manual_seed(1))
    for steps in (1, 2, 7, 64):
        points, solver = euler("flow", steps)
        state = start * solver.init_noise_sigma
        for timestep in points.timesteps:
            state = solver.step(start - data, timestep, state).prev_sample
            torch.testing.assert_close(solver.estimate(), data, rtol=0, atol=1e-5)
        torch.testing.assert_close(state, data, rtol=0, atol=1e-5)


def test_avlink_law_8_euler_of_the_cosine_process_is_ddim() -> None:
    """x0 = αx − σv, ε = σx + αv, x' = α'x0 + σ'ε, written out, and diffusers' own DDIM at the same levels.

    The scheduler's float32 state is up to 500 times what the tower sees, and as much less exact.
    """
    points, solver = euler("cosine_v")
    ratios = solver.sigmas.double()
    alphas = 1 / (1 + ratios**2).sqrt()
    sigmas, num_steps = ratios * alphas, len(points.timesteps)
    ddim = DDIMScheduler(num_train_timesteps=num_steps, prediction_type="v_prediction", clip_sample=False)
    ddim.alphas_cumprod = alphas[:-1].square().flip(0)
    ddim.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    ddim.set_timesteps(num_steps)
    seen = torch.randn(SHAPES["audio"], generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for index, timestep in enumerate(points.timesteps):
        velocity = torch.sin(3 * seen) + 0.2
        x0 = alphas[index] * seen - sigmas[index] * velocity
        eps = sigmas[index] * seen + alphas[index] * velocity
        expected = alphas[index + 1] * x0 + sigmas[index + 1] * eps
        witness = ddim.step(velocity, num_steps - 1 - index, seen).prev_sample
        torch.testing.assert_close(witness, expected, rtol=1e-6, atol=1e-6)
        state = (seen / alphas[index]).float()
        torch.testing.assert_close(solver.scale_model_input(state, timestep).double(), seen, rtol=1e-6, atol=1e-6)
        made = solver.step(velocity.float(), timestep, state).prev_sample.double() * alphas[index + 1]
        limit = 1e-6 * float(1 + ratios[index])
        torch.testing.assert_close(made, expected, rtol=0, atol=limit)
        torch.testing.assert_close(solver.estimate().double(), x0, rtol=0, atol=limit)
        seen = expected


@pytest.mark.parametrize("process", ["flow", "cosine_v"])
def test_avlink_law_8_one_step_from_noise_gives_the_estimate_which_is_finite_and_shaped(process) -> None:
    side = "video" if process == "flow" else "audio"
    points, solver = euler(process, 1)
    state = clean(side) * solver.init_noise_sigma
    velocity = torch.sin(clean(side, 9))
    solver.scale_model_input(state, points.timesteps[0])
    made = solver.step(velocity, points.timesteps[0], state).prev_sample
    torch.testing.assert_close(made, solver.estimate(), rtol=0, atol=2e-4)
    assert solver.estimate().shape == SHAPES[side] and bool(solver.estimate().isfinite().all())
    if process == "flow":  # at full noise the estimate is noise minus velocity
        torch.testing.assert_close(made, clean(side) - velocity, rtol=0, atol=1e-6)


def test_avlink_law_8_it_walks_both_processes() -> None:
    assert SOLVERS.get("euler").processes == {"flow", "cosine_v"}
    schedule = build_schedule("flow", 64, flow_shift=1.0)
    assert float(schedule.audio.start().sigmas[0]) == pytest.approx(500, rel=1e-4), "500/501 of a flow"
    assert float(schedule.audio.start().sigmas[-1]) == float(schedule.video.start().sigmas[-1]) == 0
