"""What the artist sees: templates open whole, the preview plays, the clip plays, the file brings the graph back."""

from __future__ import annotations

import base64
import json

import pytest

SMALL = {
    "T2SVLoadWanTower": {"video_model": "wan"},
    "T2SVLoadStableAudioTower": {"audio_model": "stable_audio"},
    "T2SVLoadBridge": {"bridge_file": "bridge.safetensors"},
    "T2SVEmptyAVLatent": {"width": 32, "height": 32, "num_frames": 9},
    "T2SVJointSampler": {"steps": 3},
}
MISSING = "window.app.graph._nodes.filter(n => !window.LiteGraph.registered_node_types[n.type]).length"
RED = "window.app.graph._nodes.filter(n => n.has_errors).length"
VIDEOS = "[...document.querySelectorAll('video')].map(v => [v.readyState, v.videoWidth, v.duration])"


@pytest.fixture
def workflow(root):
    def read(name):
        return json.loads((root / "workflows" / f"{name}.json").read_text(encoding="utf-8"))

    return read


def node_of(page, kind):
    return page.evaluate("kind => window.app.graph._nodes.find(n => n.type === kind).id", kind)


def make_small(page):
    """Turn the graph on the page to the small random models: a second a run."""
    for kind, values in SMALL.items():
        ids = page.evaluate("kind => window.app.graph._nodes.filter(n => n.type === kind).map(n => n.id)", kind)
        for node in ids:
            for name, value in values.items():
                page.set_widget(node, name, value)


def test_every_template_opens_without_a_red_node_and_queues_as_its_api_twin(page, root):
    files = sorted((root / "workflows").glob("*.json"))
    for file in files:
        page.load(json.loads(file.read_text(encoding="utf-8")))
        twin = json.loads((root / "workflows" / "api" / file.name).read_text(encoding="utf-8"))
        assert page.evaluate(MISSING) == 0, file.name
        # Newer pages also mark a model that is not on disk, as those of the other templates are not here.
        assert not file.stem.endswith("pocket") or page.evaluate(RED) == 0, file.name
        assert page.prompt() == {key: {k: node[k] for k in ("class_type", "inputs")} for key, node in twin.items()}
        page.view(20, 40, 0.62)
        page.shoot(file.stem)
    assert page.errors == []


def test_the_preview_plays_and_the_clip_plays_after_it(page, workflow):
    page.load(workflow("text_to_sounding_video_pocket"))
    sampler, mux = node_of(page, "T2SVJointSampler"), node_of(page, "T2SVMux")
    page.set_widget(sampler, "steps", 14)
    page.view(1150, 60, 0.9)
    page.queue()
    page.wait_for(f"!!window.app.graph.getNodeById({sampler}).widgets.find(w => w.name === 't2sv_preview')")
    page.page.wait_for_timeout(900)
    picture = "() => [...document.querySelectorAll('.t2sv canvas')].map(c => c.toDataURL()).join()"
    first = page.evaluate(picture)
    page.shoot("preview")
    page.page.wait_for_timeout(700)
    assert len(first) > 2000
    assert page.evaluate(picture) != first, "the preview stands still"
    # Only our player shows it: the page's own still picture would lie under it.
    own = (
        "id => (window.app.nodePreviewImages?.[id] ?? []).length + (window.app.graph.getNodeById(id).imgs ?? []).length"
    )
    assert page.evaluate(own, sampler) == 0
    page.wait_for("window.seen.some(([kind]) => kind.startsWith('execution_'))")
    page.page.wait_for_timeout(2500)
    (state, width, seconds), *others = page.evaluate(VIDEOS)
    assert (state >= 2, width, others) == (True, 64, [])
    assert seconds == pytest.approx(2.2, abs=0.05)
    words = page.evaluate("document.querySelector('.t2sv-words').textContent")
    assert words.startswith("2.20 s, ")
    page.view_node(mux)
    page.shoot("clip")
    # A click on the timeline seeks.
    page.evaluate(
        "() => { document.querySelector('video').pause(); const c = document.querySelector('.t2sv-words')"
        ".parentElement.querySelector('canvas'); c.dispatchEvent(new MouseEvent('click', { bubbles: true,"
        " clientX: c.getBoundingClientRect().left + c.getBoundingClientRect().width / 2,"
        " clientY: c.getBoundingClientRect().top + 5 })); }"
    )
    page.page.wait_for_timeout(500)
    assert page.evaluate("document.querySelector('video').currentTime") == pytest.approx(1.1, abs=0.1)
    assert page.errors == []


