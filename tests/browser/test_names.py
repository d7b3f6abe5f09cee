"""File names on the page: words filled in as for ComfyUI's own savers, and a bad name told once."""

from __future__ import annotations

import json
import time

import pytest

SMALL = {
    "T2SVLoadWanTower": {"video_model": "wan"},
    "T2SVLoadStableAudioTower": {"audio_model": "stable_audio"},
    "T2SVLoadBridge": {"bridge_file": "bridge.safetensors"},
    "T2SVEmptyAVLatent": {"width": 32, "height": 32, "num_frames": 9},
    "T2SVJointSampler": {"steps": 2, "seed": 42},
}

SENTENCE = "does not name a file inside the output folder"
SAID = f"document.body.innerText.includes('{SENTENCE}')"
SEE_ERRORS = "[...document.querySelectorAll('button')].find(each => each.innerText.trim() === 'See Errors')"


@pytest.fixture
def ids(page, root):
    """The pocket template on the page with the small random models: a node's id by its type."""
    page.load(json.loads((root / "workflows" / "text_to_sounding_video_pocket.json").read_text(encoding="utf-8")))
    found = {kind: node for node, kind in page.evaluate("() => window.app.graph._nodes.map(n => [n.id, n.type])")}
    for kind, values in SMALL.items():
        for name, value in values.items():
            page.set_widget(found[kind], name, value)
    return found


def test_words_are_filled_in_by_type_title_and_given_name(page, ids):
    page.evaluate(
        "([size, latent]) => { const node = id => window.app.graph.getNodeById(id); node(size).title = 'My size';"
        " node(latent).properties['Node name for S&R'] = 'Given'; }",
        [ids["T2SVEmptyAVLatent"], ids["T2SVJointSampler"]],
    )
    prefix = "take: 1/%date:yyyy%/%My size.width%x%T2SVEmptyAVLatent.num_frames% %Given.steps% %Nope.x%"
    page.set_widget(ids["T2SVMux"], "filename_prefix", prefix)
    page.run()
    (shown,) = page.shown_by(ids["T2SVMux"])["images"]
    assert shown["subfolder"] == f"take_ 1/{time.localtime().tm_year}"
    assert shown["filename"].startswith("32x9 2 %Nope.x%_0")
    page.view_node(ids["T2SVMux"])
    page.wait_for("[...document.querySelectorAll('video')].some(v => v.readyState >= 2)")
    page.shoot("words in a name")
    assert page.errors == []


def test_a_bad_name_is_one_error(page, ids):
    page.set_widget(ids["T2SVMux"], "filename_prefix", "../x")
    with page.page.expect_response(lambda answer: answer.url.endswith("/api/prompt")) as answered:
        page.queue()
    errors = answered.value.json()["node_errors"]
    assert list(errors) == [str(ids["T2SVMux"])] and len(errors[str(ids["T2SVMux"])]["errors"]) == 1
    # Pages of ComfyUI 0.18 say no more than "1 ERROR" until they are asked.
    page.wait_for(f"{SAID} || !!({SEE_ERRORS})")
    if not page.evaluate(SAID):
        page.evaluate(f"() => ({SEE_ERRORS}).click()")
    page.wait_for(SAID)
    page.page.wait_for_timeout(1000)
    page.shoot("a bad name")
    told = page.evaluate(f"document.body.innerText.split('{SENTENCE}').length - 1")
    assert told in (1, 2), "older pages say it above the list of errors too"
