"""What the artist sees: templates open whole, the preview plays, the clip plays, the file brings the graph back."""

from __future__ import annotations

import base64
import json
import re

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
OWN_VIDEOS = "document.querySelectorAll('.t2sv video').length"
STRIPS = "[...document.querySelectorAll('.t2sv-words')].map(w => w.textContent)"
BARS = "[...document.querySelectorAll('.t2sv-bar > div')].map(b => parseFloat(b.style.width))"
BOX = "id => { const n = window.app.graph.getNodeById(id); return [...n.pos, ...n.size]; }"
HEADINGS = "[...document.querySelectorAll('.t2sv h4')].map(h => h.textContent)"
FOLLOW_EVERY, LOOK_EVERY = 90, 400  # of player.js and of anchors.js


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
    page.wait_for(f"{VIDEOS}.some(([state]) => state >= 2)")
    page.page.wait_for_timeout(2500)
    (_, width, seconds), *others = page.evaluate(VIDEOS)
    assert (width, others) == (64, [])
    assert seconds == pytest.approx(2.2, abs=0.05)
    began = page.evaluate("document.querySelector('video').currentTime")
    page.evaluate("() => document.querySelector('video').play()")
    page.wait_for(f"document.querySelector('video').currentTime > {began} + 0.2")
    words = page.evaluate("document.querySelector('.t2sv-words').textContent")
    assert words.startswith("2.20 s, ")
    page.view_node(mux)
    page.shoot("clip")
    # On the canvas the strip is under the video; Vue nodes have the page's player below all widgets.
    over = page.evaluate(
        "() => document.querySelector('.t2sv-words').getBoundingClientRect().top"
        " < document.querySelector('video').getBoundingClientRect().top"
    )
    assert over is (page.is_vue)
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


def test_a_picture_that_is_decoded_late_still_stands(page, workflow):
    page.load(workflow("text_to_sounding_video_pocket"))
    make_small(page)
    sampler = node_of(page, "T2SVJointSampler")
    page.evaluate(
        "() => { const decode = window.createImageBitmap.bind(window);"
        " const asked = new Promise(done => { window.decodeAll = done; });"
        " window.createImageBitmap = async (...given) => { await asked; return decode(...given); }; }"
    )
    page.run()
    shown = f"!!window.app.graph.getNodeById({sampler}).widgets.find(w => w.name === 't2sv_preview')"
    assert not page.evaluate(shown)
    page.evaluate("() => window.decodeAll()")
    page.wait_for(shown)
    page.page.wait_for_timeout(900)
    pictures = page.evaluate("() => [...document.querySelectorAll('.t2sv canvas')].map(c => c.toDataURL())")
    assert any(len(each) > 2000 for each in pictures), "nothing is drawn on it"
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
    assert page.evaluate("document.querySelector('.t2sv-video-caption').value") == shown["video"]
    assert page.evaluate("document.querySelector('.t2sv-audio-caption').value") == shown["audio"]
    assert page.evaluate("document.querySelectorAll('.t2sv img').length") == 0
    page.view(20, 40, 0.85)
    page.shoot("captions")

    page.evaluate("document.querySelector('.t2sv-edit').click()")
    page.page.wait_for_timeout(1500)
    editor = node_of(page, "T2SVEditAnchors")
    x, y, width, height = page.evaluate(BOX, editor)
    for node in page.evaluate("window.app.graph._nodes.map(n => n.id)"):
        left, top, broad, tall = page.evaluate(BOX, node)
        hidden = x < left + broad and left < x + width and y < top + tall and top < y + height
        assert node == editor or not hidden, "the editor lies on another node"
    prompt = page.prompt()
    assert [prompt[str(encode)]["inputs"][name] for name in ("video_caption", "audio_caption")] == [
        [str(editor), 0],
        [str(editor), 1],
    ]
    good = "document.querySelector('.t2sv-message').classList.contains('t2sv-good')"
    page.wait_for(good)
    # The form writes the text that is saved with the workflow.
    page.evaluate(
        "() => { const label = [...document.querySelectorAll('.t2sv label')].find(l => l.innerText.trim() === 'place');"
        " const input = label.querySelector('input'); input.value = 'a moonlit harbour';"
        " input.dispatchEvent(new Event('input')); }"
    )
    anchors = json.loads(page.prompt()[str(editor)]["inputs"]["anchors"])
    assert anchors["environment"] == "a moonlit harbour"
    page.wait_for(good)
    page.view_node(editor)
    page.shoot("anchors")
    # What cannot be used is said before anything runs, in the words of the run itself.
    page.set_widget(editor, "anchors", json.dumps(anchors | {"mood": ""}))
    page.wait_for("document.querySelector('.t2sv-message').classList.contains('t2sv-bad')")
    assert "the field 'mood'" in page.evaluate("document.querySelector('.t2sv-message').textContent")
    page.set_widget(editor, "anchors", json.dumps(anchors))
    page.wait_for(good)
    page.run()
    assert "moonlit harbour" in page.shown_by(editor)["sounding_video_captions"][0]["video"]
    assert page.errors == []


