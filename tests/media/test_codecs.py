"""Chosen codecs and qualities: each runs exactly or is refused with a sentence, and nothing chosen is today's bytes."""

from __future__ import annotations

import math
import wave
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from sounding_video.core.errors import InputError, MissingPackageError, OutputError
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.media import codecs
from sounding_video.media.codecs import CODECS, can_encode, with_codec
from sounding_video.media.mux import write_clip
from sounding_video.media.probe import probe, read_clip
from sounding_video.media.writers.base import CONTAINERS

PICTURES = [
    (suffix, codec) for suffix in (".mp4", ".webm", ".mkv") for codec in CONTAINERS[suffix].codecs if codec != "h264"
]
SOUNDS = [(".wav", "auto", 2**-23), (".wav", "pcm_s16", 2**-15), (".wav", "pcm_f32", 0.0), (".flac", "auto", 2**-23)]


def noisy(num_frames=7, size=64, rate=44_100, channels=2, extra=0):
    """Moving noise and a sound that is not silent anywhere."""
    generator = torch.Generator().manual_seed(3)
    frames = torch.rand(num_frames, 1, size, size, 3, generator=generator)[:, 0]
    samples = math.floor(num_frames / 15 * rate + 0.5) + extra
    return AVClip(VideoClip(frames, 15), AudioClip(torch.rand(channels, samples, generator=generator) - 0.5, rate))


@pytest.mark.parametrize(("suffix", "codec"), PICTURES)
def test_a_chosen_codec_is_in_the_file_and_the_lengths_are_exact(tmp_path, suffix, codec):
    clip = noisy(extra=-200)
    report = write_clip(clip, tmp_path / f"a{suffix}", codec=codec, metadata={"prompt": "x"})
    info, back = probe(report.path), read_clip(report.path)
    rate = 48_000 if suffix == ".webm" else 44_100
    assert (info.video_codec, info.num_frames, info.fps, info.num_samples) == (codec, 7, 15, 7 * rate // 15)
    assert info.tags == {"prompt": "x"}
    with av.open(str(report.path)) as source:
        times = [float(frame.pts * frame.time_base) for frame in source.decode(video=0)]
    assert times == pytest.approx([index / 15 for index in range(7)], abs=1e-9 if suffix == ".mp4" else 0.00051)
    error = (back.video.frames - clip.video.frames).abs().max() * 255
    assert float(error) <= (0.5001 if codec == "ffv1" else 255)
    assert float((back.video.frames - clip.video.frames).abs().mean()) < 0.2


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".mp4", "auto"), (".mp4", "hevc"), (".mp4", "av1"), (".webm", "auto"), (".mkv", "h264")]
)
def test_quality_is_heard_by_the_encoder(tmp_path, suffix, codec):
    sizes = [
        write_clip(noisy(), tmp_path / f"{crf}{suffix}", codec=codec, crf=crf).path.stat().st_size for crf in (10, 50)
    ]
    assert sizes[1] < sizes[0] - 15_000


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv"])
def test_nothing_chosen_is_the_format_s_own(suffix):
    """The container object itself goes to the writer, so that files stay what they were."""
    container = CONTAINERS[suffix]
    assert with_codec(container) is container
    named = with_codec(container, container.codecs[0])
    assert (named.video_codec, named.video_options) == (container.video_codec, container.video_options)


def test_the_own_quality_named_gives_the_same_bytes(tmp_path):
    made = [
        write_clip(noisy(), tmp_path / f"{index}.mp4", **options).path.read_bytes()
        for index, options in enumerate(({}, {"crf": 18}, {"codec": "h264"}, {"crf": 19}))
    ]
    assert made[0] == made[1] == made[2] != made[3]


@pytest.mark.parametrize(("suffix", "codec", "step"), SOUNDS)
@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (37_800, 1), (8000, 2)])
def test_sound_files_hold_the_samples_and_the_tags(tmp_path, suffix, codec, step, rate, channels):
    tags = {"prompt": {"text": "ü" * 300_000}, "workflow": {"nodes": []}}
    clip = AVClip(None, noisy(rate=rate, channels=channels).audio)
    report = write_clip(clip, tmp_path / f"a{suffix}", codec=codec, metadata=tags)
    info, back = probe(report.path), read_clip(report.path)
    assert (info.video_codec, info.num_channels, info.tags["workflow"]) == (None, channels, '{"nodes": []}')
    assert len(info.tags["prompt"]) > 1_000_000 and set(info.tags) == {"prompt", "workflow"}
    if suffix == ".flac" and rate == 37_800:
        assert (report.resampled_from_hz, info.sample_rate, report.num_samples) == (rate, 44_100, info.num_samples)
        return
    assert (info.sample_rate, info.num_samples) == (rate, clip.audio.waveform.shape[-1])
    assert float((back.audio.waveform - clip.audio.waveform).abs().max()) <= step


