"""Names that results get: words filled in as the page's own savers do, characters that Windows forbids, one error."""

from __future__ import annotations

import time
from pathlib import PurePosixPath
from types import SimpleNamespace

import pytest
from sounding_video.core.errors import OutputError
from sounding_video.headless.refusal import refusal
from sounding_video.nodes.host import prefixes
from sounding_video.nodes.host.common import check_prefix
from sounding_video.nodes.host.prefixes import filled_prefix, safe_path
from sounding_video.nodes.output import Mux

PROMPT = {
    "1": {
        "class_type": "T2SVJointSampler",
        "inputs": {"seed": 42, "cfg": 7.0, "half": 0.5, "on": True, "model": ["4", 0]},
    },
    "2": {
        "class_type": "T2SVEncodeCaptions",
        "inputs": {"video_caption": "a dog: barks/loudly\n?", "a": "", "b": None},
    },
    "3": {"class_type": "T2SVJointSampler", "inputs": {"seed": 7}, "_meta": {"title": "Second v1.5"}},
    "4": {"class_type": "PrimitiveInt", "inputs": {"value": 11}, "_meta": {"title": "AV Steps"}},
    "5": {"class_type": "Two", "inputs": {"x": 1, "y": 2}},
    "6": {"class_type": "Reader", "inputs": {"steps": ["4", 0], "odd": ["5", 0], "gone": ["99", 0]}},
}
WORKFLOW = {
    "nodes": [
        {"id": 5, "type": "Two", "title": "Twins", "properties": {"Node name for S&R": "Both"}},
        {"id": 3, "type": "T2SVJointSampler", "properties": {}},
    ]
}
HIDDEN = SimpleNamespace(prompt=PROMPT, extra_pnginfo={"workflow": WORKFLOW})


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """It is five past nine on the third of February 2026."""
    moment = time.struct_time((2026, 2, 3, 9, 5, 7, 1, 34, 0))
    monkeypatch.setattr(prefixes.time, "localtime", lambda: moment)


def name(prefix: str, hidden: object = HIDDEN) -> str:
    check_prefix(prefix)
    return filled_prefix(prefix, width=832, height=480, hidden=hidden)


@pytest.mark.parametrize(
    ("prefix", "wanted"),
    [
        ("a/%width%x%height%/clip", "a/832x480/clip"),
        ("%year%-%month%-%day%_%hour%%minute%%second%", "2026-02-03_090507"),
        ("%date:yyyy-MM-dd%", "2026-02-03"),
        ("%date:d.M.yy% %date:h-m-s%", "3.2.26 9-5-7"),
        ("%date:yyyy/MM/dd%/clip", "2026/02/03/clip"),
        ("%date:hh:mm:ss%", "09_05_07"),
        ("%date:yyy y%_%date%", "yyy y_%date%"),
        ("x%date:%y", "xy"),
        ("100% %date:yyyy%", "100% 2026"),
    ],
)
def test_sizes_and_dates(prefix, wanted):
    assert name(prefix) == name(prefix, hidden=None) == wanted


@pytest.mark.parametrize(
    ("prefix", "wanted"),
    [
        ("s%T2SVJointSampler.seed%", "s42"),  # the first of its type
        ("s%Second v1.5.seed%", "s7"),  # by title, a dot in it
        ("%T2SVJointSampler.cfg%_%T2SVJointSampler.half%_%T2SVJointSampler.on%", "7_0.5_true"),
        ("%T2SVEncodeCaptions.video_caption%", "a dog_ barks_loudly__"),
        ("x/%T2SVEncodeCaptions.a%/y", "x/y"),
        ("x/%T2SVEncodeCaptions.a%", "x/_"),
        ("%Both.x%%Twins.y%", "12"),  # the page's name for it, and its title
        ("%AV Steps.value%", "11"),
        ("%Reader.steps%", "11"),  # through a link to a primitive
        ("%Reader.odd%-%Reader.gone%", "%Reader.odd%-%Reader.gone%"),
        ("%Nope.x%", "%Nope.x%"),
        ("%T2SVJointSampler.nope%_%T2SVJointSampler.model%", "%T2SVJointSampler.nope%_11"),
        ("%T2SVJointSampler.seed%/%date:yyyy%/%width%", "42/2026/832"),
    ],
)
def test_inputs_of_other_nodes(prefix, wanted):
    assert name(prefix) == wanted


def test_without_a_workflow_inputs_stay_as_they_are():
    for hidden in (None, SimpleNamespace(prompt=None, extra_pnginfo=None), SimpleNamespace()):
        assert name("%T2SVJointSampler.seed%", hidden) == "%T2SVJointSampler.seed%"


@pytest.mark.parametrize(
    ("prefix", "wanted"),
    [
        ("take 1: dog", "take 1_ dog"),
        ("a:b", "a_b"),
        ('a<b>c"d|e?f*g', "a_b_c_d_e_f_g"),
        ("tab\there\x7f", "tab_here_"),
        ("folder./clip. ", "folder_/clip_"),
        ("con/NUL.txt/com1/clip", "con_/NUL_.txt/com1_/clip"),
        ("console/company", "console/company"),
        ("a\\b\\clip", "a/b/clip"),
        ("a//./b", "a/b"),
        ("犬/größe", "犬/größe"),
    ],
)
def test_what_windows_forbids_is_replaced(prefix, wanted):
    assert name(prefix) == wanted
    assert safe_path(PurePosixPath(prefix.replace("\\", "/"))).as_posix() == wanted


def test_a_value_can_neither_leave_the_folder_nor_be_too_long():
    odd = {
        "1": {"class_type": "N", "inputs": {"up": "..", "long": "ü" * 4000, "root": "/etc/passwd", "drive": "C:\\x"}}
    }
    hidden = SimpleNamespace(prompt=odd, extra_pnginfo=None)
    assert name("a/%N.up%/b", hidden) == "a/_/b"
    assert name("%N.root%%N.drive%", hidden) == "_etc_passwdC__x"
    assert name("x/%N.long%", hidden) == "x/" + "ü" * 100


@pytest.mark.parametrize(
    "prefix", ["", "../x", "a/../../x", "..\\x", "/x", "\\x", "C:\\x", "C:/x", "a/", "a\\", "a\0b"]
)
def test_what_leaves_the_folder_is_still_refused(prefix):
    with pytest.raises(OutputError):
        check_prefix(prefix)


def test_the_two_hosts_refuse_once_in_one_sentence():
    verdict = Mux.validate_inputs(filename_prefix="../x", format="mp4", writer="pyav", codec="auto", quality=-1)
    fault = {"type": "exception_during_validation", "message": "Exception when validating node", "details": verdict}
    answer = {"error": {}, "node_errors": {"9": {"class_type": "T2SVMux", "errors": [{**fault, "extra_info": {}}]}}}
    assert refusal(answer, {}).startswith("node 9 (T2SVMux): the file name prefix does not name a file inside")
