"""The file holds what the clip holds: frame for frame, sample for sample, tag for tag."""

import json
import shutil
import subprocess
import sys
from fractions import Fraction

import av
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sounding_video.core.clock import samples_for
from sounding_video.core.errors import InputError, MissingPackageError, NonFiniteError, OutputError
from sounding_video.core.progress import Progress
from sounding_video.core.types import AudioClip, AVClip, VideoClip
from sounding_video.media.mux import write_clip
from sounding_video.media.probe import probe, read_clip
from sounding_video.media.writers import WRITERS
from sounding_video.media.writers.base import CONTAINERS


def writes(writer, container):
    try:
        WRITERS.get(writer)().check(container)
    except InputError:
        return False
    return container.video_codec is not None


WAYS = [(writer, suffix) for writer in WRITERS for suffix in CONTAINERS if writes(writer, CONTAINERS[suffix])]
NTSC = Fraction(30000, 1001)
CODECS = {".mp4": ("h264", "aac"), ".webm": ("vp9", "opus"), ".mkv": ("h264", "flac")}


@pytest.mark.parametrize(("writer", "suffix"), WAYS)
@pytest.mark.parametrize(("num_frames", "fps", "sample_rate"), [(81, 15, 44_100), (7, NTSC, 48_000), (1, 24, 44_100)])
def test_length_and_sync_are_exact(make_clip, find_clicks, tmp_path, writer, suffix, num_frames, fps, sample_rate):
    num_samples = samples_for(num_frames / Fraction(fps), sample_rate)
    clicks = [100, num_samples // 2, num_samples - 101]
    clip = make_clip(num_frames, fps, sample_rate, clicks=clicks)
    report = write_clip(clip, tmp_path / f"clip{suffix}", writer=writer)
    info, back = probe(report.path), read_clip(report.path)

    rate = 48_000 if suffix == ".webm" else sample_rate
    assert (info.video_codec, info.audio_codec) == CODECS[suffix]
    assert (info.num_frames, info.fps, info.seconds) == (num_frames, Fraction(fps), num_frames / Fraction(fps))
    assert info.sample_rate == report.sample_rate == rate
    assert info.num_samples == report.num_samples == back.num_samples == samples_for(num_frames / Fraction(fps), rate)
    assert back.audio.waveform.shape == (2, info.num_samples)
    found = find_clicks(back.audio.waveform, 3)
    assert max(abs(a - b * rate / sample_rate) for a, b in zip(found, clicks, strict=True)) <= 1
    assert (report.num_samples_padded, report.num_samples_left_out, report.gain_db) == (0, 0, 0.0)
    assert float((back.video.frames - clip.video.frames).abs().max()) * 255 < 5


@pytest.mark.parametrize(("writer", "suffix"), WAYS)
def test_the_same_clip_gives_the_same_bytes(tmp_path, writer, suffix):
    """Narrow pictures too: x264 reads past the rows of a narrow picture in its AVX-512 code."""
    noise = torch.rand(5, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    frames = 0.2 * noise + torch.linspace(0, 0.6, 5)[:, None, None, None]
    clip = AVClip(VideoClip(frames, Fraction(15)), AudioClip(torch.zeros(2, 14_700), 44_100))
    files = set()
    for index in range(60 if writer == "pyav" else 4):
        files.add(write_clip(clip, tmp_path / f"{index}{suffix}", writer=writer).path.read_bytes())
    assert len(files) == 1


def test_published_numbers(make_clip, tmp_path):
    info = probe(write_clip(make_clip(81, 15), tmp_path / "a.mp4").path)
    assert (info.num_frames, info.num_samples, info.seconds) == (81, 238_140, Fraction(27, 5))


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv"])
def test_timestamps_agree_with_counts(make_clip, tmp_path, suffix):
    """Players go by timestamps, not counts: both streams start at zero and frames come at k / fps."""
    path = write_clip(make_clip(9, NTSC), tmp_path / f"a{suffix}").path
    tolerance = 0 if suffix == ".mp4" else 0.00051  # Matroska's time base is a millisecond
    with av.open(str(path)) as source:
        times = [float(frame.pts * frame.time_base) for frame in source.decode(video=0)]
    with av.open(str(path)) as source:
        first = next(source.decode(audio=0))
    assert all(abs(time - float(index / NTSC)) <= tolerance + 1e-9 for index, time in enumerate(times))
    assert first.pts == 0


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe, the independent witness, is not installed")
@pytest.mark.parametrize(("writer", "suffix"), WAYS)
def test_another_ffmpeg_counts_the_same(make_clip, tmp_path, writer, suffix):
    report = write_clip(make_clip(81, 15, clicks=[5]), tmp_path / f"a{suffix}", writer=writer)
    entries = "stream=codec_type,nb_read_frames,pix_fmt,color_range,color_space,color_transfer,color_primaries"
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", entries, "-of", "json", str(report.path)]
    shown = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["streams"]
    picture = next(stream for stream in shown if stream["codec_type"] == "video")
    colours = [picture[key] for key in ("pix_fmt", "color_range", "color_space", "color_transfer", "color_primaries")]
    assert (int(picture["nb_read_frames"]), colours) == (81, ["yuv420p", "tv", "bt709", "bt709", "bt709"])
    if shutil.which("ffmpeg"):
        decode = ["ffmpeg", "-v", "error", "-i", str(report.path), "-f", "s16le", "-ac", "1", "-"]
        raw = subprocess.run(decode, capture_output=True, check=True).stdout
        assert len(raw) // 2 == report.num_samples


@settings(max_examples=40, deadline=None)
@given(
    num_frames=st.integers(1, 12),
    fps=st.sampled_from([Fraction(12), Fraction(15), Fraction(16), Fraction(24), Fraction(25), Fraction(30), NTSC]),
    sample_rate=st.sampled_from([44_100, 48_000, 16_000]),
    suffix=st.sampled_from([".mp4", ".webm", ".mkv"]),
    extra=st.integers(-400, 400),
)
def test_reading_back_keeps_counts(make_clip, tmp_path_factory, num_frames, fps, sample_rate, suffix, extra):
    path = tmp_path_factory.mktemp("law") / f"a{suffix}"
    clip = make_clip(num_frames, fps, sample_rate, size=(16, 16), extra=extra, channels=1)
    report = write_clip(clip, path)
    back = read_clip(path)
    assert (back.video.frames.shape[0], back.video.fps) == (num_frames, fps)
    assert back.audio.waveform.shape == (1, back.num_samples) == (1, report.num_samples)
    assert (report.num_samples_padded, report.num_samples_left_out) == (max(0, -extra), max(0, extra))


def test_short_sound_is_padded_and_long_sound_fades(make_clip, tmp_path):
    tone = 0.5 * torch.ones(2, 5000)
    video = make_clip(15, 15).video
    report = write_clip(AVClip(video, AudioClip(tone, 44_100)), tmp_path / "short.mkv")
    back = read_clip(report.path).audio.waveform
    assert (report.num_samples_padded, back.shape[-1]) == (39_100, 44_100)
    assert float(back[:, 5000:].abs().max()) == 0.0
    assert float((back[:, : 5000 - 441] - 0.5).abs().max()) < 1e-6
    assert "39100 samples (0.887 s) early" in report.notes[0]

    report = write_clip(AVClip(video, AudioClip(0.5 * torch.ones(2, 50_000), 44_100)), tmp_path / "long.mkv")
    back = read_clip(report.path).audio.waveform
    assert (report.num_samples_left_out, back.shape[-1]) == (5_900, 44_100)
    assert float(back[:, -1].abs().max()) < 1e-6 and float(back[0, -442]) == pytest.approx(0.5, abs=1e-6)
    assert report.as_json()["notes"] == ["The sound was 5900 samples (0.134 s) too long; it was faded out."]


@pytest.mark.parametrize(("writer", "suffix"), WAYS)
def test_loud_sound_is_lowered_as_a_whole(make_clip, tmp_path, writer, suffix):
    times = torch.arange(44_100) / 44_100
    wave = torch.sin(2 * torch.pi * 440 * times)
    loud = AVClip(make_clip(15, 15).video, AudioClip(torch.stack([2 * wave, 0.5 * wave]), 44_100))
    report = write_clip(loud, tmp_path / f"a{suffix}", writer=writer)
    assert report.gain_db == pytest.approx(-6.02, abs=0.02)
    assert any("lowered by 6.0 dB" in note for note in report.notes)
    back = read_clip(report.path).audio.waveform[:, 4000:-4000]
    # FFmpeg's AAC encoder lowers frames that peak above 0.95 by up to 5 %, so that its own error does not clip
    assert back.abs().amax(dim=1).tolist() == pytest.approx([1.0, 0.25], abs=0.055 if suffix == ".mp4" else 0.02)


@pytest.mark.parametrize(("writer", "suffix"), WAYS)
def test_tags_come_back_as_written(make_clip, tmp_path, writer, suffix):
    tags = {
        "prompt": {"3": {"class_type": "T2SVMux", "inputs": {"text": 'a "quoted" bell, 鐘, é, 🔔'}}},
        "workflow": {"nodes": [{"id": index, "title": "x" * 90} for index in range(1800)]},
        "comment": "plain, ünïcödé, two\nlines",
        "extra.pnginfo-key/1": [1, 2.5, None],
    }
    report = write_clip(make_clip(3), tmp_path / f"a{suffix}", writer=writer, metadata=tags)
    back = probe(report.path).tags
    assert len(back["workflow"]) > 200_000
    assert back == {name: text if isinstance(text, str) else json.dumps(text) for name, text in tags.items()}


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv"])
def test_either_modality_may_be_absent(make_clip, tmp_path, suffix):
    clip = make_clip(5, NTSC, clicks=[300])
    info = probe(write_clip(AVClip(clip.video), tmp_path / f"picture{suffix}").path)
    assert (info.num_frames, info.fps, info.num_samples, info.audio_codec) == (5, NTSC, None, None)
    report = write_clip(AVClip(None, clip.audio), tmp_path / f"sound{suffix}", metadata={"prompt": "bell"})
    info = probe(report.path)
    assert (info.num_frames, info.width, info.num_samples) == (None, None, report.num_samples)
    assert info.tags == {"prompt": "bell"}


def test_sound_alone_as_m4a(make_clip, tmp_path):
    clip = make_clip(30, 15, clicks=[1000, 80_000])
    done = []
    progress = Progress(report=lambda stage, i, n, preview=None: done.append((stage, i, n)))
    tags = {"prompt": {"text": "a bell"}}
    info = probe(write_clip(AVClip(None, clip.audio), tmp_path / "a.m4a", metadata=tags, progress=progress).path)
    assert info.tags == {"prompt": '{"text": "a bell"}'}
    assert (info.container, info.audio_codec, info.num_samples) == ("mp4", "aac", 88_200)
    assert done == [("mux", index, 87) for index in range(88)]


@pytest.mark.parametrize("writer", WRITERS)
def test_progress_counts_frames(make_clip, tmp_path, writer):
    done = []
    progress = Progress(report=lambda stage, i, n, preview=None: done.append((stage, i, n)))
    write_clip(make_clip(6), tmp_path / "a.mp4", writer=writer, progress=progress)
    assert done == [("mux", index, 6) for index in range(7)]


def test_moviepy_is_optional(make_clip, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "moviepy.video.io.ffmpeg_writer", None)
    with pytest.raises(MissingPackageError, match=r"writing video through moviepy needs.*pip install moviepy"):
        write_clip(make_clip(2), tmp_path / "a.mp4", writer="moviepy")
    assert list(tmp_path.iterdir()) == []
    code = (
        "import sys, sounding_video.media.mux; assert 'moviepy' not in sys.modules and 'torchaudio' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_odd_frame_rate_of_moviepy_is_mended(make_clip, tmp_path):
    """moviepy writes the rate with two decimals; 25/12 would become 2.08."""
    assert probe(write_clip(make_clip(7, Fraction(25, 12)), tmp_path / "a.mp4", writer="moviepy").path).fps == Fraction(
        25, 12
    )


def test_rate_the_codec_lacks_is_resampled_and_reported(make_clip, tmp_path):
    report = write_clip(make_clip(6, 15, 37_800), tmp_path / "a.mp4")
    assert (report.sample_rate, report.resampled_from_hz) == (44_100, 37_800)
    assert probe(report.path).num_samples == report.num_samples == 17_640
    assert "resampled from 37800 to 44100 Hz" in report.notes[0]
    assert CONTAINERS[".webm"].rate_for(96_000) == 48_000


def test_one_sample_of_rounding_is_not_a_fade(make_clip, tmp_path):
    """1838 samples at 44.1 kHz fit one frame at 24 fps; at 48 kHz they are 2001, the frame is 2000."""
    report = write_clip(make_clip(1, 24), tmp_path / "a.webm")
    assert (report.num_samples, report.num_samples_left_out) == (2000, 0)


def test_half_precision_is_accepted(make_clip, tmp_path):
    clip = make_clip(3)
    half = AVClip(VideoClip(clip.video.frames.bfloat16(), 15), AudioClip(clip.audio.waveform.half(), 44_100))
    assert probe(write_clip(half, tmp_path / "a.mp4").path).num_frames == 3


def _with_frames(clip, change):
    frames = clip.video.frames.clone()
    change(frames)
    return AVClip(VideoClip(frames, clip.video.fps), clip.audio)


def test_rounding_noise_is_counted_and_more_is_refused(make_clip, tmp_path):
    noisy = _with_frames(make_clip(2), lambda frames: frames[0, 0, :3].fill_(1.004))
    report = write_clip(noisy, tmp_path / "a.mp4")
    assert report.num_values_clamped == 9 and "9 frame values" in report.notes[0]
    wrong = _with_frames(make_clip(2), lambda frames: frames.mul_(255))
    with pytest.raises(InputError, match=r"outside 0\.\.1.*divided by 255"):
        write_clip(wrong, tmp_path / "b.mp4")


@pytest.mark.parametrize(("size", "shown"), [((32, 47), "47×32"), ((31, 48), "48×31")])
@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv"])
def test_odd_size_is_refused(make_clip, tmp_path, size, shown, suffix):
    with pytest.raises(InputError, match=f"must be even: got {shown}; expected for example"):
        write_clip(make_clip(2, size=size), tmp_path / f"a{suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_refused(make_clip, tmp_path, value):
    clip = make_clip(2)
    with pytest.raises(NonFiniteError, match="frames tensor contains NaN or infinity: got 1 of"):
        write_clip(_with_frames(clip, lambda frames: frames[1, 2, 3, 0].fill_(value)), tmp_path / "a.mp4")
    waveform = clip.audio.waveform.clone()
    waveform[0, 7] = value
    with pytest.raises(NonFiniteError, match="waveform contains NaN or infinity: got 1 of"):
        write_clip(AVClip(clip.video, AudioClip(waveform, 44_100)), tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_bad_requests_say_what_is_possible(make_clip, tmp_path):
    clip = make_clip(2)
    with pytest.raises(OutputError, match=r"'a\.avi'; expected a name ending in \.mp4, \.webm, \.mkv"):
        write_clip(clip, tmp_path / "a.avi")
    with pytest.raises(OutputError, match=r"'a'; expected a name ending in"):
        write_clip(clip, tmp_path / "a")
    with pytest.raises(OutputError, match=r"no video format goes with this file name: got 'a\.m4a'"):
        write_clip(AVClip(clip.video), tmp_path / "a.m4a")
    with pytest.raises(InputError, match="unknown video writer: got 'opencv'; expected one of moviepy, pyav"):
        write_clip(clip, tmp_path / "a.mp4", writer="opencv")
    with pytest.raises(InputError, match=r"moviepy writer makes \.mp4 files.*got \.webm"):
        write_clip(clip, tmp_path / "a.webm", writer="moviepy")
    with pytest.raises(InputError, match="got a clip without a picture"):
        write_clip(AVClip(None, clip.audio), tmp_path / "a.mp4", writer="moviepy")
    with pytest.raises(InputError, match="the sound is empty"):
        write_clip(AVClip(clip.video, AudioClip(torch.zeros(1, 0), 44_100)), tmp_path / "a.mp4")
    with pytest.raises(InputError, match="the sound is empty"):
        write_clip(AVClip(None, AudioClip(torch.zeros(1, 0), 44_100)), tmp_path / "a.mp4")
    with pytest.raises(InputError, match=r"encoder refused this clip.*16384"):
        write_clip(make_clip(1, size=(2, 17_000)), tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"my tag": "x"}, "tag name cannot be kept.*'my tag'"),
        ({"": "x"}, "tag name cannot be kept"),
        ({"encoder": "x"}, "tag name cannot be kept.*'encoder'"),
        ({"Prompt": "x", "prompt": "y"}, "differ only in upper and lower case"),
        ({"prompt": {1, 2}}, "'prompt' cannot be written as text: got set"),
        ({"prompt": "a\0b"}, "zero character"),
        ({"prompt": "\ud800"}, "cannot be written as text"),
    ],
)
def test_tags_that_would_be_lost_are_refused(make_clip, tmp_path, metadata, message):
    with pytest.raises(InputError, match=message):
        write_clip(make_clip(1), tmp_path / "a.mp4", metadata=metadata)
