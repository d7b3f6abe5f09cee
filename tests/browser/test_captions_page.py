"""The caption panels on the page: who acts is chosen, boxes say what they are, the graph runs from inside a panel."""

from __future__ import annotations

import json

import pytest

EXPAND = {"prompt": "a dog barks while a cat meows", "backend": "lexicon", "profile": "short"}
FOCUSED = "document.activeElement.tagName"


def node_of(page, kind):
    return page.evaluate("kind => window.app.graph._nodes.find(n => n.type === kind)?.id", kind)


@pytest.fixture
def editor(page):
    """An Edit Anchors node with two who are seen and two events, alone on the page."""
    from sounding_video.captions.backends.lexicon import LexiconBackend

    text = LexiconBackend().check(EXPAND["prompt"]).anchors.to_json()
    alone = {"id": 1, "type": "T2SVEditAnchors", "pos": [400, 100], "size": [420, 700], "widgets_values": [text]}
    page.load({"version": 0.4, "last_node_id": 1, "last_link_id": 0, "nodes": [alone], "links": []})
    node = node_of(page, "T2SVEditAnchors")
    page.wait_for("document.querySelectorAll('.t2sv-who').length === 2")
    page.view(60, 40, 1.0)
    return node


def written(page, node):
    return json.loads(
        page.evaluate("id => window.app.graph.getNodeById(id).widgets.find(w => w.name === 'anchors').value", node)
    )


def test_who_acts_is_one_of_those_who_are_seen(page, editor):
    options = "[...document.querySelectorAll('.t2sv-who')].map(s => [s.value, [...s.options].map(o => o.value)])"
    assert page.evaluate(options) == [["dog", ["dog", "cat"]], ["cat", ["dog", "cat"]]]
    page.page.locator(".t2sv-who").first.select_option("cat")
    assert [event["entity"] for event in written(page, editor)["events"]] == ["cat", "cat"]
    page.page.locator(".t2sv-who").first.select_option("dog")
    # Whoever is renamed keeps its events, and the cursor stays where it writes.
    name = page.page.locator(".t2sv label", has_text="name").first.locator("input")
    name.click()
    name.press("End")
    page.page.keyboard.type("gy")
    assert page.evaluate("document.activeElement.value") == "doggy"
    found = written(page, editor)
    assert [event["entity"] for event in found["events"]] == ["doggy", "cat"]
    assert page.evaluate(options)[0] == ["doggy", ["doggy", "cat"]]
    # A name of nobody stays until another is chosen.
    found["events"][0]["entity"] = "wolf"
    page.set_widget(editor, "anchors", json.dumps(found))
    page.wait_for("document.querySelector('.t2sv-who').value === 'wolf'")
    assert page.evaluate(options)[0] == ["wolf", ["wolf", "doggy", "cat"]]
    page.shoot("who is a choice")
    assert page.errors == []


def test_the_graph_runs_from_inside_a_panel(page, editor):
    field = page.page.locator(".t2sv label", has_text="place").first.locator("input")
    # Counted here and not sent on: the page's word about a graph without a result would lie over the panel.
    page.evaluate(
        "() => { window.asked = 0; window.app.api.queuePrompt = async () => { window.asked += 1;"
        " return { prompt_id: 'none', node_errors: {} }; }; }"
    )
    field.click()
    page.page.keyboard.type("x")
    page.page.keyboard.press("Delete")
    assert node_of(page, "T2SVEditAnchors") == editor, "other keys stay in the panel"
    page.page.keyboard.press("Control+Enter")
    page.wait_for("window.asked === 1")
    page.page.locator(".t2sv").first.evaluate(
        "e => { const t = document.createElement('textarea'); t.id = 'more'; e.append(t); }"
    )
    page.page.locator("#more").click()
    page.page.keyboard.press("Control+Enter")
    page.wait_for("window.asked === 2")


def test_every_caption_box_says_what_it_is(page, root):
    page.load(json.loads((root / "workflows" / "text_to_sounding_video_pocket.json").read_text(encoding="utf-8")))
    node = node_of(page, "T2SVEncodeCaptions")
    page.view_node(node)
    page.shoot("caption boxes")
    labels = page.evaluate(
        "id => window.app.graph.getNodeById(id).widgets.filter(w => w.element?.tagName === 'TEXTAREA')"
        ".map(w => w.element.placeholder)",
        node,
    )
    if labels:  # Vue nodes have boxes and labels of their own
        assert labels == ["video caption", "audio caption", "video negative", "audio negative"]
    drawn = page.evaluate(
        "id => { const said = []; const n = window.app.graph.getNodeById(id);"
        " const ctx = new Proxy({}, { get: (_, name) => name === 'fillText' ? (text, x, y) => said.push([text, y])"
        " : () => {}, set: () => true }); n.onDrawForeground?.(ctx, window.app.canvas); return said; }",
        node,
    )
    if labels:
        assert [text for text, _ in drawn] == labels
        assert [y for _, y in drawn] == sorted({y for _, y in drawn}), "each above its own box"
    assert page.errors == []
