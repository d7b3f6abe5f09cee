"""A clip goes to latents and comes back near; the same clip to the same latents; what was not fitted is refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from sounding_video import pipeline
from sounding_video.core.clock import Timeline
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import InputError
from sounding_video.core.progress import Progress
from sounding_video.core.types import AudioClip, AVClip, JointLatents, VideoClip
from sounding_video.core.windows import windows
from sounding_video.media.fit import fit_clip
from sounding_video.media.joining import join_latents, join_sound, known_end
from sounding_video.models.clip_encoding import encode_clip
from sounding_video.models.plan.fit import noted
from sounding_video.world.synth import make_clip


@pytest.fixture(scope="module")
def small(small_models_dir):
    return pipeline.load_models(small_models_dir, placement=replace(resolve_placement(device="cpu"), offload="none"))


@pytest.fixture(scope="module")
def timeline(small) -> Timeline:
    return Timeline(9, Fraction(15), 32, 32, small.geometry)


def clip_of(timeline: Timeline, seed: int = 0) -> AVClip:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.rand(timeline.num_frames, timeline.height, timeline.width, 3, generator=generator)
    waveform = torch.rand(2, timeline.num_samples, generator=generator) - 0.5
    return AVClip(VideoClip(frames, timeline.fps), AudioClip(waveform, timeline.geometry.sample_rate))


def encoded(model, clips, timeline, **rest) -> JointLatents:
    codecs = {"video_codec": model.video.codec, "audio_codec": model.audio.codec}
    return encode_clip(clips, timeline, **{**codecs, "placement": model.placement, **rest})


def test_a_clip_of_the_world_comes_back_near() -> None:
    """Through the bundled codecs, from 29.97 fps and 96×64; the error is what the codecs cost."""
    model = pipeline.load_models("pocket", placement=resolve_placement(device="cpu"))
    timeline = Timeline(17, Fraction(15), 64, 64, model.geometry)
    made = make_clip("ball", 3, timeline=Timeline(61, Fraction(30000, 1001), 96, 64)).clip
    fitted, _ = fit_clip(made, timeline)
    latents = encoded(model, fitted, timeline)
    assert latents.video.shape == (1, *timeline.video_latent_shape)
    assert latents.audio.shape == (1, *timeline.audio_latent_shape)
    back = pipeline.decode_latents(
        latents,
        video_codec=model.video.codec,
        audio_codec=model.audio.codec,
        fps=timeline.fps,
        placement=model.placement,
    )
    assert float((back.video.frames - fitted.video.frames).abs().mean()) < 0.03
    assert back.audio.waveform.shape == fitted.audio.waveform.shape
    energy = [_envelope(sound.waveform) for sound in (back.audio, fitted.audio)]
    assert float(torch.corrcoef(torch.stack(energy))[0, 1]) > 0.8


def _envelope(waveform: torch.Tensor) -> torch.Tensor:
    """Loudness a hundredth of a second."""
    mono = waveform.mean(0)
    return mono[: len(mono) // 441 * 441].view(-1, 441).pow(2).mean(1).sqrt()


def test_the_same_clip_gives_the_same_latents_and_each_its_own_row(small, timeline) -> None:
    first, second = clip_of(timeline, 1), clip_of(timeline, 2)
    both = encoded(small, [first, second], timeline)
    assert both.video.shape[0] == both.audio.shape[0] == 2
    torch.manual_seed(7)  # nothing is drawn
    for row, clip in enumerate((first, second)):
        alone = encoded(small, clip, timeline)
        assert torch.equal(both.video[row], alone.video[0]) and torch.equal(both.audio[row], alone.audio[0])
    assert not torch.equal(both.video[0], both.video[1])


def test_latents_are_the_towers_own(small, timeline) -> None:
    """Normalised, unlike the VAE's; and as many of the sound as the sampler draws."""
    clip = clip_of(timeline)
    made = encoded(small, clip, timeline)
    codec = small.video.codec
    raw = codec.vae.encode(clip.video.frames.permute(3, 0, 1, 2)[None] * 2 - 1).latent_dist.mode()
    assert torch.allclose(codec.to_raw(made.video), raw, atol=1e-5)
    whole = small.audio.codec.encode(clip.audio.waveform)
    assert whole.shape[2] == timeline.audio_latent_shape[1] + (timeline.num_samples % timeline.geometry.audio_hop > 0)
    assert torch.equal(made.audio, whole[:, :, : timeline.audio_latent_shape[1]])


@pytest.mark.parametrize("side", ["video", "audio"])
def test_either_may_be_absent_and_then_its_codec_too(small, timeline, side: str) -> None:
    clip = replace(clip_of(timeline), **{side: None})
    made = encoded(small, clip, timeline, **{f"{side}_codec": None})
    other = "audio" if side == "video" else "video"
    assert getattr(made, side) is None and getattr(made, other) is not None
    with pytest.raises(InputError, match=f"no {other} codec"):
        encoded(small, clip, timeline, **{f"{other}_codec": None})


