"""Given latents: shown at each step's level, never changed, and everything else is drawn as without them."""

from __future__ import annotations

import pytest
import torch
from sounding_video.core.errors import InputError, NonFiniteError
from sounding_video.core.pair import MODALITIES, Pair
from sounding_video.core.types import JointLatents
from sounding_video.sampling.given import Given, known
from sounding_video.sampling.guidance import dual_guidance
from sounding_video.sampling.loop import sample
from sounding_video.sampling.noise import draw_noise
from sounding_video.sampling.processes import PROCESSES
from sounding_video.sampling.schedule import build_schedule
from sounding_video.sampling.schedules import SCHEDULES
from sounding_video.sampling.shown import SHOWN
from sounding_video.sampling.shown.fixed import FIXED_TIMES

SHAPES = {"video": (1, 4, 3, 6, 8), "audio": (1, 6, 13)}
STEPS = 5
EVERY_SCHEDULE = pytest.mark.parametrize("schedule", SCHEDULES.names())
EVERY_SIDE = pytest.mark.parametrize("name", MODALITIES)


def clean(name, batch=1):
    shape = (batch, *SHAPES[name][1:])
    return torch.randn(shape, generator=torch.Generator().manual_seed(50 + len(name)))


def run(denoiser, texts, noise, *, schedule="lockstep", guidance=None, **settings):
    settings = {"seed": 11, "guidance": guidance or dual_guidance(5, 3), **settings}
    return sample(denoiser, texts, noise, schedule=build_schedule(schedule, STEPS), **settings)


@EVERY_SIDE
@EVERY_SCHEDULE
@pytest.mark.parametrize("how", SHOWN)
def test_what_is_given_comes_back_to_the_bit(mixing, conditioning, noise, name, schedule, how):
    given = Pair(**{name: Given(clean(name), how=how)})
    texts = conditioning()
    result = run(mixing, texts, noise, schedule=schedule, given=given)
    assert torch.equal(getattr(result, name), clean(name))
    other = "audio" if name == "video" else "video"
    assert not torch.equal(getattr(result, other), getattr(run(mixing, texts, noise, schedule=schedule), other))


@EVERY_SIDE
@EVERY_SCHEDULE
def test_replaced_inputs_lie_on_the_line_from_noise_to_data(mixing_class, conditioning, noise, name, schedule):
    seen = mixing_class()
    run(seen, conditioning(), noise, schedule=schedule, given=Pair(**{name: Given(clean(name))}))
    points = getattr(build_schedule(schedule, STEPS), name)
    inputs = [call[MODALITIES.index(name)].latents[:1] for call in seen.calls]
    sigmas = points.start().sigmas
    scale = torch.ones(STEPS) if points.process == "flow" else (sigmas[:-1] ** 2 + 1).sqrt()
    states = torch.stack([one.flatten() * scale[index] for index, one in enumerate(inputs)])
    away = (states - states[0])[1:].double()
    _, singular, _ = torch.linalg.svd(away)
    assert float(singular[1] / singular[0]) < 1e-5
    start = getattr(noise, name)
    torch.testing.assert_close(inputs[0], start, rtol=0, atol=5e-3 * float(clean(name).abs().max()))
    told = [call[MODALITIES.index(name)].timestep for call in seen.calls]
    assert torch.cat(told).tolist() == points.timesteps.tolist()


@EVERY_SIDE
def test_fixed_keeps_one_level_and_one_noise(mixing_class, conditioning, noise, name):
    seen = mixing_class()
    run(seen, conditioning(), noise, given=Pair(**{name: Given(clean(name), how="fixed")}))
    views = [call[MODALITIES.index(name)] for call in seen.calls]
    expected = 1000 * FIXED_TIMES["flow"] if name == "video" else FIXED_TIMES["cosine_v"]
    assert [float(view.timestep) for view in views] == pytest.approx([expected] * STEPS)
    assert all(torch.equal(view.latents, views[0].latents) for view in views)
    apart = float((views[0].latents[:1] - clean(name)).abs().mean())
    assert 0.01 < apart < 0.3