def panels(page):
    """What the panels show of a run, by kind."""
    shown = page.evaluate("[...document.querySelectorAll('.t2sv')].map(p => p.textContent)")
    return {
        "strips": page.evaluate(STRIPS),
        "bars": page.evaluate(BARS),
        "memory": [text for text in page.evaluate(HEADINGS) if text.startswith("memory")],
        "report": [text for text in shown if "AV-Align" in text],
    }


def history(page, call):
    """Call the page's own undo, redo or check for changes."""
    page.evaluate(
        f"async () => {{ await window.app.extensionManager.workflow.activeWorkflow.changeTracker.{call}(); }}"
    )
    page.page.wait_for_timeout(2500)


def test_the_panels_of_a_run_come_back_with_the_graph(page, workflow):
    page.load(workflow("sync_report_pocket"))
    make_small(page)
    history(page, "checkState")
    page.run()
    page.wait_for(f"{STRIPS}.length === 1 && {BARS}.length > 0")
    before = panels(page)
    assert len(before["bars"]) == 4 and all(0 < width <= 100 for width in before["bars"])
    assert (len(before["memory"]), len(before["report"])) == (1, 1)
    page.view_node(node_of(page, "T2SVJoinTowers"))
    page.shoot("memory")
    page.view_node(node_of(page, "T2SVSyncReport"))
    page.shoot("report")
    page.set_widget(node_of(page, "T2SVJointSampler"), "steps", 2)
    history(page, "checkState")
    for step in ("undo", "redo"):
        history(page, step)
        assert panels(page) == before, step
    page.load(workflow("expand_prompt_pocket"), "another")
    assert panels(page) == {"strips": [], "bars": [], "memory": [], "report": []}
    page.evaluate(
        "async () => { await window.app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow'); }"
    )
    page.page.wait_for_timeout(3500)
    assert panels(page) == before
    # A node that is gone leaves no timer behind, also where the page keeps the node.
    assert page.intervals(FOLLOW_EVERY) == 1
    page.evaluate("() => window.app.graph.clear()")
    assert page.intervals(FOLLOW_EVERY) == 0
    assert page.errors == []


def test_every_clip_of_a_batch_has_one_player(page, workflow):
    """The page's own player arrives late, and shows one clip of several."""
    page.load(workflow("text_to_sounding_video_pocket"))
    make_small(page)
    mux = node_of(page, "T2SVMux")
    page.view_node(mux)
    held = []
    # The page adds a random number to its addresses, we do not.
    page.page.route("**/view?*rand=*", lambda route: held.append(route))
    page.run()
    classic = not page.is_vue
    if classic:
        page.wait_for(f"{OWN_VIDEOS} === 1")
    page.page.unroute("**/view?*rand=*")
    for route in held:
        route.continue_()
    page.wait_for(f"{VIDEOS}.length === 1 && {OWN_VIDEOS} === 0")

    page.set_widget(node_of(page, "T2SVEmptyAVLatent"), "batch_size", 3)
    page.run()
    page.wait_for(f"{STRIPS}.length === 3 && {OWN_VIDEOS} === 2 && {VIDEOS}.length === 3")
    page.page.wait_for_timeout(1000)
    cut = "[...document.querySelectorAll('.t2sv')].filter(p => p.scrollHeight > p.clientHeight + 1).length"
    page.view_node(mux)
    page.shoot("batch")
    assert page.evaluate(cut) == 0
    assert page.errors == []


def press(page, kind):
    page.evaluate("kind => document.querySelector(kind).click()", kind)
    page.page.wait_for_timeout(1500)


def type_into(page, label, text):
    """Write into the field of the anchors' form that has this label."""
    page.evaluate(
        "([label, text]) => { const found = [...document.querySelectorAll('.t2sv label')].find("
        "l => l.innerText.trim() === label); const input = found.querySelector('input'); input.value = text;"
        " input.dispatchEvent(new Event('input')); }",
        [label, text],
    )


