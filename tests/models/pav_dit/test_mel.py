"""Frame-wise mel images: law 12 of PAV-DiT's reference, librosa as the witness."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import librosa
import numpy as np
import pytest
import torch
from sounding_video.core.clock import Timeline
from sounding_video.core.errors import GeometryError, InputError, NonFiniteError
from sounding_video.models.pav_dit.mel import MelImages
from sounding_video.world.detectors import event_f1, sound_events
from sounding_video.world.scenes import SCENES
from sounding_video.world.synth import make_clip
from torchaudio.functional import resample

MEL = MelImages.fitting(Fraction(15), frames=3)
EVENTFUL = [name for name in SCENES if not SCENES.get(name).continuous]


def noise(samples=4800 * 4, channels=2):
    return 0.2 * torch.randn(channels, samples, generator=torch.Generator().manual_seed(0))


def balance(waveform):
    left, right = waveform.pow(2).mean(1).sqrt()
    return 20 * float(torch.log10(left / right))


def test_law_12_a_segment_is_as_long_as_its_frames():
    assert (MEL.hop, MEL.segment) == (200, 4800)
    assert MelImages.fitting(Fraction(15), frames=1, columns=8).segment == 1600
    film = MelImages.fitting(Fraction(30_000, 1001), frames=5, columns=13)
    assert film.segment == 4004 and film.hop == 308
    assert MEL.images(noise(4801)).shape == (2, 2, 64, 24), "what is begun is filled up with silence"


def test_law_12_an_image_is_a_slice_of_the_whole_stft_and_the_witness_says_the_same():
    sound, window = noise(), np.hanning(1025)[:-1]
    images = MEL.images(sound)
    assert images.shape == (2, 4, 64, 24)
    filters = librosa.filters.mel(sr=24_000, n_fft=1024, n_mels=64, htk=True, norm=None)
    spectrum = librosa.stft(
        sound.numpy(), n_fft=1024, hop_length=200, window=window / window.sum(), pad_mode="constant"
    )
    values = (np.log(filters @ np.abs(spectrum) + 1e-4) + 4) / 6
    for segment in range(4):
        wanted = values[..., segment * 24 : (segment + 1) * 24]
        assert np.allclose(images[:, segment].numpy(), wanted, atol=2e-4)


def test_law_12_an_image_does_not_know_where_the_sound_was_cut():
    sound = noise(4800 * 5)
    whole, piece = MEL.images(sound), MEL.images(sound[:, 4800:])
    assert torch.allclose(piece[:, 1:], whole[:, 2:], atol=1e-5), "but for what reaches over the new edge"
    assert not torch.allclose(piece[:, 0], whole[:, 1], atol=1e-2)
    later = MEL.images(torch.cat((torch.zeros(2, 4800), sound), dim=1))
    assert torch.allclose(later[:, 1:], whole, atol=1e-5), "a segment later is an image later"


@pytest.mark.parametrize("scene", EVENTFUL)
def test_law_12_events_keep_their_times_through_images_and_back(scene):
    timeline = Timeline(num_frames=33, fps=15, width=64, height=64)
    made = make_clip(scene, 100, timeline=timeline, split="test")
    images = MEL.images(resample(made.clip.audio.waveform, 44_100, 24_000))
    if scene == "knock":  # an autoencoder is not exact either
        images = images + 0.5 * torch.randn(images.shape, generator=torch.Generator().manual_seed(1)) / MEL.spread
    back = MEL.sound(images)
    assert back.shape == (2, 11 * 4800)
    assert event_f1(sound_events(back, 24_000), made.events, 1 / 15) == 1


def test_law_12_silence_stays_silence_and_stays_so_beside_a_sound():
    assert not MEL.sound(MEL.images(torch.zeros(2, 9600))).any()
    tone = torch.zeros(2, 4800 * 3)
    tone[:, 4800:9600] = 0.5 * torch.sin(torch.arange(4800) * (2 * torch.pi * 440 / 24_000))
    back = MEL.sound(MEL.images(tone))
    assert back[:, 4800:9600].std() > 0.2 and back[:, :3800].abs().max() < 1e-3 and back[:, 10_600:].abs().max() < 1e-3


@pytest.mark.parametrize("decibels", [-12.0, 3.0, 20.0])
def test_law_12_stereo_balance_is_kept_within_1_db(decibels):
    sound = noise(channels=1) * torch.tensor([[1.0], [10 ** (-decibels / 20)]])
    assert balance(MEL.sound(MEL.images(sound))) == pytest.approx(decibels, abs=1)


def test_the_sound_of_images_has_these_images():
    sound = noise()
    images = MEL.images(sound)
    back = MEL.images(MEL.sound(images))
    assert (back - images).abs().mean() < 0.06
    one_side = MEL.sound(MEL.images(sound * torch.tensor([[1.0], [0.0]])))
    assert one_side[0].std() > 0.1 and not one_side[1].any()


def test_the_scale_is_about_one():
    silent, loud = MEL.images(torch.zeros(1, 4800)), MEL.images(torch.randn(1, 4800).clamp(-1, 1))
    assert silent.unique().item() == pytest.approx((np.log(1e-4) + 4) / 6) and 0.3 < loud.max() < 1
    half = MelImages(window=512, hop=200)
    tone = 0.9 * torch.sin(torch.arange(9600) * (2 * torch.pi * 3000 / 24_000))[None]
    assert half.images(tone).max() == pytest.approx(float(MEL.images(tone).max()), abs=0.1), "whatever the window"


@pytest.mark.parametrize(
    ("rate", "columns", "nearest"),
    [
        (44_100, 8, "44040 or 44160 Hz, or 6 or 7 columns"),
        (44_100, 16, "43920 or 44160 Hz, or 14 or 15 columns"),
        (24_001, 8, "24000 or 24120 Hz"),
        (50, 8, "expected a sound of 120 Hz"),
    ],
)
def test_law_12_rates_that_do_not_divide_are_refused_with_the_nearest_that_do(rate, columns, nearest):
    with pytest.raises(GeometryError, match=f"no whole number of columns of sound: got .*{nearest}"):
        MelImages.fitting(Fraction(15), frames=1, sample_rate=rate, columns=columns)
    for fitting in nearest.removeprefix("expected a sound of ").split(" Hz")[0].split(" or "):
        assert MelImages.fitting(Fraction(15), frames=1, sample_rate=int(fitting), columns=columns, window=16_384,
                                 bands=8).segment == Fraction(int(fitting), 15)  # fmt: skip


def test_what_is_no_sound_and_no_image_is_refused():
    for wrong in (torch.zeros(9), torch.zeros(2, 0), torch.zeros(0, 9)):
        with pytest.raises(InputError, match="the sound is not a waveform"):
            MEL.images(wrong)
    with pytest.raises(NonFiniteError, match="the sound contains NaN"):
        MEL.images(torch.full((1, 9), torch.nan))
    with pytest.raises(InputError, match=r"no mel images of this model: got \(2, 1, 24, 64\)"):
        MEL.sound(torch.zeros(2, 1, 24, 64))
    with pytest.raises(NonFiniteError, match="the mel images contain"):
        MEL.sound(torch.full((2, 1, 64, 24), torch.inf))
    with pytest.raises(GeometryError, match="columns lie too far apart: got 600 samples a column; expected 1 to 512"):
        replace(MEL, hop=600)
    for changes in ({"bands": 0}, {"bands": 10**9}, {"window": 2**20}, {"columns": 0}):
        with pytest.raises(GeometryError, match="these are no images of a sound"):
            replace(MEL, **changes)
    with pytest.raises(GeometryError, match="bands in which no frequency lies: got 200 bands"):
        replace(MEL, bands=200)