def test_a_given_time_of_zero_shows_the_data_itself(mixing_class, conditioning, noise):
    seen = mixing_class()
    run(seen, conditioning(), noise, given=Pair(video=Given(clean("video"), how="fixed", time=0.0)))
    assert torch.equal(seen.calls[0][0].latents[:1], clean("video"))


@EVERY_SIDE
def test_the_made_side_starts_from_the_noise_of_joint_sampling(mixing_class, conditioning, noise, name):
    joint, one_given = mixing_class(), mixing_class()
    run(joint, conditioning(), noise)
    run(one_given, conditioning(), noise, given=Pair(**{name: Given(clean(name))}))
    made = 1 - MODALITIES.index(name)
    assert torch.equal(joint.calls[0][made].latents, one_given.calls[0][made].latents)


def test_a_seed_of_its_own_changes_the_noise_that_is_shown(mixing_class, conditioning, noise):
    looks = []
    for seed in (None, 1, 1, 2):
        seen = mixing_class()
        run(seen, conditioning(), noise, given=Pair(video=Given(clean("video"), seed=seed)))
        looks.append(seen.calls[0][0].latents)
    assert torch.equal(looks[1], looks[2])
    assert not torch.equal(looks[0], looks[1])
    assert not torch.equal(looks[1], looks[3])


def test_without_bridges_the_sound_of_a_given_picture_is_the_sound_alone(conditioning, noise, mixing_class):
    class Deaf(mixing_class):
        def __call__(self, video, audio):
            return super().__call__(video, None)[0], super().__call__(None, audio)[1]

    texts = conditioning()
    alone = type(texts)(None, texts.audio)
    with_picture = run(Deaf(), texts, noise, given=Pair(video=Given(clean("video"))))
    by_itself = run(Deaf(), alone, JointLatents(audio=noise.audio))
    assert torch.equal(with_picture.audio, by_itself.audio)


@EVERY_SIDE
@EVERY_SCHEDULE
@pytest.mark.parametrize("batch", [1, 3])
def test_known_places_come_back_and_the_rest_is_made(mixing, conditioning, name, schedule, batch):
    noise = draw_noise(5, video_shape=(batch, *SHAPES["video"][1:]), audio_shape=(batch, *SHAPES["audio"][1:]))
    given = known(clean(name), stop=2)
    result = getattr(run(mixing, conditioning(), noise, schedule=schedule, given=Pair(**{name: given})), name)
    assert torch.equal(result[:, :, :2], clean(name)[:, :, :2].expand_as(result[:, :, :2]))
    assert not torch.equal(result[:, :, 2:], clean(name)[:, :, 2:].expand_as(result[:, :, 2:]))
    assert bool(result.isfinite().all())


def test_known_places_in_space(mixing, conditioning, noise):
    mask = torch.zeros(1, 1, 1, 6, 8)
    mask[..., :3, :] = 1
    result = run(mixing, conditioning(), noise, given=Pair(video=Given(clean("video"), mask))).video
    assert torch.equal(result[..., :3, :], clean("video")[..., :3, :])
    assert not torch.isclose(result[..., 3:, :], clean("video")[..., 3:, :]).all()


@EVERY_SIDE
def test_a_mask_of_nothing_changes_nothing(mixing, conditioning, noise, name):
    plain = run(mixing, conditioning(), noise)
    masked = run(mixing, conditioning(), noise, given=Pair(**{name: known(clean(name), stop=0)}))
    assert torch.equal(plain.video, masked.video)
    assert torch.equal(plain.audio, masked.audio)


