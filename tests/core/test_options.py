"""A setting that is declared once is found wherever settings are: nodes, command line, tags, languages."""

from __future__ import annotations

import argparse
import dataclasses
import json
from dataclasses import asdict, dataclass

import pytest
from sounding_video.cli.options import add_sampling_options, sampling_options
from sounding_video.core.errors import InputError
from sounding_video.core.options import check_options, option, settings_of
from sounding_video.models.own import PUBLISHED
from sounding_video.nodes.native import NativeSampler
from sounding_video.nodes.options import SAMPLING
from sounding_video.nodes.sampling import JointSampler
from sounding_video.sampling.options import SamplingOptions

SETTINGS = settings_of(SamplingOptions)
EVERY = pytest.mark.parametrize("name", SETTINGS)


def test_every_field_is_a_declared_option():
    assert list(SETTINGS) == [field.name for field in dataclasses.fields(SamplingOptions)]
    assert SAMPLING == SETTINGS


@EVERY
def test_both_samplers_have_it_with_its_default_and_range(name):
    setting = SETTINGS[name]
    for node in (JointSampler, NativeSampler):
        ports = {port.id: port for port in node.GET_SCHEMA().inputs}
        if name == "guidance_batching" and node is NativeSampler:
            continue  # both passes always run one after the other there; the input would be a lie, and never existed
        if name == "compile" and node is NativeSampler:
            assert name not in ports  # ComfyUI's own node compiles its own models
            continue
        port = ports[setting.port].options
        assert port["default"] == setting.default
        if setting.option.choices:
            assert port["options"] == list(setting.option.choices())
        elif setting.is_switch:
            assert not {"min", "max"} & set(port)
        else:
            assert (port["min"], port["max"]) == (setting.option.low, setting.option.high)


@EVERY
@pytest.mark.parametrize("language", ["en", "zh", "ja", "de", "fr", "es"])
def test_every_language_has_words_for_it(root, name, language):
    spoken = json.loads((root / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    assert spoken["T2SVJointSampler"]["inputs"][SETTINGS[name].port]["tooltip"]


@EVERY
def test_the_command_line_sets_it(name):
    setting = SETTINGS[name]
    parser = argparse.ArgumentParser()
    add_sampling_options(parser.add_argument)
    declared = setting.option
    if setting.is_switch:
        value = not setting.default
    elif declared.choices:
        value = next(word for word in declared.choices() if word != setting.default)
    elif isinstance(setting.default, int):
        value = setting.default + 1
    else:
        value = 0.5
    value = {"modality_start": 0.25, "guidance_start": 0.25, "solver": "euler"}.get(name, value)
    words = [f"--{setting.flag}", *([] if setting.is_switch else [str(value)])]
    made = sampling_options(parser.parse_args(words), PUBLISHED)
    assert getattr(made, name) == value
    assert asdict(made) == {**asdict(SamplingOptions()), name: value}
    assert declared.text[1:10] in " ".join(parser.format_help().split())


@dataclass(frozen=True)
class Knobs:
    volume: float = option(1.0, "How loud.", low=0.0, high=11.0)
    count: int = option(3, "How many.", low=1, high=9)
    loud: bool = option(False, "Whether.")
    colour: str = option("red", "Which.", choices=lambda: ("red", "blue"))
    __post_init__ = check_options


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"volume": 12.0}, "the volume cannot be used: got 12.0; expected a number from 0 to 11"),
        ({"volume": float("nan")}, "the volume cannot be used: got nan"),
        ({"volume": True}, "the volume cannot be used: got True"),
        ({"volume": "loud"}, "the volume cannot be used: got 'loud'"),
        ({"count": 0}, "the count cannot be used: got 0; expected a whole number from 1 to 9"),
        ({"count": 2.0}, "the count cannot be used: got 2.0; expected a whole number"),
        ({"loud": 1}, "the loud cannot be used: got 1; expected true or false"),
        ({"loud": "yes"}, "the loud cannot be used: got 'yes'; expected true or false"),
        ({"colour": "green"}, "unknown colour: got 'green'; expected one of red, blue"),
    ],
)
def test_what_is_out_of_range_is_one_sentence(values, sentence):
    with pytest.raises(InputError) as caught:
        Knobs(**values)
    assert sentence in str(caught.value)


def test_whole_numbers_serve_as_numbers():
    assert Knobs(volume=7).volume == 7


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"guidance_start": 0.8, "guidance_end": 0.2}, "the interval of the guidance cannot be used"),
        ({"unconditional": "alone", "audio_modality_scale": 3.0}, "already contains modality guidance"),
    ],
)
def test_options_that_exclude_each_other_are_refused(values, sentence):
    with pytest.raises(InputError, match=sentence):
        SamplingOptions(**values)


def test_a_scale_that_cannot_act_is_told():
    options = SamplingOptions(audio_modality_scale=3.0)
    assert options.deaf(frozenset({"video", "audio"})) == ""
    assert "audio_modality_scale 3 cannot act" in options.deaf(frozenset({"video"}))
    assert options.guidance(frozenset({"video"})).passes("audio") == options.guidance(frozenset()).passes("audio")