def test_moviepy_takes_the_quality_too(tmp_path):
    pytest.importorskip("moviepy")
    sizes = [
        write_clip(noisy(), tmp_path / f"{crf}.mp4", writer="moviepy", codec="h264", crf=crf).path.stat().st_size
        for crf in (10, 50)
    ]
    assert sizes[1] < sizes[0] - 15_000 and probe(tmp_path / "50.mp4").num_samples == 20_580


def test_a_wav_is_one_that_others_read(tmp_path):
    clip = noisy()
    write_clip(AVClip(None, clip.audio), tmp_path / "a.wav", codec="pcm_s16", metadata={"prompt": "x"})
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (
            2,
            2,
            44_100,
            20580,
        )
        values = np.frombuffer(file.readframes(20580), np.int16).reshape(-1, 2).T
    assert np.abs(values - clip.audio.waveform.numpy() * 32_767).max() <= 0.5


def test_a_comment_of_another_s_wav_stays_a_comment(tmp_path):
    for text in ("recorded on Monday", "[1, 2]", '{"take": 3}'):
        write_clip(AVClip(None, noisy().audio), tmp_path / "a.flac", metadata={"comment": text})
        assert probe(tmp_path / "a.flac").tags == {"comment": text}
        write_clip(AVClip(None, noisy().audio), tmp_path / "a.wav", metadata={"comment": text})
        assert probe(tmp_path / "a.wav").tags == {"comment": text}


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".m4a"])
@pytest.mark.parametrize("extra", [-500, 0, 500])
def test_sound_alone_is_as_long_as_the_picture_that_is_left_out(tmp_path, suffix, extra):
    report = write_clip(noisy(9, size=63, extra=extra), tmp_path / f"a{suffix}")  # odd sizes hinder no sound
    info = probe(report.path)
    assert (info.num_frames, info.num_samples, float(info.seconds)) == (None, 26_460, 0.6)
    assert f"The picture was left out: {suffix} files hold sound alone." in report.notes
    assert (report.num_frames, report.fps, report.as_json()["picture_left_out"]) == (None, None, True)
    assert (report.num_samples_padded, report.num_samples_left_out) == (max(0, -extra), max(0, extra))


@pytest.mark.parametrize(
    ("suffix", "options", "message"),
    [
        (".mp4", {"codec": "vp9"}, "mp4 cannot hold this codec: got 'vp9'; expected one of auto, h264, hevc, av1"),
        (".webm", {"codec": "h264"}, "webm cannot hold this codec"),
        (".mp4", {"codec": "divx"}, "Codecs are auto, h264"),
        (".flac", {"codec": "pcm_s16"}, "flac has one codec only"),
        (".wav", {"codec": "h264"}, "wav cannot hold this codec: got 'h264'; expected one of auto, pcm_s24"),
        (".mkv", {"codec": "pcm_s16"}, "mkv cannot hold this codec"),
        (".mp4", {"crf": 52}, r"h264 knows no such quality: got 52; expected 0 \(best\) to 51, or -1"),
        (".mp4", {"codec": "av1", "crf": 0}, "av1 knows no such quality"),
        (".webm", {"crf": -2}, "vp9 knows no such quality"),
        (".mkv", {"codec": "ffv1", "crf": 18}, "ffv1 has no quality to choose: got 18; expected -1"),
        (".flac", {"crf": 18}, "flac has no quality to choose"),
        (".wav", {"crf": 0}, "has no quality to choose"),
        (".mp4", {"codec": "hevc", "writer": "moviepy"}, "moviepy writer encodes H.264 only"),
    ],
)
def test_what_does_not_go_together_is_refused(tmp_path, suffix, options, message):
    with pytest.raises(InputError, match=message):
        write_clip(noisy(1), tmp_path / f"a{suffix}", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_alone_is_no_sound_file(tmp_path):
    with pytest.raises(OutputError, match=r"got 'a\.wav'; expected a name ending in \.mp4, \.webm, \.mkv"):
        write_clip(AVClip(noisy(1).video), tmp_path / "a.wav")


def test_an_encoder_that_this_build_lacks_is_named(tmp_path, monkeypatch):
    lacking = codecs.Codec("libnothing", (0, 51), {"crf": "20"})
    monkeypatch.setitem(CODECS, "hevc", lacking)
    with pytest.raises(MissingPackageError, match="cannot encode hevc: it lacks FFmpeg's libnothing"):
        write_clip(noisy(1), tmp_path / "a.mp4", codec="hevc")


def test_the_encoders_are_quiet(tmp_path, capfd):
    for codec in ("av1", "hevc"):
        write_clip(noisy(2), tmp_path / "a.mkv", codec=codec)
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not can_encode("av1"), reason="this PyAV has no AV1 encoder")
@pytest.mark.parametrize("size", [(16, 1024), (1024, 16)])
def test_a_narrow_picture_does_not_hold_up_av1(tmp_path, size):
    frames = torch.rand(5, *size, 3, generator=torch.Generator().manual_seed(0))
    report = write_clip(AVClip(VideoClip(frames, Fraction(15))), tmp_path / "narrow.mp4", codec="av1")
    assert probe(report.path).num_frames == 5
