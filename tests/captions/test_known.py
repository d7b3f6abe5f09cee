"""What a model of ten scenes cannot know is said; what it knows is not."""

from __future__ import annotations

import pytest
from sounding_video.captions.backends.lexicon import LexiconBackend
from sounding_video.captions.crr import expand
from sounding_video.captions.known import known_scenes, strangers, unknown_to_model
from sounding_video.core.clock import Timeline
from sounding_video.core.types import Captions
from sounding_video.world.scenes import SCENES
from sounding_video.world.synth import make_clip

SCENES_KNOWN = [(scene.known_as, scene.told_by) for scene in map(SCENES.get, SCENES.names())]
BACKEND = LexiconBackend()


def told(prompt: str) -> str:
    return unknown_to_model(expand(prompt, backend=BACKEND, profile="short").captions, SCENES_KNOWN)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("scene", SCENES.names())
def test_every_scene_is_known_by_its_captions_and_its_prompt(scene, split):
    for seed in range(6):
        clip = make_clip(scene, seed, timeline=Timeline(5, 15, 16, 16), split=split)
        assert unknown_to_model(clip.captions, SCENES_KNOWN) == "", clip.captions
        assert unknown_to_model(Captions(clip.prompt, clip.prompt), SCENES_KNOWN) == "", clip.prompt
        assert SCENES.get(scene).known_as in known_scenes(clip.prompt, SCENES_KNOWN)
        assert told(clip.prompt) == "", clip.prompt


@pytest.mark.parametrize(
    "prompt",
    [
        "a dog barks on the beach",
        "a woman sings in a church",
        "waves break on the shore",
        "a glass falls and shatters",
        "a door slams",
        "a bird sings in a tree",
    ],
)
def test_what_is_in_no_scene_cannot_be_known(prompt):
    sentence = told(prompt)
    assert sentence.startswith("This model cannot know what is asked for: it knows ten scenes: ")
    assert all(known in sentence for known, _ in SCENES_KNOWN)


def test_a_stranger_beside_something_known_is_named():
    sentence = told("a dog barks while a red ball bounces")
    assert sentence.startswith("This model does not know: dog; it knows ten scenes")
    assert strangers("two cats and a clock", SCENES_KNOWN) == ["cats"]


def test_weights_and_tags_hide_nothing():
    assert unknown_to_model(Captions("a (dog:1.3) barks", "a bark"), SCENES_KNOWN)
    assert unknown_to_model(Captions("a (red:1.3) ball", "a thud"), SCENES_KNOWN) == ""
    assert unknown_to_model(Captions("a dog <lora:ball:1>", "a bark"), SCENES_KNOWN), "a tag's name is no ball"


@pytest.mark.parametrize("text", ["犬がビーチで吠える", "ein Hund bellt am Strand und die Wellen rauschen laut"])
def test_another_language_is_not_judged(text):
    assert unknown_to_model(Captions(text, text), SCENES_KNOWN).startswith(
        "This model reads English only, and it knows"
    )


def test_a_model_of_anything_and_an_empty_text_are_told_nothing():
    assert unknown_to_model(Captions("a dog barks", "a bark"), ()) == ""
    assert unknown_to_model(Captions("", " "), SCENES_KNOWN) == ""