def test_captions_are_edited_where_they_are_shown(page, workflow):
    page.load(workflow("expand_prompt_pocket"))
    make_small(page)
    expand, encode = node_of(page, "T2SVExpandPrompt"), node_of(page, "T2SVEncodeCaptions")
    page.run()
    inputs = lambda: [page.prompt()[str(encode)]["inputs"][name] for name in ("video_caption", "audio_caption")]  # noqa: E731
    linked = inputs()
    assert linked == [[str(expand), 0], [str(expand), 1]]
    for round_ in ("first", "second"):
        page.evaluate(
            "words => document.querySelectorAll('.t2sv textarea').forEach((t, i) => { t.value = words + i; })", round_
        )
        press(page, ".t2sv-use")
        assert inputs() == [f"{round_}0", f"{round_}1"]
    assert "Encode Captions" in page.evaluate("document.querySelector('.t2sv-said').textContent")
    page.view(20, 600, 0.85)
    page.shoot("captions used")
    for _ in range(2):
        history(page, "undo")
    assert inputs() == linked
    assert page.errors == []


def test_the_form_keeps_what_it_cannot_read(page, workflow):
    page.load(workflow("expand_prompt_pocket"))
    make_small(page)
    page.run()
    for _ in range(2):
        press(page, ".t2sv-edit")
    editors = "window.app.graph._nodes.filter(n => n.type === 'T2SVEditAnchors').map(n => n.id)"
    (editor,) = page.evaluate(editors)
    assert page.evaluate("Object.values(window.app.canvas.selected_nodes).map(n => n.type)") == ["T2SVEditAnchors"]
    written = lambda: json.loads(page.prompt()[str(editor)]["inputs"]["anchors"])  # noqa: E731
    message = "document.querySelector('.t2sv-message').textContent"
    good = "document.querySelector('.t2sv-message').classList.contains('t2sv-good')"
    bad = "document.querySelector('.t2sv-message').classList.contains('t2sv-bad')"
    page.wait_for(good)
    for text, value, verdict in (("0,25", 0.25, good), ("0.5s", "0.5s", bad), ("", None, good)):
        type_into(page, "from 0–1", text)
        assert written()["events"][0]["start"] == value
        page.wait_for(verdict)
    # Anchors of a script or a hand may lack a field.
    anchors = written()
    for entity in anchors["entities"]:
        del entity["attributes"]
    page.set_widget(editor, "anchors", json.dumps(anchors))
    page.wait_for(bad)
    assert "attributes" in page.evaluate(message)
    type_into(page, "place", "a moonlit harbour")
    page.wait_for(good)
    page.page.route("**/sounding_video/anchors", lambda route: route.abort())
    type_into(page, "place", "a harbour at noon")
    page.wait_for(bad)
    assert "no answer" in page.evaluate(message)
    assert page.intervals(LOOK_EVERY) == 1
    page.evaluate("() => window.app.graph.clear()")
    assert page.intervals(LOOK_EVERY) == 0
    assert page.errors == []


def into_subgraph(page, kind):
    """Put the node of this kind into a subgraph of its own; the id of the subgraph's node."""
    return page.evaluate(
        "kind => { const g = window.app.graph; const n = g._nodes.find(n => n.type === kind);"
        " return g.convertToSubgraph(new Set([n])).node.id; }",
        kind,
    )


def enter(page, node):
    """Show the inside of a subgraph; the root graph for None."""
    page.evaluate(
        "id => { const g = window.app.graph;"
        " window.app.canvas.setGraph(id === null ? g : g.getNodeById(id).subgraph); }",
        node,
    )
    page.page.wait_for_timeout(1500)


