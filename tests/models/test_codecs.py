"""Laws over every registered codec, the stock decoders as witnesses, tiling, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload
from diffusers import AutoencoderKLWan, AutoencoderOobleck
from diffusers.video_processor import VideoProcessor
from hypothesis import given, settings
from hypothesis import strategies as st
from sounding_video.core.errors import (
    Cancelled,
    GeometryError,
    IncompatibleWeightsError,
    InputError,
    NonFiniteError,
)
from sounding_video.core.progress import Progress
from sounding_video.core.protocols import Codec
from sounding_video.models.codecs import CODECS
from sounding_video.models.codecs.oobleck import OobleckCodec, idle_units
from sounding_video.models.codecs.wan_vae import WanVAECodec


def make_wan(models: Path) -> WanVAECodec:
    return WanVAECodec(AutoencoderKLWan.from_pretrained(models / "wan" / "vae").eval())


def make_oobleck(models: Path) -> OobleckCodec:
    return OobleckCodec(AutoencoderOobleck.from_pretrained(models / "stable_audio" / "vae").eval())


# key: how to make it, media that fit it, the shape of their latents
CASES = {
    "wan_vae": (make_wan, lambda g: torch.rand(5, 32, 48, 3, generator=g), (1, 4, 2, 4, 6)),
    "oobleck": (make_oobleck, lambda g: torch.rand(2, 160, generator=g) * 2 - 1, (1, 6, 10)),
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def wan(small_models_dir: Path) -> WanVAECodec:
    return make_wan(small_models_dir)


@pytest.fixture(scope="module")
def oobleck(small_models_dir: Path) -> OobleckCodec:
    return make_oobleck(small_models_dir)


# --- laws over every registered codec ----------------------------------------------------------------------------


def test_every_registered_codec_is_under_these_laws():
    assert set(CODECS) == set(CASES)


@pytest.fixture(params=sorted(CASES))
def case(request, small_models_dir: Path):
    make, media, latent_shape = CASES[request.param]
    codec = make(small_models_dir)
    assert isinstance(codec, CODECS.get(request.param))
    assert isinstance(codec, Codec)
    return codec, media(torch.Generator().manual_seed(0)), latent_shape


def test_encode_then_decode_gives_the_shape_back(case):
    codec, media, latent_shape = case
    latents = codec.encode(media)
    assert latents.shape == latent_shape
    assert codec.latent_channels == latent_shape[1]
    again = codec.decode(latents)
    assert again.shape == media.shape
    for result in (latents, again):
        assert result.dtype == torch.float32 and result.device.type == "cpu" and not result.requires_grad


def test_raw_round_trip(case):
    codec, _, latent_shape = case
    latents = noise(*latent_shape)
    torch.testing.assert_close(codec.from_raw(codec.to_raw(latents)), latents, rtol=0, atol=1e-6)


def test_raw_latents_are_decoded_to_the_same_bits(case):
    codec, _, latent_shape = case
    latents = noise(*latent_shape)
    raw = codec.to_raw(latents)
    assert torch.equal(codec.decode(raw, raw=True), codec.decode(latents))
    with pytest.raises(GeometryError):
        codec.decode(raw[:, :-1], raw=True)
    with pytest.raises(NonFiniteError):
        codec.decode(raw * float("nan"), raw=True)


def test_both_ways_are_deterministic_and_leave_their_input_alone(case):
    codec, media, latent_shape = case
    latents = noise(*latent_shape)
    kept_latents, kept_media = latents.clone(), media.clone()
    assert torch.equal(codec.decode(latents), codec.decode(latents))
    assert torch.equal(codec.encode(media), codec.encode(media))
    assert torch.equal(latents, kept_latents) and torch.equal(media, kept_media)


def test_sampling_the_posterior_follows_the_generator(case):
    codec, media, _ = case
    mode = codec.encode(media)
    first, again, other = (
        codec.encode(media, sample=True, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, mode)


def test_a_codec_in_bfloat16_gives_float32_that_is_close(case):
    codec, media, latent_shape = case
    latents, full = noise(*latent_shape), codec.decode(noise(*latent_shape))
    codec.to(torch.bfloat16)
    half = codec.decode(latents)
    assert half.dtype == torch.float32
    assert 0 < (half - full).abs().max() < 0.1 * full.abs().max()
    assert codec.encode(media).dtype == torch.float32


def test_weights_kept_elsewhere_by_offload_hooks(small_models_dir, wan):
    codec, frames, latents = make_wan(small_models_dir), torch.rand(1, 16, 16, 3), noise(1, 4, 1, 2, 2)
    cpu_offload(codec.vae, execution_device=torch.device("cpu"))
    assert next(codec.vae.parameters()).device.type == "meta"
    assert torch.equal(codec.decode(latents), wan.decode(latents))
    assert torch.equal(codec.encode(frames), wan.encode(frames))


def test_a_batch_or_another_codecs_latent_is_refused(case):
    codec, _, shape = case
    for wrong in ((2, *shape[1:]), (1, shape[1] + 1, *shape[2:]), shape[1:], (*shape[:2], 0, *shape[3:])):
        with pytest.raises(GeometryError, match=r"latent does not fit the codec: got \(.*; expected \(1, "):
            codec.decode(torch.zeros(wrong))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_latents_that_are_not_finite_are_refused(case, bad):
    codec, media, shape = case
    latents = noise(*shape)
    latents.view(-1)[3] = bad
    with pytest.raises(NonFiniteError, match=rf"latent contains NaN or infinity: got 1 of {latents.numel()} values"):
        codec.decode(latents)
    media.view(-1)[3] = bad
    with pytest.raises(NonFiniteError, match=r"contains NaN or infinity: got 1 of"):
        codec.encode(media)


def test_an_overflowing_codec_is_refused(case):
    codec, _, shape = case
    last = [part for part in codec.vae.decoder.modules() if isinstance(part, torch.nn.Conv1d | torch.nn.Conv3d)][-1]
    last.register_forward_hook(lambda module, args, output: output * float("nan"))
    with pytest.raises(NonFiniteError, match=r"the decoded (video|sound) contains NaN.*float32"):
        codec.decode(noise(*shape))


def test_progress_begins_at_zero_and_ends_at_the_total(case):
    codec, media, shape = case
    steps = []
    progress = Progress(lambda stage, done, total, preview=None: steps.append((stage, done, total)))
    codec.decode(noise(*shape), progress=progress)
    codec.encode(media, progress=progress)
    for stage in ("decode", "encode"):
        seen = [(done, total) for name, done, total in steps if name == stage]
        assert seen == [(done, seen[-1][1]) for done in range(seen[-1][1] + 1)]


# --- Wan VAE -----------------------------------------------------------------------------------------------------


def stock_frames(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """Denormalise, decode and postprocess as WanPipeline does after its loop."""
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
    inverse_std = 1.0 / torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    with torch.no_grad():
        video = vae.decode(latents / inverse_std + mean, return_dict=False)[0]
    return torch.from_numpy(VideoProcessor(vae_scale_factor=8).postprocess_video(video, output_type="np"))[0]


def test_wan_decode_is_the_stock_pipelines(wan):
    latents = noise(1, 4, 3, 6, 8) * 3
    frames = wan.decode(latents)
    # z·std here, z/(1/std) there: the tiny codec amplifies that rounding.
    torch.testing.assert_close(frames, stock_frames(wan.vae, latents), rtol=0, atol=2e-5)
    assert frames.shape == (9, 48, 64, 3)
    assert 0 <= frames.min() < frames.max() <= 1


def test_wan_encode_is_the_stock_encoder_normalised(wan):
    frames = torch.rand(5, 16, 24, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        raw = wan.vae.encode((frames * 2 - 1).permute(3, 0, 1, 2)[None]).latent_dist.mode()
    torch.testing.assert_close(wan.to_raw(wan.encode(frames)), raw, rtol=0, atol=1e-5)
    mean, std = (
        torch.tensor(v).view(1, -1, 1, 1, 1) for v in (wan.vae.config.latents_mean, wan.vae.config.latents_std)
    )
    torch.testing.assert_close(wan.encode(frames), (raw - mean) / std, rtol=0, atol=1e-6)


def test_wan_reads_its_geometry_from_the_config(wan):
    assert (wan.latent_channels, wan.temporal_stride, wan.spatial_stride) == (4, 4, 8)


def test_values_on_the_ends_of_the_range_are_logged(wan, caplog):
    with caplog.at_level(logging.DEBUG, logger="sounding_video.models.codecs"):
        frames = wan.decode(noise(1, 4, 1, 4, 4) * 1000)
    share = ((frames == 0) | (frames == 1)).float().mean().item()
    assert f"{100 * share:.2f} % of the decoded values lie on the ends" in caplog.text


@pytest.mark.parametrize("num_frames", [2, 4, 6, 80])
def test_frames_must_be_4k_plus_1(wan, num_frames):
    low = (num_frames - 1) // 4 * 4 + 1
    with pytest.raises(GeometryError, match=rf"got {num_frames}; expected 4k\+1, for example {low} or {low + 4}"):
        wan.encode(torch.zeros(num_frames, 16, 16, 3))


@pytest.mark.parametrize(("height", "width"), [(15, 16), (16, 20), (0, 16)])
def test_size_must_be_a_multiple_of_the_stride(wan, height, width):
    with pytest.raises(GeometryError, match=rf"picture size.*got {width}×{height}; expected multiples of 8 pixels"):
        wan.encode(torch.zeros(1, height, width, 3))


def test_pictures_outside_their_range_are_refused(wan):
    with pytest.raises(InputError, match=r"leave 0\.\.1: got 0 to 255; expected 0 to 1\. Divide 8-bit values by 255"):
        wan.encode(torch.linspace(0, 255, 16 * 16 * 3).reshape(1, 16, 16, 3))
    with pytest.raises(InputError, match=r"leave 0\.\.1: got -1 to 1"):
        wan.encode(torch.linspace(-1, 1, 16 * 16 * 3).reshape(1, 16, 16, 3))


@pytest.mark.parametrize(
    "frames", [torch.zeros(16, 16, 3), torch.zeros(1, 16, 16, 4), torch.zeros(1, 16, 16, 3, dtype=torch.uint8)]
)
def test_anything_but_pictures_is_refused(wan, frames):
    with pytest.raises(InputError, match="wrong shape or type"):
        wan.encode(frames)


def test_statistics_must_match_the_channels():
    vae = AutoencoderKLWan(base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 3)
    with pytest.raises(IncompatibleWeightsError, match="got 3 means and 16 deviations; expected 4 of each"):
        WanVAECodec(vae)


# --- tiling ------------------------------------------------------------------------------------------------------


def count_calls(codec: WanVAECodec, latents: torch.Tensor, tiling: str) -> tuple[torch.Tensor, int]:
    totals = []
    progress = Progress(lambda stage, done, total, preview=None: totals.append((done, total)))
    frames = codec.decode(latents, tiling=tiling, progress=progress)
    assert totals[-1][0] == totals[-1][1]
    return frames, totals[-1][1]


def test_tiles_agree_with_the_whole_picture(wan):
    latents = noise(1, 4, 2, 40, 40)
    whole, calls_whole = count_calls(wan, latents, "off")
    tiled, calls_tiled = count_calls(wan, latents, "on")
    assert (calls_whole, calls_tiled) == (2, 8)
    difference = (whole - tiled).abs()
    assert difference.max() > 0, "the picture is larger than a tile, so tiles must matter"
    # Attention and norms in the VAE's middle see less of the picture in a tile; the seams are blended.
    assert difference.mean() < 0.05 * whole.std()
    assert difference.max() < 1.5 * whole.std()

    frames = whole.clamp(0, 1)
    encoded, encoded_tiled = (wan.encode(frames, tiling=tiling) for tiling in ("off", "on"))
    assert 0 < (encoded - encoded_tiled).abs().mean() < 0.05 * encoded.std()


def test_a_picture_no_larger_than_a_tile_stays_whole(wan):
    latents = noise(1, 4, 2, 16, 32)
    assert torch.equal(count_calls(wan, latents, "on")[0], count_calls(wan, latents, "off")[0])


def test_auto_tiles_what_is_larger_than_the_published_picture(wan, caplog):
    with caplog.at_level(logging.INFO, logger="sounding_video.models.codecs"):
        assert count_calls(wan, torch.zeros(1, 4, 1, 60, 104), "auto")[1] == 1
        assert not caplog.records
        # 848×480: 5 × 3 tiles, one every 192 pixels.
        assert count_calls(wan, torch.zeros(1, 4, 1, 60, 106), "auto")[1] == 15
    assert "tiling auto: decode of 848×480 pixels in tiles" in caplog.text
    assert wan.vae.use_tiling is False


def test_unknown_tiling_is_refused(wan):
    with pytest.raises(InputError, match="unknown tiling: got 'yes'; expected one of auto, on, off"):
        wan.decode(noise(1, 4, 1, 2, 2), tiling="yes")


def test_auto_falls_back_to_tiles_when_memory_runs_out(wan, caplog):
    def small_card(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        if args[0].shape[-1] > 32:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    latents = noise(1, 4, 1, 8, 40)
    tiled = wan.decode(latents, tiling="on")
    handle = wan.vae.decoder.register_forward_pre_hook(small_card)
    try:
        assert torch.equal(wan.decode(latents, tiling="auto"), tiled)
        assert "ran out of memory whole, now in tiles" in caplog.text
        with pytest.raises(torch.cuda.OutOfMemoryError):
            wan.decode(latents, tiling="off")
    finally:
        handle.remove()
    assert wan.vae.use_tiling is False


@pytest.mark.parametrize("before", [True, False])
def test_a_stopped_decode_leaves_no_trace(wan, before):
    latents = noise(1, 4, 4, 4, 4)
    expected, seen = wan.decode(latents), []

    def check() -> None:
        if len(seen) == 3:
            raise Cancelled

    wan.vae.use_tiling = before
    try:
        with pytest.raises(Cancelled):
            wan.decode(latents, progress=Progress(lambda *step: seen.append(step), check), tiling="off")
        assert wan.vae.use_tiling is before
    finally:
        wan.vae.use_tiling = False
    assert len(seen) == 3, "stopped after the second latent frame"
    assert all(entry is None for entry in wan.vae._feat_map)
    assert not wan.vae.decoder._forward_hooks
    assert torch.equal(wan.decode(latents), expected)


# --- Oobleck -----------------------------------------------------------------------------------------------------


def test_oobleck_decode_is_the_stock_one_and_keeps_what_is_beyond_one(oobleck):
    latents = noise(1, 6, 9) * 20
    sound = oobleck.decode(latents)
    with torch.no_grad():
        assert torch.equal(sound, oobleck.vae.decode(latents).sample[0])
    assert sound.shape == (2, 9 * 16)
    assert sound.abs().max() > 1
    assert oobleck.to_raw(latents) is latents and oobleck.from_raw(latents) is latents


def test_idle_residual_units_are_left_out_without_a_difference(small_models_dir):
    """A unit whose last convolution is zero costs nothing any more; the sound is the same to the bit."""
    stock = AutoencoderOobleck.from_pretrained(small_models_dir / "stable_audio" / "vae").eval()
    unit = stock.decoder.block[-1].res_unit2
    with torch.no_grad():
        unit.conv2.weight_g.zero_()
        unit.conv2.bias.zero_()
        latents = torch.randn(1, 6, 9, generator=torch.Generator().manual_seed(0))
        expected = stock.decode(latents).sample[0]
    assert idle_units(stock) == [unit]
    codec, calls = OobleckCodec(stock), []
    unit.conv1.register_forward_hook(lambda *_: calls.append(1))
    assert torch.equal(codec.decode(latents), expected)
    assert not calls
    assert set(codec.vae.state_dict()) == set(AutoencoderOobleck(**stock.config).state_dict())


def test_idle_full_rate_channels_are_left_out_without_a_difference(small_models_dir):
    """Channels at the sample rate that are zero throughout are not computed; latents and sound stay what they were."""
    stock = AutoencoderOobleck.from_pretrained(small_models_dir / "stable_audio" / "vae").eval()
    first, last = stock.encoder.block[0], stock.decoder.block[-1]
    generator, kept = torch.Generator().manual_seed(0), 2
    with torch.no_grad():
        for unit in (u for block in (first, last) for u in (block.res_unit1, block.res_unit2, block.res_unit3)):
            unit.conv2.weight_g.zero_()
            unit.conv2.bias.zero_()
        stock.encoder.conv1.weight_g[kept:] = 0
        stock.encoder.conv1.bias[kept:] = 0
        last.conv_t1.weight_v[:, kept:] = 0
        last.conv_t1.bias[kept:] = 0
        sound = torch.randn(1, 2, 64, generator=generator)
        latents = stock.encode(sound).latent_dist.mode()
        expected = stock.decode(latents).sample[0]
    codec, widths = OobleckCodec(stock), []
    for snake in (first.snake1, stock.decoder.snake1):
        snake.register_forward_hook(lambda _, inputs, __: widths.append(inputs[0].shape[1]))
    torch.testing.assert_close(codec.encode(sound[0]), latents, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(codec.decode(latents), expected, atol=1e-6, rtol=1e-5)
    assert widths == [kept, kept]
    assert set(codec.vae.state_dict()) == set(AutoencoderOobleck(**stock.config).state_dict())


def test_oobleck_reads_its_geometry_from_the_config(oobleck):
    geometry = (oobleck.latent_channels, oobleck.channels, oobleck.hop, oobleck.sample_rate)
    assert geometry == (6, 2, 16, 8000)


@settings(max_examples=20, deadline=None)
@given(num_samples=st.integers(1, 100))
def test_any_length_fills_whole_latents(oobleck, num_samples):
    latents = oobleck.encode(torch.zeros(2, num_samples))
    assert latents.shape == (1, 6, -(-num_samples // 16))
    assert oobleck.decode(latents).shape == (2, -(-num_samples // 16) * 16)


def test_padding_is_zeros_at_the_end_and_is_logged(oobleck, caplog):
    sound = noise(2, 40)
    with caplog.at_level(logging.INFO, logger="sounding_video.models.codecs"):
        padded = oobleck.encode(sound)
    assert "the sound has 40 samples; 8 zeros are appended" in caplog.text
    assert torch.equal(padded, oobleck.encode(torch.cat([sound, torch.zeros(2, 8)], dim=1)))


def test_mono_goes_to_both_channels(oobleck):
    mono = noise(1, 64)
    assert torch.equal(oobleck.encode(mono), oobleck.encode(mono.repeat(2, 1)))


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        (torch.zeros(6, 64), "wrong number of channels: got 6; expected 1 or 2"),
        (torch.zeros(2, 0), "the sound is empty: got 0 samples"),
        (torch.zeros(64), "not a waveform"),
        (torch.zeros(1, 2, 64), "not a waveform"),
        (torch.zeros(2, 64, dtype=torch.int16), r"not a waveform: got \(2, 64\) torch.int16"),
    ],
)
def test_anything_but_a_waveform_is_refused(oobleck, sound, message):
    with pytest.raises(InputError, match=message):
        oobleck.encode(sound)


@pytest.mark.parametrize("share", [0.1, 1, 3, 3.05, 4, 7.3])
def test_a_sound_in_pieces_is_that_of_one(oobleck, share):
    """Each piece sees all that reaches it, and none is larger than asked for."""
    from sounding_video.core.progress import Progress
    from sounding_video.models.clip_decoding import decode_sound

    codec, seen, told = oobleck, [], []
    size, count = 3 * codec.context, max(1, round(share * codec.context))
    latents = noise(1, codec.latent_channels, count)
    whole = codec.decode(latents)
    handle = codec.vae.decoder.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[-1]))
    try:
        pieces = decode_sound(codec, latents, size, Progress(lambda stage, done, total, _: told.append((done, total))))
    finally:
        handle.remove()
    torch.testing.assert_close(pieces, whole, atol=1e-5 * float(whole.abs().max()), rtol=0)
    assert max(seen) <= size and len(seen) == max(1, -(-(count - 2 * codec.context) // codec.context))
    assert told[-1][0] == told[-1][1] and [done for done, _ in told] == sorted(done for done, _ in told)
