"""Reading back, and refusing what is not whole."""

import json
import shutil
import wave
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image
from sounding_video.core.errors import InputError
from sounding_video.media.mux import write_clip
from sounding_video.media.probe import probe, read_clip


@pytest.fixture(scope="module")
def written(make_clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    clip = make_clip(20, 15)
    clip.video.frames.uniform_()
    clip.audio.waveform.uniform_(-0.5, 0.5)
    return {suffix: write_clip(clip, folder / f"a{suffix}").path for suffix in (".mp4", ".webm", ".mkv")}


def test_info_as_json(written):
    info = probe(written[".mp4"])
    assert json.loads(json.dumps(info.as_json())) == {
        "container": "mp4",
        "seconds": pytest.approx(4 / 3),
        "width": 48,
        "height": 32,
        "fps": "15",
        "num_frames": 20,
        "video_codec": "h264",
        "audio_codec": "aac",
        "sample_rate": 44_100,
        "num_channels": 2,
        "num_samples": 58_800,
        "tags": {},
    }
    assert info.seconds == Fraction(4, 3)
    assert [probe(written[suffix]).container for suffix in (".webm", ".mkv")] == ["webm", "mkv"]


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".mkv"])
@pytest.mark.parametrize("kept", [0.01, 0.3, 0.6, 0.9, 0.99, -1])
def test_truncated_file(written, tmp_path, suffix, kept):
    data = written[suffix].read_bytes()
    length = len(data) - 1 if kept == -1 else int(len(data) * kept)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[:length])
    for read in (probe, read_clip):
        with pytest.raises(InputError, match=f"the file is truncated: got .* with {length} bytes; expected"):
            read(path)


def test_header_only_is_named(written, tmp_path):
    path = tmp_path / "stub.mkv"
    path.write_bytes(written[".mkv"].read_bytes()[:5])
    with pytest.raises(InputError, match=r"truncated|not a media file"):
        probe(path)


@pytest.mark.parametrize("name", ["a.mp4", "a.txt", "a.mkv"])
@pytest.mark.parametrize("content", [b"", b"just some words\n" * 200, bytes(range(256)) * 30])
def test_not_a_media_file(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a media file that can be read"):
        probe(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match=r"there is no such file: got .*gone\.mp4"):
        probe(tmp_path / "gone.mp4")
    with pytest.raises(InputError, match="this is a folder, not a media file"):
        read_clip(tmp_path)


def test_damaged_data_is_named(written, tmp_path):
    """All sizes right, but zeros where the coded picture was."""
    data = bytearray(written[".mp4"].read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = bytes(len(data) - start)
    (tmp_path / "a.mp4").write_bytes(data)
    with pytest.raises(InputError, match="or it is damaged: got"):
        probe(tmp_path / "a.mp4")


def test_reads_files_of_others(tmp_path):
    samples = (np.arange(-1000, 1000) * 16).astype("<i2")
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000)
        file.writeframes(samples.tobytes())
    clip = read_clip(tmp_path / "a.wav")
    assert clip.video is None and clip.audio.sample_rate == 8000
    assert np.array_equal(clip.audio.waveform[0].numpy() * 32768, samples)

    picture = np.random.default_rng(0).integers(0, 256, (20, 31, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    clip = read_clip(tmp_path / "a.png")
    assert clip.audio is None and np.array_equal((clip.video.frames[0] * 255).round().numpy(), picture)


def test_surround_sound_is_mixed_down_by_the_file_s_own_layout(tmp_path, caplog):
    """Side channels, not back ones, as the file says; a value of its own in each."""
    path = tmp_path / "a.mka"
    values = np.array([1000, 2000, 4000, 30_000, 8000, 12_000], np.int16)
    with av.open(str(path), "w", format="matroska") as output:
        stream = output.add_stream("flac", rate=48_000, layout="5.1(side)", format="s16")
        frame = av.AudioFrame.from_ndarray(np.tile(values, 4000)[None], format="s16", layout="5.1(side)")
        frame.sample_rate = 48_000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert (probe(path).num_channels, probe(path).num_samples) == (6, 4000)
    waveform = read_clip(path).audio.waveform
    assert waveform.shape == (2, 4000)
    half = 0.5**0.5
    wanted = np.array([1000 + half * 4000 + half * 8000, 2000 + half * 4000 + half * 12_000]) / 32_768
    assert np.allclose(waveform[:, 7].numpy(), wanted, atol=1e-6)
    assert "a.mka: The sound has 6 channels; they were mixed down to stereo" in caplog.text


def test_renamed_file_is_read_by_content(written, tmp_path):
    shutil.copy(written[".webm"], tmp_path / "a.mp4")
    assert probe(tmp_path / "a.mp4").container == "webm"