def test_a_dropped_clip_brings_the_graph_back(page, workflow):
    page.load(workflow("text_to_sounding_video_pocket"))
    make_small(page)
    page.set_widget(node_of(page, "T2SVJointSampler"), "seed", 4711)
    before = page.prompt()
    page.run()
    file = page.shown_by(node_of(page, "T2SVMux"))["images"][0]
    data = (page.server.base / "output" / file["subfolder"] / file["filename"]).read_bytes()
    page.evaluate("() => window.app.graph.clear()")
    assert page.prompt() == {}
    page.evaluate(
        "async ([name, data]) => { const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));"
        " await window.app.handleFile(new File([bytes], name, { type: 'video/mp4' })); }",
        [file["filename"], base64.b64encode(data).decode()],
    )
    page.page.wait_for_timeout(1500)
    assert page.prompt() == before
    assert page.evaluate(MISSING) == 0


def test_captions_are_shown_and_anchors_edited_on_the_page(page, workflow):
    page.load(workflow("expand_prompt_pocket"))
    make_small(page)
    expand, encode = node_of(page, "T2SVExpandPrompt"), node_of(page, "T2SVEncodeCaptions")
    page.set_widget(expand, "prompt", "A dog <img src=x onerror=alert(1)> barks on a beach")
    page.run()
    shown = page.shown_by(expand)["sounding_video_captions"][0]
    assert page.evaluate("document.querySelector('.t2sv-video-caption').textContent") == shown["video"]
    assert page.evaluate("document.querySelector('.t2sv-audio-caption').textContent") == shown["audio"]
    assert page.evaluate("document.querySelectorAll('.t2sv img').length") == 0
    page.view(20, 40, 0.85)
    page.shoot("captions")

    page.evaluate("document.querySelector('.t2sv-edit').click()")
    page.page.wait_for_timeout(1500)
    editor = node_of(page, "T2SVEditAnchors")
    prompt = page.prompt()
    assert [prompt[str(encode)]["inputs"][name] for name in ("video_caption", "audio_caption")] == [
        [str(editor), 0],
        [str(editor), 1],
    ]
    good = "document.querySelector('.t2sv-message').classList.contains('t2sv-good')"
    page.wait_for(good, 20)
    # The form writes the text that is saved with the workflow.
    page.evaluate(
        "() => { const label = [...document.querySelectorAll('.t2sv label')].find(l => l.innerText.trim() === 'place');"
        " const input = label.querySelector('input'); input.value = 'a moonlit harbour';"
        " input.dispatchEvent(new Event('input')); }"
    )
    anchors = json.loads(page.prompt()[str(editor)]["inputs"]["anchors"])
    assert anchors["environment"] == "a moonlit harbour"
    page.wait_for(good, 20)
    page.view_node(editor)
    page.shoot("anchors")
    # What cannot be used is said before anything runs, in the words of the run itself.
    page.set_widget(editor, "anchors", json.dumps(anchors | {"mood": ""}))
    page.wait_for("document.querySelector('.t2sv-message').classList.contains('t2sv-bad')", 20)
    assert "the field 'mood'" in page.evaluate("document.querySelector('.t2sv-message').textContent")
    page.set_widget(editor, "anchors", json.dumps(anchors))
    page.wait_for(good, 20)
    page.run()
    assert "moonlit harbour" in page.shown_by(editor)["sounding_video_captions"][0]["video"]
    assert page.errors == []
