"""``run`` with everything that people have: saved workflows, requests, and its own results."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from sounding_video.media.probe import probe, read_clip

SMALL = {
    1: {0: "wan"},
    2: {0: "stable_audio"},
    3: {0: "bridge.safetensors"},
    5: {0: 32, 1: 32, 2: 5},
    7: {2: 2, 7: "sequential"},  # auto depends on how much memory the machine has free, and rounds differently
    8: {1: "off"},
}


@pytest.fixture
def page(root):
    """The pocket template as the page saves it, turned to the small models by its widgets."""
    page = json.loads((root / "workflows" / "text_to_sounding_video_pocket.json").read_text(encoding="utf-8"))
    for node in page["nodes"]:
        for index, value in SMALL.get(node["id"], {}).items():
            node["widgets_values"][index] = value
    return page


@pytest.fixture
def run(command, small_models_dir, tmp_path):
    def call(content, *arguments):
        path = content
        if isinstance(content, dict):
            path = tmp_path / "given.json"
            path.write_text(json.dumps(content), encoding="utf-8-sig")
        return command(
            "run", path, "--models", small_models_dir, "--output-dir", tmp_path / "out", "--json", *arguments
        )

    return call


def file_of(outcome):
    assert outcome.code == 0, outcome.out + outcome.err
    (name,) = outcome.json["files"]
    return name


def test_a_saved_workflow_runs_and_stays_in_its_result(run, page):
    tags = probe(file_of(run(page))).tags
    assert json.loads(tags["workflow"]) == page
    assert json.loads(tags["prompt"])["7"]["inputs"]["steps"] == 2


def test_set_reaches_a_saved_workflow(run, page):
    tags = probe(file_of(run(page, "--set", "T2SVJointSampler.steps=3", "--set", "AV Mux.format=mkv"))).tags
    assert json.loads(tags["prompt"])["7"]["inputs"]["steps"] == 3
    sampler = next(node for node in json.loads(tags["workflow"])["nodes"] if node["type"] == "T2SVJointSampler")
    assert sampler["widgets_values"][2] == 3, "the page's workflow must say what was run"
    outcome = run(page, "--set", "Sampler.steps=3")
    assert outcome.code == 2
    assert "7 (T2SVJointSampler)" in outcome.json["error"]["expected"]


def test_the_own_result_runs_again(run, page):
    first = file_of(run(page))
    again = file_of(run(first))
    assert again != first
    assert probe(again).tags == probe(first).tags
    assert (read_clip(again).video.frames == read_clip(first).video.frames).all()
    changed = file_of(run(first, "--set", "7.seed=8"))
    assert (read_clip(changed).video.frames != read_clip(first).video.frames).any()


def test_a_request_runs_and_keeps_its_workflow(run, page, root):
    from sounding_video.headless.workflow_file import to_prompt, understood

    prompt = to_prompt(understood(page)).graph
    prompt["7"]["inputs"]["steps"] = "2"
    prompt["5"]["inputs"]["num_frames"] = 5.0
    request = {"prompt": prompt, "extra_data": {"extra_pnginfo": {"workflow": page}}}
    assert json.loads(probe(file_of(run(request))).tags["workflow"]) == page


def test_no_metadata_on_request(run, page):
    file = file_of(run(page, "--no-metadata"))
    assert not {"prompt", "workflow"} & set(probe(file).tags)
    outcome = run(file)
    assert outcome.code == 2 and "the file holds no workflow" in outcome.json["error"]["message"]


def test_a_sync_report_runs_again(run, page):
    page["nodes"].append(
        {
            "id": 20, "type": "T2SVSyncReport", "mode": 0, "pos": [0, 0], "size": [1, 1], "outputs": [],
            "inputs": [
                {"name": "images", "type": "IMAGE", "link": 90},
                {"name": "audio", "type": "AUDIO", "link": 91},
            ],
            "widgets_values": [15.0, "report", 400],
        }
    )  # fmt: skip
    page["nodes"] = [node for node in page["nodes"] if node["type"] != "T2SVMux"]
    page["links"] += [[90, 8, 0, 20, 0, "IMAGE"], [91, 8, 1, 20, 1, "AUDIO"]]
    first = file_of(run(page))
    assert first.endswith(".png")
    again = file_of(run(first))
    with Image.open(first) as one, Image.open(again) as two:
        assert one.tobytes() == two.tobytes() and one.text["prompt"] == two.text["prompt"]


def test_what_hangs_on_a_muted_tower_is_told(run, page):
    page["nodes"] = [{**node, "mode": 2 if node["id"] == 2 else 0} for node in page["nodes"]]
    outcome = run(page)
    assert outcome.code == 2
    assert "input audio_tower: it hangs on node 2 (T2SVLoadStableAudioTower), which is muted" in outcome.err


def test_values_in_too_many_levels_are_a_sentence(run, page):
    deep = 1
    for _ in range(900):
        deep = [deep]
    page["nodes"][6]["widgets_values"][0] = deep
    outcome = run(page)
    assert outcome.code == 2 and "nested deeper than 100 levels" in outcome.json["error"]["message"]
