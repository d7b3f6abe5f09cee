"""The preview shows what the codec would decode, without decoding: on held-out latents of the bundled codecs."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image
from sounding_video.core.device import resolve_placement
from sounding_video.core.errors import Cancelled
from sounding_video.core.progress import Progress
from sounding_video.core.types import JointLatents
from sounding_video.media.plot import coloured
from sounding_video.media.preview import (
    NUM_BANDS,
    RANGE_DB,
    AffineMap,
    Preview,
    PreviewMaps,
    band_levels,
    fit_colours,
    fit_levels,
    patch_means,
)
from sounding_video.models.weights.find import find_models
from sounding_video.models.weights.load import load_stable_audio, load_wan
from sounding_video.pipeline import load_models, preview_maps

CPU = resolve_placement(device="cpu", dtype="float32", attention="sdpa", offload="none")


@pytest.fixture(scope="module")
def video_codec():
    parts = load_wan(find_models("pocket").video, CPU)
    parts.codec.trained = parts.trained  # untrained, it decodes to near noise, of which a line explains less
    return parts.codec


@pytest.fixture(scope="module")
def audio_codec():
    parts = load_stable_audio(find_models("pocket").audio, CPU)
    parts.codec.trained = parts.trained
    return parts.codec


def correlation(ours, truth):
    return torch.corrcoef(torch.stack([ours.flatten().float(), truth.flatten().float()]))[0, 1].item()


def centred(frames):
    return frames.float() - frames.float().mean((0, 1, 2))


def moving_disc(num_frames, size):
    """A scene the fit has not seen: a bright disc that crosses a two-coloured background."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    frames = torch.empty(num_frames, size, size, 3)
    for index in range(num_frames):
        sky = torch.where((rows < size // 2)[..., None], torch.tensor([0.3, 0.5, 0.9]), torch.tensor([0.25, 0.4, 0.1]))
        x = size * (index + 1) / (num_frames + 1)
        disc = ((columns - x) ** 2 + (rows - size * 0.4) ** 2 < (size / 6) ** 2)[..., None]
        frames[index] = torch.where(disc, torch.tensor([0.95, 0.8, 0.2]), sky)
    return frames


def test_an_affine_relation_is_found_again():
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(400, 5, generator=generator) * torch.tensor([1.0, 10.0, 0.1, 3.0, 1.0]) + 2
    weight, bias = torch.randn(5, 3, generator=generator), torch.tensor([1.0, -2.0, 0.5])
    found = AffineMap.fit(inputs, inputs @ weight + bias)
    latents = torch.randn(1, 5, 2, 4, 6, generator=generator) * 2
    expected = latents[0].movedim(0, -1) @ weight + bias
    assert found(latents).shape == (2, 4, 6, 3)
    assert correlation(found(latents), expected) > 0.999


def test_the_picture_is_close_to_the_decoded_one(video_codec):
    colours = fit_colours(video_codec)
    latents = video_codec.encode(moving_disc(9, 128))
    truth = patch_means(video_codec.decode(latents), video_codec.temporal_stride, video_codec.spatial_stride)
    shown = PreviewMaps(colours=colours).render(JointLatents(video=latents, audio=None)).frames
    assert shown.shape == truth.shape == (3, 16, 16, 3)
    assert shown.dtype == torch.uint8
    assert correlation(shown, truth) > (0.9 if video_codec.trained else 0.7)
    # Without each colour's own mean, which even a wrong map would have: what is where, and when.
    assert correlation(centred(shown), centred(truth)) > (0.9 if video_codec.trained else 0.3)
    shuffled = PreviewMaps(colours=colours).render(JointLatents(video=latents.roll(5, dims=1), audio=None)).frames
    assert correlation(centred(shuffled), centred(truth)) < 0.3


def test_the_spectrogram_is_close_to_the_decoded_one(audio_codec):
    rate, hop = audio_codec.sample_rate, audio_codec.hop
    time = torch.arange(24 * hop) / rate
    sound = 0.5 * torch.sin(2 * torch.pi * 440 * time) * (time % 0.4 < 0.2)
    sound += 0.2 * torch.randn(len(time), generator=torch.Generator().manual_seed(3)) * (time % 0.6 > 0.4)
    latents = audio_codec.encode(sound.expand(2, -1))
    truth = band_levels(audio_codec.decode(latents), rate, hop, latents.shape[-1])
    shown = PreviewMaps(levels=fit_levels(audio_codec)).render(JointLatents(video=None, audio=latents)).spectrogram
    assert shown.shape == truth.shape == (NUM_BANDS, 24)
    assert shown.min() >= 0 and shown.max() == 1
    # The bundled codec knows the world's sounds, not these, and its encoder is at the beginning of its training.
    assert correlation(shown, ((truth - truth.max()) / RANGE_DB + 1).clamp(0, 1)) > 0.45


def test_levels_find_a_tone_in_its_band_and_time():
    rate, hop = 8000, 256
    sound = torch.zeros(2, 20 * hop)
    sound[:, 10 * hop : 15 * hop] = torch.sin(2 * torch.pi * 1000 * torch.arange(5 * hop) / rate)
    levels = band_levels(sound, rate, hop, 20)
    assert levels.shape == (NUM_BANDS, 20)
    edges = 60 * (4000 / 60) ** (torch.arange(NUM_BANDS + 1) / NUM_BANDS)
    band, token = divmod(int(levels.argmax()), 20)
    assert edges[band] <= 1032 and edges[band + 1] >= 968
    assert 10 <= token < 15
    assert levels[:, 2].max() < levels.max() - 60


def test_patches_are_means_of_their_frames():
    frames = torch.rand(5, 16, 24, 3, generator=torch.Generator().manual_seed(0))
    means = patch_means(frames, 4, 8)
    assert means.shape == (2, 2, 3, 3)
    torch.testing.assert_close(means[0, 1, 2], frames[0, 8:, 16:].mean((0, 1)))
    torch.testing.assert_close(means[1, 0, 0], frames[1:, :8, :8].mean((0, 1, 2)))
    assert patch_means(frames[:1], 4, 8).shape == (1, 2, 3, 3)


@pytest.mark.parametrize(("num_frames", "columns", "count"), [(1, 1, 1), (9, 3, 9), (21, 5, 21), (100, 7, 48)])
def test_the_sheet_holds_every_picture_and_the_strip(num_frames, columns, count):
    frames = (torch.arange(num_frames) * 2)[:, None, None, None].expand(-1, 6, 10, 3).to(torch.uint8)
    level = torch.linspace(0, 1, 40).repeat(NUM_BANDS, 1)
    sheet = Preview(frames, level).sheet()
    assert sheet.as_json() == {"count": count, "columns": columns, "tile": [160, 96], "strip": 56, "seconds": None}
    rows = -(-count // columns)
    assert sheet.picture.size == (columns * 160, rows * 96 + 56)
    last = count - 1
    middle = (last % columns * 160 + 80, last // columns * 96 + 48)
    assert sheet.picture.getpixel(middle) == (last * num_frames // count * 2,) * 3
    assert sheet.picture.getpixel((sheet.picture.width - 1, rows * 96 + 20)) == tuple(coloured(torch.tensor(1.0)))


@pytest.mark.parametrize("size", [(2, 1024), (1024, 2)])
def test_a_picture_of_any_shape_can_be_sent(size):
    """JPEG ends at 65535 pixels; the nodes allow pictures of 8192 by 16."""
    sheet = Preview(torch.zeros(21, *size, 3, dtype=torch.uint8), torch.rand(NUM_BANDS, 30)).sheet()
    encoded = io.BytesIO()
    sheet.picture.save(encoded, "JPEG")
    assert max(Image.open(encoded).size) < 16_384
    assert sheet.tile == size[::-1]


def test_one_modality_alone_has_a_sheet_too():
    assert Preview(torch.zeros(3, 4, 4, 3, dtype=torch.uint8), None).sheet().strip == 0
    sound = Preview(None, torch.rand(NUM_BANDS, 30)).sheet()
    assert (sound.count, sound.strip) == (0, 56)
    encoded = io.BytesIO()
    sound.picture.save(encoded, "JPEG")
    assert Image.open(encoded).size == sound.picture.size == (384, 56)


def test_watching_hands_out_pictures_and_costs_nothing_unasked():
    rendered, seen = [], []
    maps = PreviewMaps(colours=AffineMap(torch.eye(4)[:, :3], torch.zeros(3)))

    def estimate():
        rendered.append(1)
        return JointLatents(video=torch.rand(1, 4, 2, 3, 3), audio=None)

    watched = maps.watch(Progress(lambda stage, done, total, preview=None: seen.append((stage, done, total, preview))))
    watched.step("encode", 1, 2)
    watched.step("sample", 1, 5, preview=estimate)
    assert seen[0] == ("encode", 1, 2, None)
    assert rendered == []
    assert seen[1][3]().frames.shape == (2, 3, 3, 3)
    assert rendered == [1]


def test_maps_that_know_nothing_show_nothing():
    """An empty picture cannot be encoded, and whoever sends pictures may not survive that."""
    seen = []
    progress = Progress(lambda stage, done, total, preview=None: seen.append(preview))
    sound = JointLatents(audio=torch.rand(1, 6, 20))
    PreviewMaps().watch(progress).step("sample", 1, 5, preview=lambda: sound)
    assert seen == [None]
    maps = PreviewMaps(colours=AffineMap(torch.eye(4)[:, :3], torch.zeros(3)))
    maps.watch(progress).step("sample", 2, 5, preview=lambda: sound)
    assert seen[1]() is None


def test_maps_are_fitted_once_a_codec(small_models_dir, monkeypatch):
    model = load_models(small_models_dir, placement=CPU)
    encodes = []
    encode = model.video.codec.encode
    monkeypatch.setattr(
        model.video.codec, "encode", lambda *given, **named: encodes.append(1) or encode(*given, **named)
    )
    first, second = preview_maps(model), preview_maps(model)
    assert first.colours is second.colours and first.levels is second.levels
    assert encodes == [1]
    latents = JointLatents(torch.randn(1, 4, 3, 4, 4), torch.randn(1, 6, 20))
    sheet = first.render(latents).sheet()
    assert (sheet.count, sheet.seconds) == (3, pytest.approx(20 * 16 / 8000))


@pytest.mark.parametrize("unit", [1, 4, 7, 10])
def test_fitting_moves_a_bar_and_can_be_stopped_on_the_way(small_models_dir, unit):
    model = load_models(small_models_dir, placement=CPU)
    steps = []

    def check_cancelled():
        if len(steps) == unit:
            raise Cancelled

    progress = Progress(lambda stage, done, total, preview=None: steps.append((stage, done, total)), check_cancelled)
    with pytest.raises(Cancelled):
        preview_maps(model, progress)
    assert len(steps) == unit
    assert {stage for stage, _, _ in steps} == {"preview"}
    assert preview_maps(model).levels is not None, "what was stopped is fitted when it is asked for again"
    steps.clear()
    preview_maps(model, progress)
    assert steps == [], "what is known takes no time"
