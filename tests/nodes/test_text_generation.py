"""A CLIP that can write as the writer of captions: which question it gets, and what is refused with which sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sounding_video.captions.anchors import SemanticAnchors, from_json
from sounding_video.captions.backends.base import ChatBackend
from sounding_video.captions.backends.lexicon import LexiconBackend
from sounding_video.captions.crr import expand
from sounding_video.core.errors import CaptionError, InputError
from sounding_video.nodes.captions import EditAnchors, ExpandPrompt
from sounding_video.nodes.host.text_generation import FAMILIES, ComfyUIWriter, vocabulary_of

WRITER = {"backend": "lexicon", "profile": "short", "server": "", "model": ""}
TALK = [
    {"role": "system", "content": "Be (brief:1.2)."},
    {"role": "user", "content": "{hello}"},
    {"role": "assistant", "content": "hi"},
    {"role": "user", "content": "again"},
]


class Words:
    """A tokenizer that knows a family's marks, wrapped as ComfyUI wraps them."""

    def __init__(self, *words: str) -> None:
        self._words = words

    def get_vocab(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self._words)}


class Wrapped:
    def __init__(self, inner: Words) -> None:
        self.clip = "small"
        self.small = type("Tokenizer", (), {"tokenizer": inner})()


class WritingClip:
    """What a CLIP socket carries, as far as it is used: texts in, prepared answers out."""

    def __init__(self, *answers: str, words: tuple[str, ...] = ("<|im_start|>", "</think>")) -> None:
        self.answers, self.questions, self.settings = list(answers), [], []
        self.tokenizer = Wrapped(Words(*words))

    def tokenize(self, text: str, *, skip_template: bool, min_length: int, thinking: bool) -> dict:
        self.questions.append((text.replace(r"\(", "(").replace(r"\)", ")"), skip_template))
        assert "(" not in text.replace(r"\(", ""), "some of ComfyUI's tokenizers would read it as a weight"
        assert (min_length, thinking) == (1, False)
        return {"tokens": [[(1, 1.0)]]}

    def generate(self, tokens: dict, *, do_sample: bool, max_length: int, **settings: float) -> str:
        assert tokens == {"tokens": [[(1, 1.0)]]} and do_sample and max_length == 1536
        self.settings.append(settings)
        return self.answers.pop(0)

    def decode(self, ids: str) -> str:
        return ids


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def anchors() -> SemanticAnchors:
    return LexiconBackend().check("a dog barks").anchors


@pytest.fixture(scope="module")
def captions() -> str:
    made = expand("a dog barks", backend=LexiconBackend(), profile="short").captions
    return json.dumps({"video": made.video, "audio": made.audio})


def test_it_is_a_chat_backend():
    assert isinstance(ComfyUIWriter(WritingClip()), ChatBackend)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ("<|im_start|>", "</think>"),
            "<|im_start|>system\nBe (brief:1.2).<|im_end|>\n<|im_start|>user\n{hello}<|im_end|>\n"
            "<|im_start|>assistant\nhi<|im_end|>\n<|im_start|>user\nagain<|im_end|>\n<|im_start|>assistant\n"
            "<think>\n\n</think>\n\n",
        ),
        (
            ("<start_of_turn>",),
            "<start_of_turn>system\nBe (brief:1.2).<end_of_turn>\n<start_of_turn>user\n{hello}<end_of_turn>\n"
            "<start_of_turn>model\nhi<end_of_turn>\n<start_of_turn>user\nagain<end_of_turn>\n<start_of_turn>model\n",
        ),
        (
            ("<|turn>",),
            "<|turn>system\nBe (brief:1.2).<turn|>\n<|turn>user\n{hello}<turn|>\n<|turn>model\nhi<turn|>\n"
            "<|turn>user\nagain<turn|>\n<|turn>model\n<|channel>final\n",
        ),
    ],
)
def test_a_conversation_is_marked_as_the_models_family_does_it(words, expected):
    clip = WritingClip("fine", words=words)
    assert ComfyUIWriter(clip).complete(TALK) == "fine"
    assert clip.questions == [(expected, True)]
    assert clip.settings[0]["temperature"] == 0.1 and clip.settings[0]["seed"] == 0


def test_a_model_of_another_family_gets_one_turn_in_its_own_form():
    clip = WritingClip("fine", words=("[INST]",))
    ComfyUIWriter(clip).complete(TALK)
    ((text, is_whole),) = clip.questions
    assert not is_whole and text.startswith("SYSTEM:\nBe (brief:1.2).") and text.endswith("ASSISTANT:")
    assert not any(family.mark in text for family in FAMILIES)


def test_expand_prompt_writes_through_the_connected_clip(anchors, captions):
    thoughtful = f"<think>hm</think>Sure:\n```json\n{anchors.to_json()}\n```"
    clip = WritingClip(thoughtful, captions)
    video, audio, found, report = ExpandPrompt.execute(prompt="ein Hund bellt", mode="full", clip=clip, **WRITER).result
    assert from_json(found) == anchors
    assert "dog" in video and "bark" in audio
    assert json.loads(report)["backend"] == "comfyui WritingClip"
    assert "ein Hund bellt" in clip.questions[0][0]


def test_a_broken_answer_is_asked_for_again_and_nothing_is_cached(anchors, captions, tmp_path):
    for _ in range(2):
        clip = WritingClip('{"entities": [', anchors.to_json(), captions)
        made = ExpandPrompt.execute(prompt="a dog barks", mode="full", clip=clip, **WRITER)
        assert json.loads(made.result[3])["attempts"] == {"checker": 2, "rewriter": 1}
        assert "broken or cut off" in clip.questions[1][0]
    assert not list(Path(tmp_path).rglob("*.json"))


def test_a_model_that_never_answers_in_form_ends_with_a_sentence():
    with pytest.raises(CaptionError, match="no usable answer in 3 attempts"):
        ExpandPrompt.execute(prompt="a dog", mode="full", clip=WritingClip("no", "no", "no"), **WRITER)


def test_edit_anchors_writes_through_it_too(anchors, captions):
    made = EditAnchors.execute(anchors=anchors.to_json(), clip=WritingClip(captions), **WRITER)
    assert json.loads(made.result[2])["backend"] == "comfyui WritingClip"


class EncodingClip(WritingClip):
    """A text encoder: ComfyUI hands ``generate`` on to a model that has none."""

    def generate(self, tokens: dict, **settings: float) -> str:
        raise AttributeError("'T5' object has no attribute 'generate'")


def test_a_clip_that_only_encodes_is_refused():
    with pytest.raises(InputError, match="this CLIP cannot write texts"):
        ExpandPrompt.execute(prompt="a dog", mode="full", clip=EncodingClip("x"), **WRITER)


def test_another_fault_of_the_model_is_not_called_that():
    class Broken(WritingClip):
        def generate(self, tokens: dict, **settings: float) -> str:
            raise AttributeError("'NoneType' object has no attribute 'shape'")

    with pytest.raises(AttributeError, match="shape"):
        ComfyUIWriter(Broken("x")).complete(TALK)


def test_an_older_comfyui_is_told():
    with pytest.raises(InputError, match=r"this ComfyUI cannot write texts with a CLIP.*0\.15 or newer"):
        ExpandPrompt.execute(prompt="a dog", mode="full", clip=object(), **WRITER)


def test_a_tokenizer_that_does_not_say_its_words_has_none():
    assert vocabulary_of(object()) == {}
    assert set(vocabulary_of(WritingClip())) == {"<|im_start|>", "</think>"}
