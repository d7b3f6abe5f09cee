"""Training captions: real clips through a real server and through tiny real Qwen models, into a resumable list."""

from __future__ import annotations

import base64
import io
import json
import logging
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

    settings = {"read": read, "describer": ChatDescriber(backend, backend), "profile": "short"} | options
    return list(caption_files([{"file": name} for name in rows], output, backend=backend, **settings))


def test_a_list_is_written_and_a_second_run_goes_on(server, backend, clip, flawless, tmp_path, good_captions):
    output = tmp_path / "new" / "captions.jsonl"
    server.answers("seen", "seen", "heard", "heard", *flawless * 2)
    outcome = _run(["a.mp4", "broken.mp4", "b.mp4"], output, backend, clip)
    assert [(file, error and str(error)) for file, error in outcome] == [
        ("broken.mp4", "the file is broken: got broken.mp4."),
        ("a.mp4", None),
        ("b.mp4", None),
    ]
    rows = read_rows(output)
    assert [row["file"] for row in rows] == ["a.mp4", "b.mp4"]
    assert rows[0]["video_caption"] == good_captions["video"] and rows[0]["audio_raw_caption"] == "heard"
    wanted = ["a.mp4", "b.mp4"]
    for name in ("c.mp4", "d.mp4"):
        with output.open("a") as file:
            file.write(f'{{"file": "{name}", "video_ca')  # where the last run was killed
        wanted.append(name)
        server.answers("seen", "heard", *flawless)
        assert [file for file, _ in _run(wanted, output, backend, clip)] == [name]
    assert [json.loads(line)["file"] for line in output.read_text().splitlines()] == wanted


def test_raw_captions_that_are_given_are_used(server, backend, flawless, tmp_path):
    server.answers(*flawless)
    rows = [{"file": "a.mp4", "video_raw_caption": "seen", "audio_raw_caption": "heard"}, {"file": "b.mp4"}]
    settings = {"read": None, "describer": None, "backend": backend, "profile": "short"}
    outcome = list(caption_files(rows, tmp_path / "out.jsonl", **settings))
    assert outcome[1] == ("a.mp4", None)
    assert "the clip has no raw captions: got b.mp4" in str(outcome[0][1])