def test_what_was_not_fitted_is_refused(small, timeline) -> None:
    clip = clip_of(timeline)
    short = AVClip(VideoClip(clip.video.frames[:5], timeline.fps))
    fast = AVClip(VideoClip(clip.video.frames, Fraction(30)))
    long = AVClip(None, AudioClip(clip.audio.waveform.repeat(1, 2), clip.audio.sample_rate))
    for wrong in (short, fast, long, AVClip(clip.video, long.audio)):
        with pytest.raises(InputError, match=r"does not fit the timeline.*Fit it first"):
            encoded(small, wrong, timeline)
    for clips in ([], [clip, short], [clip, AVClip(clip.video)]):
        with pytest.raises(InputError, match=r"cannot be encoded together|does not fit"):
            encoded(small, clips, timeline)


def test_progress_counts_latent_frames_and_blocks(small, timeline) -> None:
    told: list[tuple[str, int, int]] = []
    progress = Progress(report=lambda stage, done, total, preview=None: told.append((stage, done, total)))
    encoded(small, clip_of(timeline), timeline, progress=progress)
    pictures = [(done, total) for stage, done, total in told if stage == "encode picture"]
    assert pictures == [(done, 3) for done in range(4)]
    sounds = [(done, total) for stage, done, total in told if stage == "encode sound"]
    assert sounds[-1][0] == sounds[-1][1] > 1
    assert {stage for stage, *_ in told} == {"encode picture", "encode sound"}


def test_the_planner_decides_and_says_how(small, timeline) -> None:
    """Offload ``auto`` is planned for, and what is planned is told; the result is that of any other offload."""
    placement = replace(small.placement, offload="auto")
    with noted() as notes:
        planned = encoded(small, clip_of(timeline), timeline, placement=placement)
    assert notes[0].startswith("encode video: offload none") and "picture encoded whole" in notes[0]
    assert notes[1].startswith("encode audio: offload none")
    assert torch.equal(planned.video, encoded(small, clip_of(timeline), timeline).video)


def test_tiles_see_the_same_picture(small) -> None:
    """Two tiles and a bit: nearly the latents of the whole picture."""
    timeline = Timeline(5, Fraction(15), 320, 272, small.geometry)
    ramp = torch.linspace(0, 1, 320).view(1, 1, -1, 1).expand(5, 272, -1, 3)
    clip = AVClip(VideoClip(ramp, timeline.fps))
    whole, tiled = (encoded(small, clip, timeline, tiling=tiling).video for tiling in ("off", "on"))
    assert whole.shape == tiled.shape
    assert float((whole - tiled).abs().mean()) < 0.05 * float(whole.std())


def test_windows_of_a_long_sound_become_one_without_a_click() -> None:
    """Each window is given the end of the one before it, as a sampler is; decoded whole and window by window."""
    codec = pipeline.load_models("pocket", placement=resolve_placement(device="cpu")).audio.codec
    timeline = Timeline(33, Fraction(15), 64, 64)
    sound = make_clip("engine", 1, timeline=Timeline(73, Fraction(15), 64, 64)).clip.audio
    plan, parts = windows(timeline, sound.seconds, 0.5), []
    assert len(plan) >= 3
    for window in plan:
        fitted, _ = fit_clip(AVClip(None, sound), timeline, start=window.start)
        latents = codec.encode(fitted.audio.waveform)[:, :, : timeline.audio_latent_shape[1]]
        if parts:
            latents[..., : window.known_latents] = known_end(parts[-1], window)
        parts.append(latents)
    whole = AudioClip(codec.decode(join_latents(parts, plan)), codec.sample_rate)
    pieces = join_sound([AudioClip(codec.decode(part), codec.sample_rate) for part in parts], plan)
    assert whole.waveform.shape == pieces.waveform.shape
    jumps, changed = (each.waveform.diff(dim=1).abs().amax(0) for each in (whole, pieces))
    usual = float(jumps[: sound.waveform.shape[1]].quantile(0.999))
    for window, before in zip(plan[1:], plan, strict=False):
        end = before.first_latent + timeline.audio_latent_shape[1]
        new = slice(end * codec.hop - 2, end * codec.hop + 2)  # where latents of the next window begin
        assert float(jumps[new].max()) <= usual
        middle = (window.first_latent + end) * codec.hop // 2  # where decoded windows go over into each other
        change = slice(middle - 500, middle + 500)
        torch.testing.assert_close(pieces.waveform[:, change], whole.waveform[:, change], atol=0.02, rtol=0)
        assert float(changed[change].max()) <= max(usual, 1.05 * float(jumps[change].max()))
