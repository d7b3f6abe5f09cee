"""Training captions: real clips through a real server and through tiny real Qwen models, into a resumable list."""

from __future__ import annotations

import base64
import io
import json
import wave
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from PIL import Image
from sounding_video.captions.backends import make_backend
from sounding_video.captions.backends.base import BackendOptions
from sounding_video.captions.media_captioner import (
    ChatDescriber,
    RawCaptions,
    caption_files,
    describe,
    read_rows,
    sampled_frames,
    verified_captions,
)
from sounding_video.core.errors import Cancelled, InputError, MissingModelError
from sounding_video.core.progress import Progress
from sounding_video.core.types import AudioClip, AVClip, VideoClip


@pytest.fixture
def clip() -> AVClip:
    frames = torch.linspace(0, 1, 24).view(24, 1, 1, 1).expand(24, 32, 48, 3).clone()
    wave_form = torch.stack([torch.linspace(-1, 1, 800), torch.zeros(800)])
    return AVClip(VideoClip(frames, Fraction(12)), AudioClip(wave_form, 8000))


@pytest.fixture
def backend(server):
    made = make_backend("openai_server", BackendOptions(server=server.url, model="tiny"))
    made.backoff_seconds = 0.01
    return made


def test_frames_and_sound_reach_the_models(server, backend, clip):
    server.answers("A picture  that grows\nbright.", "A rising tone.")
    raw = describe(clip, ChatDescriber(backend, backend))
    assert raw == RawCaptions("A picture that grows bright.", "A rising tone.")
    seen, heard = (request["messages"][-1]["content"] for request in server.requests)
    pictures = [part["image_url"]["url"] for part in seen if part["type"] == "image_url"]
    assert len(pictures) == 16
    images = [Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) for url in pictures]
    assert {image.size for image in images} == {(48, 32)}
    assert images[0].getpixel((3, 3))[0] < 5 and images[-1].getpixel((3, 3))[0] > 250, "first and last frame"
    sound = next(part["input_audio"] for part in heard if part["type"] == "input_audio")
    with wave.open(io.BytesIO(base64.b64decode(sound["data"]))) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes(), file.getsampwidth()) == (2, 8000, 800, 2)
        values = torch.frombuffer(bytearray(file.readframes(800)), dtype=torch.int16).view(800, 2)
    assert values[0].tolist() == [-32767, 0] and values[-1].tolist() == [32767, 0]


def test_qwen_models_on_this_machine_look_and_listen(tiny_qwens, clip, stop_after, monkeypatch):
    """Real classes and processors with random weights: what they say means nothing, but the whole way is walked."""
    from sounding_video.captions import qwen_describer

    monkeypatch.setattr(qwen_describer, "MAX_TOKENS", 6)
    monkeypatch.setattr(qwen_describer, "AUDIO_TOKENS", 6)
    describer = qwen_describer.QwenDescriber(*map(str, tiny_qwens), device="cpu")
    torch.manual_seed(0)
    raw = describe(replace(clip, video=VideoClip(torch.rand(6, 56, 84, 3), Fraction(12))), describer)
    assert raw.video and raw.audio and raw.video != raw.audio
    assert "Describe" not in raw.video + raw.audio, "the question is not part of the answer"
    with pytest.raises(Cancelled):
        describer.hear(clip.audio, progress=Progress(check_cancelled=stop_after(0)))
    describer.close()
    absent = qwen_describer.QwenDescriber("no/such/model", device="cpu")
    with pytest.raises(MissingModelError, match="the captioning model cannot be loaded: got no/such/model"):
        absent.see(clip.video)


def test_large_frames_are_made_smaller():
    frames = sampled_frames(VideoClip(torch.rand(3, 480, 832, 3), Fraction(15)))
    assert frames.dtype == torch.uint8 and tuple(frames.shape) == (3, 258, 448, 3)


def test_a_clip_without_sound_is_refused(clip, backend):
    with pytest.raises(InputError, match="the clip has no sound"):
        describe(replace(clip, audio=None), ChatDescriber(backend, backend))


def test_the_checker_compares_and_the_rewriter_does_not_see_what_it_dropped(server, backend, anchors, good_captions):
    kept = replace(anchors, discarded=("stones knocking",))
    server.answers(kept.to_json(), json.dumps(good_captions))
    made = verified_captions(RawCaptions("a dog", "stones knocking"), backend=backend, profile="short")
    assert made.anchors == kept and made.report.mode == "training"
    assert made.report.attempts == (("checker", 1), ("rewriter", 1))
    assert "stones" in json.dumps(server.requests[0]) and "stones" not in json.dumps(server.requests[1])