def test_processes_share_the_clips(server, backend, clip, flawless, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    names = [f"{index}.mp4" for index in range(5)]
    shares = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        server.answers(*["seen", "heard", *flawless] * 3)
        shares.append([file for file, _ in _run(names, tmp_path / f"{rank}.jsonl", backend, clip)])
    assert shares == [["0.mp4", "2.mp4", "4.mp4"], ["1.mp4", "3.mp4"]]


def test_processes_share_one_output_whenever_each_begins(server, backend, clip, flawless, tmp_path, monkeypatch):
    """The second begins when the first has written already: its share is still its own."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    names, output = [f"{letter}.mp4" for letter in "ABCD"], tmp_path / "captions.jsonl"
    shares = []
    for rank in ("0", "1", "0", "1"):
        monkeypatch.setenv("RANK", rank)
        server.answers(*["seen"] * 2, *["heard"] * 2, *flawless * 2)
        shares.append([file for file, _ in _run(names, output, backend, clip)])
    assert shares == [["A.mp4", "C.mp4"], ["B.mp4", "D.mp4"], [], []]
    assert sorted(row["file"] for row in read_rows(output)) == names


def test_a_clip_that_is_named_twice_is_captioned_once(server, backend, clip, flawless, tmp_path):
    server.answers("seen", "heard", *flawless)
    assert _run(["a.mp4", "a.mp4"], tmp_path / "out.jsonl", backend, clip) == [("a.mp4", None)]


def test_what_was_seen_and_heard_survives_a_stop(server, backend, clip, flawless, tmp_path):
    """Stopped while the writer works: the next run asks neither who looks nor who listens again."""
    output, names = tmp_path / "captions.jsonl", ["a.mp4", "b.mp4"]
    server.answers("seen a", "seen b", "heard a", "heard b", flawless[0], {"status": 401})
    outcome = _run(names, output, backend, clip)
    assert all("refused" in str(error) for _, error in outcome[:1]) and not output.exists()
    kept = read_rows(tmp_path / "captions.raw.jsonl")
    assert [list(row) for row in kept] == [["file", "video_raw_caption"]] * 2 + [["file", "audio_raw_caption"]] * 2
    server.requests.clear()
    server.answers(*flawless * 2)
    assert _run(names, output, backend, clip) == [("a.mp4", None), ("b.mp4", None)]
    assert len(server.requests) == 4
    assert [row["audio_raw_caption"] for row in read_rows(output)] == ["heard a", "heard b"]


class Watched:
    """Looks, listens and is closed, and notes in which order."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def see(self, clip, *, progress=None) -> str:
        self.calls.append("see")
        return "seen"

    def hear(self, clip, *, progress=None) -> str:
        self.calls.append("hear")
        return "heard"

    def close(self) -> None:
        self.calls.append("close")


def test_all_is_seen_then_all_is_heard_then_the_models_go_then_all_is_written(
    server, backend, clip, flawless, tmp_path
):
    watched, stages = Watched(), []

    def answer(text: str):
        return lambda body: watched.calls.append("write") or text

    server.answers(*map(answer, flawless * 2))
    progress = Progress(lambda stage, done, total, preview=None: stages.append((stage, done, total)))
    _run(["a.mp4", "b.mp4"], tmp_path / "out.jsonl", backend, clip, describer=watched, progress=progress)
    assert watched.calls == [*["see"] * 2, *["hear"] * 2, "close", *["write"] * 4]
    assert stages == [(stage, done, 2) for stage in ("looking", "listening", "caption") for done in (1, 2)]


def test_a_batch_loads_each_model_once(tiny_qwens, server, backend, clip, flawless, tmp_path, monkeypatch, caplog):
    from sounding_video.captions import qwen_describer

    monkeypatch.setattr(qwen_describer, "MAX_TOKENS", 6)
    monkeypatch.setattr(qwen_describer, "AUDIO_TOKENS", 6)
    describer = qwen_describer.QwenDescriber(*map(str, tiny_qwens), device="cpu")
    torch.manual_seed(0)
    server.answers(*flawless * 3)
    small = replace(clip, video=VideoClip(torch.rand(4, 56, 56, 3), Fraction(12)))
    with caplog.at_level(logging.INFO, qwen_describer.__name__):
        outcome = _run(["a", "b", "c"], tmp_path / "out.jsonl", backend, small, describer=describer)
    assert [error for _, error in outcome] == [None] * 3
    loaded = [record.getMessage().split()[1] for record in caplog.records if record.name == qwen_describer.__name__]
    assert loaded == ["vl", "audio"]
    assert describer._loaded is None, "the models are gone before the writer comes"


def test_each_process_looks_on_its_own_card(tiny_qwens, clip, monkeypatch):
    from sounding_video.captions import qwen_describer

    asked = []
    monkeypatch.setattr(qwen_describer, "resolve_device", lambda name: asked.append(name) or torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(qwen_describer, "MAX_TOKENS", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    describer = qwen_describer.QwenDescriber(*map(str, tiny_qwens), dtype="float32")
    describer.see(VideoClip(torch.rand(4, 56, 56, 3), Fraction(12)))
    describer.close()
    assert asked == ["cuda:2"]


def test_a_model_that_says_nothing_leaves_the_clip_out(server, backend, clip, tmp_path):
    server.answers({"content": None})
    ((_, error),) = _run(["a.mp4"], tmp_path / "out.jsonl", backend, clip)
    assert "said nothing" in str(error) and not (tmp_path / "out.raw.jsonl").exists()


def test_the_raw_mode_writes_what_was_seen_and_heard(server, backend, clip, tmp_path):
    server.answers("A loud red dog.", "A red bark.")
    assert _run(["a.mp4"], tmp_path / "out.jsonl", None, clip, describer=ChatDescriber(backend, backend), mode="raw")
    (row,) = read_rows(tmp_path / "out.jsonl")
    assert (row["video_caption"], row["audio_caption"]) == ("A loud red dog.", "A red bark.")
    assert row["anchors"] is None and row["report"]["mode"] == "raw"


def test_the_direct_mode_writes_without_anchors(server, backend, clip, flawless, tmp_path, good_captions):
    server.answers("a dog", "stones knocking", flawless[1])
    assert _run(["a.mp4"], tmp_path / "out.jsonl", backend, clip, mode="direct") == [("a.mp4", None)]
    (row,) = read_rows(tmp_path / "out.jsonl")
    assert row["video_caption"] == good_captions["video"] and row["anchors"] is None
    assert (row["report"]["mode"], row["report"]["attempts"]) == ("direct", {"rewriter": 1})
    question = server.requests[-1]["messages"][-1]["content"]
    assert "a dog" in question and "stones knocking" in question


@pytest.mark.parametrize(
    ("mode", "sentence"), [("shared", "unknown way of writing"), ("full", "needs a language model")]
)
def test_a_mode_that_cannot_be_is_refused(clip, tmp_path, mode, sentence):
    with pytest.raises(InputError, match=sentence):
        _run(["a.mp4"], tmp_path / "out.jsonl", None, clip, describer=None, mode=mode)