@EVERY_SIDE
def test_a_mask_of_everything_is_the_whole(mixing, conditioning, noise, name):
    whole = run(mixing, conditioning(), noise, given=Pair(**{name: Given(clean(name))}))
    masked = run(mixing, conditioning(), noise, given=Pair(**{name: known(clean(name))}))
    assert torch.equal(whole.video, masked.video)
    assert torch.equal(whole.audio, masked.audio)


@EVERY_SCHEDULE
def test_an_oracle_is_led_through_the_replaced_points(conditioning, noise, schedule):
    """SYNCFLOW law 11: who knows data and noise walks the line on which given latents are shown."""
    data = Pair(clean("video"), clean("audio"))

    class Oracle:
        def __init__(self):
            self.seen = []

        def __call__(self, video, audio):
            self.seen.append((video.latents, audio.latents))
            cosine = PROCESSES.get("cosine_v")
            return noise.video - data.video, cosine.target(data.audio, noise.audio, audio.timestep)

    looks = []
    for given in (None, Pair(video=Given(data.video)), Pair(audio=Given(data.audio))):
        oracle = Oracle()
        settings = {"guidance": dual_guidance(1, 1), "seed": 1, "given": given}
        sample(oracle, conditioning(), noise, schedule=build_schedule(schedule, 8, solver="euler"), **settings)
        looks.append(oracle.seen)
    # Pure noise is where a run starts and nearly where a given one does: the video's 1e-6, the audio's 1/500 of data.
    for step in range(8):
        torch.testing.assert_close(looks[1][step][0], looks[0][step][0], rtol=0, atol=5e-3)
        torch.testing.assert_close(looks[2][step][1], looks[0][step][1], rtol=0, atol=5e-2)


def test_a_given_side_needs_no_negative_text_and_takes_no_guidance(mixing, conditioning, noise):
    texts = conditioning()
    bare = type(texts)(type(texts.video)(texts.video.positive), texts.audio)
    given = Pair(video=Given(clean("video")))
    run(mixing, bare, noise, given=given, guidance=dual_guidance(6, 3))
    deaf = type(texts)(texts.video, type(texts.audio)(texts.audio.positive, duration=texts.audio.duration))
    with pytest.raises(InputError, match="audio guidance needs a negative"):
        run(mixing, deaf, noise, given=given, guidance=dual_guidance(6, 3))


def test_modality_guidance_of_the_given_side_makes_no_pass(mixing_class, conditioning, noise):
    seen = mixing_class()
    guidance = dual_guidance(1, 1, modality_scales=(3, 1))
    run(seen, conditioning(), noise, given=Pair(video=Given(clean("video"))), guidance=guidance)
    assert len(seen.calls) == STEPS


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Given(clean("audio"), how="show"), "way to show what is given"),
        (lambda: Given(clean("audio"), how="fixed", time=1.5), "level of what is given"),
        (lambda: Given(clean("audio"), torch.ones(1, 1, 13), how="fixed"), "one noise level"),
        (lambda: Given(clean("audio"), torch.ones(1, 1, 12)), "mask does not fit"),
        (lambda: Given(clean("audio"), torch.ones(13)), "mask does not fit"),
        (lambda: Given(clean("audio"), torch.full((1, 1, 13), 0.5)), "known or it is not"),
    ],
)
def test_what_cannot_be_given_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_broken_latents_are_refused():
    with pytest.raises(NonFiniteError, match="what is given contains NaN"):
        Given(torch.full((1, 6, 13), float("nan")))


def test_sizes_must_agree_and_something_must_be_left_to_make(mixing, conditioning, noise):
    with pytest.raises(InputError, match=r"the given audio is not of the size of this run.*\(1, 6, 9\)"):
        run(mixing, conditioning(), noise, given=Pair(audio=Given(torch.zeros(1, 6, 9))))
    with pytest.raises(InputError, match="there is nothing to generate: all of it is given"):
        run(mixing, conditioning(), noise, given=Pair(Given(clean("video")), Given(clean("audio"))))