@pytest.fixture
def flawless(anchors, good_captions) -> list[str]:
    return [anchors.to_json(), json.dumps(good_captions)]


def _run(rows, output, backend, clip, **options):
    def read(file: str) -> AVClip:
        if file == "broken.mp4":
            raise InputError("the file is broken", got=file)
        return clip

    settings = {"read": read, "describer": ChatDescriber(backend, backend), "profile": "short", **options}
    return list(caption_files([{"file": name} for name in rows], output, backend=backend, **settings))


def test_a_list_is_written_and_a_second_run_goes_on(server, backend, clip, flawless, tmp_path, good_captions):
    output = tmp_path / "new" / "captions.jsonl"
    server.answers(*["seen", "heard", *flawless] * 2)
    outcome = _run(["a.mp4", "broken.mp4", "b.mp4"], output, backend, clip)
    assert [(file, error and str(error)) for file, error in outcome] == [
        ("a.mp4", None),
        ("broken.mp4", "the file is broken: got broken.mp4."),
        ("b.mp4", None),
    ]
    rows = read_rows(output)
    assert [row["file"] for row in rows] == ["a.mp4", "b.mp4"]
    assert rows[0]["video_caption"] == good_captions["video"] and rows[0]["audio_raw_caption"] == "heard"
    with output.open("a") as file:
        file.write('{"file": "c.mp4", "video_ca')  # where the last run was killed
    server.answers("seen", "heard", *flawless)
    assert [file for file, _ in _run(["a.mp4", "b.mp4", "c.mp4"], output, backend, clip)] == ["c.mp4"]
    lines = output.read_text().splitlines()
    assert len(lines) == 4 and json.loads(lines[3])["file"] == "c.mp4"


def test_raw_captions_that_are_given_are_used(server, backend, flawless, tmp_path):
    server.answers(*flawless)
    rows = [{"file": "a.mp4", "video_raw_caption": "seen", "audio_raw_caption": "heard"}, {"file": "b.mp4"}]
    settings = {"read": None, "describer": None, "backend": backend, "profile": "short"}
    outcome = list(caption_files(rows, tmp_path / "out.jsonl", **settings))
    assert outcome[0] == ("a.mp4", None)
    assert "the clip has no raw captions: got b.mp4" in str(outcome[1][1])


def test_processes_share_the_clips(server, backend, clip, flawless, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    names = [f"{index}.mp4" for index in range(5)]
    shares = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        server.answers(*["seen", "heard", *flawless] * 3)
        shares.append([file for file, _ in _run(names, tmp_path / f"{rank}.jsonl", backend, clip)])
    assert shares == [["0.mp4", "2.mp4", "4.mp4"], ["1.mp4", "3.mp4"]]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("nonsense\n{}", "a line is not JSON"), ("[1]\n", "names no file"), ('{"file": 3}\n', "names no file")],
)
def test_a_list_that_cannot_be_used(tmp_path, text, sentence):
    (tmp_path / "list.jsonl").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_rows(tmp_path / "list.jsonl")
    with pytest.raises(InputError, match="the list of clips cannot be read"):
        read_rows(tmp_path / "absent.jsonl")


def test_the_command_captions_real_files(server, clip, flawless, tmp_path, capsys, good_captions):
    """From files on disk to a manifest that names them relative to itself."""
    from sounding_video.cli import main
    from sounding_video.media.mux import write_clip

    (tmp_path / "clips").mkdir()
    write_clip(clip, tmp_path / "clips" / "one.mkv")
    (tmp_path / "clips" / "two.mp4").write_bytes(b"no video")
    server.answers("seen", "heard", *flawless)
    options = ["--looking", "server", "--backend", "openai_server", "--server", server.url, "--model", "tiny"]
    arguments = ["caption", str(tmp_path / "clips"), "-o", str(tmp_path / "list.jsonl"), "--profile", "short", "--json"]
    assert main([*arguments, *options]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert report["captioned"] == 1 and list(report["left_out"]) == ["clips/two.mp4"]
    assert "clips/two.mp4: " in said.err
    (row,) = read_rows(tmp_path / "list.jsonl")
    assert row["file"] == "clips/one.mkv" and row["audio_caption"] == good_captions["audio"]
    assert main([*arguments, *options]) == 0
    assert json.loads(capsys.readouterr().out)["already_there"] == 1
