"""Which captions ``generate`` makes its clips from, and what of that stands in the file."""

from __future__ import annotations

import json

import pytest
from sounding_video.captions.backends.lexicon import LexiconBackend
from sounding_video.captions.crr import MODES, expand
from sounding_video.media.probe import probe

PROMPT = "a dog barks at a gate"
SECRET = "sk-verysecret-0123456789"


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def test_generate_expands_what_is_not_given(generate, tmp_path):
    outcome = generate("a dog barks", "--audio-caption", "two barks", "--profile", "short", "--json")
    assert outcome.code == 0, outcome.err
    captions = json.loads(probe(tmp_path / "clip.mp4").tags["sounding_video"])["captions"]
    assert captions["audio"] == "two barks"
    assert "dog" in captions["video"] and "bark" not in captions["video"] and len(captions["video"].split()) > 15


def test_weights_in_captions_are_applied_and_told(generate, tmp_path):
    plain = generate("a red ball", "--no-expand", "--json")
    assert plain.json["caption_notes"] == []
    outcome = generate("a (red:1.5) ball", "--no-expand", "--seed", 0)
    assert "note: video caption: weights applied as ComfyUI does: “red” × 1.5." in outcome.err
    assert "note: audio caption: weights applied" in outcome.err
    captions = json.loads(probe(tmp_path / "clip.mp4").tags["sounding_video"])["captions"]
    assert captions["video"] == "a (red:1.5) ball", "the file makes the same clip again"


def test_generate_refuses_a_backend_without_work(generate):
    outcome = generate("a dog", "--no-expand", "--backend", "lexicon")
    assert outcome.code == 2 and "there is nothing to expand" in outcome.err


@pytest.fixture
def captions_with(generate, tmp_path):
    """The captions in the clip's tags."""

    def run(*options: object) -> dict[str, str]:
        outcome = generate(PROMPT, "--profile", "short", *options)
        assert outcome.code == 0, outcome.err
        return json.loads(probe(tmp_path / "clip.mp4").tags["sounding_video"])["captions"]

    return run


@pytest.mark.parametrize("mode", sorted(set(MODES) - {"full", "raw"}))
def test_the_modes_of_the_ablation_can_be_generated(captions_with, mode):
    wanted = expand(PROMPT, backend=LexiconBackend(), mode=mode, profile="short").captions
    assert captions_with("--mode", mode) == {"video": wanted.video, "audio": wanted.audio}


def test_parentheses_that_a_model_writes_weigh_nothing(captions_with, chat_server):
    chat_server.answers("A red dog (small).", "A bark (short).")
    options = ["--backend", "openai_server", "--server", chat_server.url]
    assert captions_with("--mode", "raw", *options) == {"video": r"A red dog \(small\).", "audio": r"A bark \(short\)."}


def test_raw_captions_come_from_a_language_model(captions_with, chat_server):
    chat_server.answers("A loud red dog.", "A red bark.")
    options = ["--backend", "openai_server", "--server", chat_server.url]
    assert captions_with("--mode", "raw", *options) == {"video": "A loud red dog.", "audio": "A red bark."}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--mode", "all", "--profile", "short"],
            "unknown expansion mode: got 'all'; expected one of off, shared, raw",
        ),
        (["--mode", "raw", "--profile", "short"], "'lexicon' has no raw captions"),
        (["--mode", "full", "--no-expand"], "--no-expand is the mode off"),
        (["--mode", "off", "--backend", "lexicon"], "there is nothing to expand"),
        (["--mode", "direct", "--video-caption", "a", "--audio-caption", "b"], "there is nothing to expand"),
    ],
)
def test_modes_that_cannot_be_are_refused_before_loading(generate, tmp_path, arguments, sentence):
    outcome = generate(PROMPT, *arguments)
    assert outcome.code == 2 and sentence in outcome.err and "loading" not in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_the_device_is_the_language_model_s_too(generate, monkeypatch):
    """A backend that has no device is not told of one."""
    from sounding_video.captions.backends.transformers_local import TransformersLocal
    from sounding_video.core.errors import CaptionError

    devices = []

    def complete(self, messages, **settings):
        devices.append(self._options.device)
        raise CaptionError("enough")

    monkeypatch.setattr(TransformersLocal, "complete", complete)
    options = ["--profile", "short", "--device", "cpu"]
    assert generate(PROMPT, *options).code == 0
    assert generate(PROMPT, *options, "--backend", "transformers_local").code == 1
    assert devices == ["cpu"]


def test_the_key_is_in_no_tag_and_no_byte_of_the_clip(command, chat_server, monkeypatch, tmp_path):
    """From the environment to the server and nowhere else."""
    made = expand(PROMPT, backend=LexiconBackend(), profile="short")
    captions = {"video": made.captions.video, "audio": made.captions.audio}
    chat_server.answers(made.anchors.to_json(), json.dumps(captions))
    monkeypatch.setenv("SOUNDING_VIDEO_LLM_KEY", SECRET)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET[::-1])
    options = ["--models", "pocket", "--frames", 5, "--size", "16x16", "--steps", 1, "--video-cfg", 1, "--audio-cfg", 1]
    options += ["--backend", "openai_server", "--server", chat_server.url, "--caption-model", "tiny"]
    outcome = command("generate", PROMPT, "-o", tmp_path / "clip.mp4", *options, "--verbose")
    assert outcome.code == 0, outcome.err
    assert [headers["Authorization"] for headers in chat_server.headers] == [f"Bearer {SECRET}"] * 2
    tags = probe(tmp_path / "clip.mp4").tags
    assert json.loads(tags["sounding_video"])["captions"] == captions
    assert set(tags) >= {"prompt", "workflow"}
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    for secret in (SECRET, SECRET[::-1]):
        assert secret not in json.dumps(dict(tags)) + outcome.out + outcome.err
        assert all(secret.encode() not in content for content in kept)