def test_inside_subgraphs(page, workflow):
    page.load(workflow("expand_prompt_pocket"))
    make_small(page)
    page.set_widget(node_of(page, "T2SVJointSampler"), "steps", 20)  # the last picture of a quicker run comes too late
    encode = node_of(page, "T2SVEncodeCaptions")
    expanding, sampling = into_subgraph(page, "T2SVExpandPrompt"), into_subgraph(page, "T2SVJointSampler")
    # Which nodes the page itself has shown a picture on.
    page.evaluate(
        "() => { window.pictured = new Set();"
        " setInterval(() => { for (const [id, urls] of Object.entries(window.app.nodePreviewImages ?? {}))"
        " if (urls?.length) window.pictured.add(id); }, 20); }"
    )
    page.run()
    assert str(sampling) in page.evaluate("[...window.pictured]"), "a sampler in a subgraph shows nothing outside"

    enter(page, sampling)
    page.evaluate("() => window.pictured.clear()")
    page.forget()
    page.run()
    page.wait_for(
        "!!window.app.canvas.graph._nodes.find(n => n.type === 'T2SVJointSampler')"
        ".widgets.find(w => w.name === 't2sv_preview')"
    )
    assert str(sampling) in page.evaluate("[...window.pictured]")
    # Our player alone shows it here, also after the page's own picture of the first run.
    own = (
        "() => { const g = window.app.canvas.graph; const n = g._nodes.find(n => n.type === 'T2SVJointSampler');"
        " return (n.imgs ?? []).length + document.querySelectorAll(`[data-node-id='${n.id}'] img`).length; }"
    )
    assert page.evaluate(own) == 0

    enter(page, expanding)
    page.wait_for("!!document.querySelector('.t2sv-edit')")
    press(page, ".t2sv-edit")
    editor = page.evaluate("window.app.canvas.graph._nodes.find(n => n.type === 'T2SVEditAnchors').id")
    page.shoot("subgraph")
    enter(page, None)
    inputs = page.prompt()[str(encode)]["inputs"]
    assert [inputs[name] for name in ("video_caption", "audio_caption")] == [
        [f"{expanding}:{editor}", slot] for slot in (0, 1)
    ]
    # Pages up to ComfyUI 0.27 fail by themselves at every text that a node inside sends.
    assert [error for error in page.errors if page.version >= (1, 46) or error != "Subgraph not found"] == []


def test_the_panels_and_help_pages_speak_six_languages(page, workflow):
    own = page.evaluate(
        "async () => (await fetch('/extensions')).json().then(all => all.find(one => one.endsWith('/js/texts.js')))"
    )
    texts = page.evaluate("async own => { const m = await import(own); return [m.LANGUAGES, m.TEXTS]; }", own)
    languages, rows = texts
    assert languages == ["en", "zh", "ja", "de", "fr", "es"]
    for key, row in rows.items():
        assert len(row) == 6 and all(text.strip() for text in row), key
        names = [sorted(re.findall(r"\{\w+\}", text)) for text in row]
        assert names == [names[0]] * 6, key
    spoken = set()
    try:
        for language, place in zip(languages, rows["place"], strict=True):
            page.evaluate(
                "async language => { await window.app.extensionManager.setting.set('Comfy.Locale', language); }",
                language,
            )
            if page.evaluate("window.app.extensionManager.setting.get('Comfy.Locale')") != language:
                continue  # this page does not speak it
            spoken.add(language)
            page.load(workflow("expand_prompt_pocket"))
            page.evaluate(
                "() => { const n = window.LiteGraph.createNode('T2SVEditAnchors'); window.app.graph.add(n); }"
            )
            press(page, ".t2sv button")
            labels = page.evaluate("[...document.querySelectorAll('.t2sv label span')].map(s => s.textContent)")
            assert place in labels, language
            address = own.replace("/js/texts.js", f"/docs/T2SVMux/{language}.md")
            answer = page.evaluate("async a => { const r = await fetch(a); return [r.ok, await r.text()]; }", address)
            assert answer[0] is (language != "en"), language
        assert spoken >= {"en", "zh", "ja", "fr", "es"}, "ComfyUI's page speaks these; German is ours"
    finally:
        page.evaluate("async () => { await window.app.extensionManager.setting.set('Comfy.Locale', 'en'); }")
    assert page.errors == []


def test_a_graph_of_before_keeps_its_values_and_a_new_node_follows_the_model(page, workflow):
    """Saved graphs lack the choice; a node that is dropped now has it at "from the model"."""
    graph = workflow("text_to_sounding_video_pocket")
    followers = ("T2SVEmptyAVLatent", "T2SVEncodeCaptions", "T2SVJointSampler")
    for node in graph["nodes"]:
        if node["type"] in followers:
            values, names = node["widgets_values"], [port["name"] for port in node["inputs"]]
            del values[values.index("as set here") :]  # and what is younger
            node["inputs"] = node["inputs"][: names.index("defaults")]
    page.load(graph)
    sent = page.prompt().values()
    chosen = [node["inputs"]["defaults"] for node in sent if node["class_type"] in followers]
    assert chosen == ["as set here"] * 3
    fresh = "kind => window.LiteGraph.createNode(kind).widgets.find(w => w.name === 'defaults').value"
    assert [page.evaluate(fresh, kind) for kind in followers] == ["from the model"] * 3
