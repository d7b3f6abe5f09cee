"""What somebody meets who uses the page for the first time: stops, errors, reloads, other themes, a small window."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
POCKET, REPORT, EXPAND = "text_to_sounding_video_pocket", "sync_report_pocket", "expand_prompt_pocket"
SMALL = {
    "T2SVLoadWanTower": {"video_model": "wan"},
    "T2SVLoadStableAudioTower": {"audio_model": "stable_audio"},
    "T2SVLoadBridge": {"bridge_file": "bridge.safetensors"},
    "T2SVEmptyAVLatent": {"width": 32, "height": 32, "num_frames": 9},
    "T2SVJointSampler": {"steps": 2},
}
PAGES_TEXT = "window.app.graph.getNodeById({}).widgets.find(w => w.name === '$$node-text-preview')?.value ?? ''"
# Of every text in our panels: the ratio of its brightness to that of what lies behind it, as WCAG measures.
CONTRASTS = """() => {
  const parse = (c) => {
    const numbers = c.match(/[\\d.]+/g).map(Number);
    const part = c.startsWith('color(') ? 1 : 255;
    return [...numbers.slice(0, 3).map(n => n / part), numbers[3] ?? 1];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((part, i) => part * a + under[i] * (1 - a));
  const light = (rgb) => {
    const [r, g, b] = rgb.map(c => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.unshift(parse(getComputedStyle(e).backgroundColor));
    return layers.reduce((under, layer) => over(layer, under), [0, 0, 0]);
  };
  const faded = (element) => (element ? Number(getComputedStyle(element).opacity) * faded(element.parentElement) : 1);
  const found = [];
  for (const element of document.querySelectorAll('.t2sv *')) {
    const words = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!(words || element.value) || !element.clientWidth) continue;
    const under = behind(element);
    const [r, g, b, a] = parse(getComputedStyle(element).color);
    const [one, other] = [light(over([r, g, b, a * faded(element)], under)), light(under)].sort((x, y) => y - x);
    found.push([(one + 0.05) / (other + 0.05), element.className || element.tagName, element.textContent.slice(0, 30)]);
  }
  return found;
}"""


def read(name):
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


def node_of(page, kind):
    return page.evaluate("kind => window.app.graph._nodes.find(n => n.type === kind)?.id", kind)


def make_small(page):
    for node, kind in page.evaluate("() => window.app.graph._nodes.map(n => [n.id, n.type])"):
        for name, value in SMALL.get(kind, {}).items():
            page.set_widget(node, name, value)


def end_as_an_error(page):
    """From now on the server's word of an interrupt reaches the page as that of an error."""

    def rewrite(message):
        told = json.loads(message) if isinstance(message, str) else {}
        if told.get("type") == "execution_interrupted":
            more = {"exception_type": "RuntimeError", "exception_message": "out of memory", "traceback": []}
            message = json.dumps({"type": "execution_error", "data": {**told["data"], **more, "current_inputs": {}}})
        return message

    def route(socket):
        server = socket.connect_to_server()
        server.on_message(lambda message: socket.send(rewrite(message)))

    page.page.route_web_socket("**/ws*", route)
    page.open()


@pytest.mark.parametrize("end", ["interrupted", "error"])
def test_how_long_it_takes_goes_with_the_run(page, end):
    if end == "error":
        end_as_an_error(page)
    page.load(read(POCKET))
    sampler = node_of(page, "T2SVJointSampler")
    page.set_widget(sampler, "steps", 900)
    page.view_node(sampler)
    page.queue()
    page.wait_for(f"({PAGES_TEXT.format(sampler)}).includes('left')")
    page.evaluate("() => window.app.api.interrupt()")
    page.wait_for(f"window.seen.some(([kind]) => kind === 'execution_{end}')")
    page.page.wait_for_timeout(1500)
    page.shoot(f"after {end}")
    assert page.evaluate(PAGES_TEXT.format(sampler)) == ""
    assert " left" not in page.evaluate(
        "[...document.querySelectorAll('[data-node-id], .dom-widget')].map(e => e.innerText).join()"
    )
    assert page.errors == []


def panels(page):
    """The words of every panel; the live preview has none, and is not brought back."""
    return sorted(filter(None, page.evaluate("[...document.querySelectorAll('.t2sv')].map(p => p.innerText)")))


def strip_is_under_the_player(page):
    return page.evaluate(
        "() => document.querySelector('.t2sv-words').getBoundingClientRect().top"
        " > document.querySelector('video').getBoundingClientRect().top"
    )


def test_panels_stand_after_a_reload_and_a_run_that_is_cached(page):
    """The server runs nothing again, and older ones then tell only what end nodes gave."""
    graph = read(REPORT)
    page.load(graph)
    make_small(page)
    page.run()
    page.wait_for("document.querySelectorAll('.t2sv-words').length === 1")
    page.page.wait_for_timeout(2000)
    assert strip_is_under_the_player(page) is not page.is_vue  # there the page's player is below all widgets
    before, saved = panels(page), page.evaluate("() => window.app.graph.serialize()")
    page.open(forget=False)
    page.load(saved)
    assert panels(page) == []
    page.run()
    page.wait_for("document.querySelectorAll('.t2sv-words').length === 1")
    page.page.wait_for_timeout(2000)
    page.shoot("cached after a reload")
    tells_all = page.evaluate(
        "async () => (await (await fetch('/object_info/T2SVJointSampler')).json()).T2SVJointSampler"
        ".has_intermediate_output === true"
    )
    after = panels(page)
    assert after == before if tells_all else set(after) < set(before)
    assert strip_is_under_the_player(page) is not page.is_vue
    assert page.errors == []


@pytest.fixture(params=["solarized", "light", "nord", "dark"])
def palette(page, request):
    choose = "async p => { await window.app.extensionManager.setting.set('Comfy.ColorPalette', p); }"
    page.evaluate(choose, request.param)
    yield request.param
    page.evaluate(choose, "dark")  # the server keeps it


def test_panels_can_be_read_in_every_theme(page, palette):
    page.load(read(EXPAND))
    make_small(page)
    page.run()
    page.evaluate("document.querySelector('.t2sv-edit').click()")
    page.wait_for("!!document.querySelector('.t2sv-message')?.textContent")
    page.page.wait_for_timeout(1000)
    page.shoot(f"theme {palette}")
    found = page.evaluate(CONTRASTS)
    assert len(found) > 20
    assert [one for one in found if one[0] < 4.5] == []
    # What a bad verdict looks like is read as well.
    editor = node_of(page, "T2SVEditAnchors")
    page.set_widget(editor, "anchors", "{")
    page.wait_for("!!document.querySelector('.t2sv-bad')")
    assert [one for one in page.evaluate(CONTRASTS) if one[0] < 4.5] == []
    assert page.errors == []


@pytest.mark.parametrize("name", NAMES)
def test_a_small_window_shows_the_prompt_first(page, name):
    page.page.set_viewport_size({"width": 1100, "height": 700})
    page.page.wait_for_timeout(500)
    page.load(read(name), name)
    page.shoot(f"small window {name}")
    kinds = ["T2SVExpandPrompt", "T2SVEncodeCaptions", "CLIPTextEncode"]
    kind = next(kind for kind in kinds if node_of(page, kind) is not None)
    # Where a clip of one's own is made first, that has a prompt too, further down.
    places = page.evaluate(
        "kind => { const { scale, offset } = window.app.canvas.ds;"
        " return window.app.graph._nodes.filter(n => n.type === kind)"
        ".map(n => [(n.pos[0] + offset[0]) * scale, (n.pos[1] + offset[1]) * scale]); }",
        kind,
    )
    assert any(0 <= x < 800 and 0 <= y < 500 for x, y in places), "the prompt is not in view"
    assert page.evaluate("window.app.canvas.ds.scale") >= 0.5, "its text cannot be read"


def test_a_muted_tower_is_one_sentence(page):
    page.load(read(POCKET))
    make_small(page)
    page.evaluate("id => { window.app.graph.getNodeById(id).mode = 2; }", node_of(page, "T2SVLoadWanTower"))
    page.queue()
    page.wait_for("window.seen.some(([kind]) => kind === 'execution_error')")
    (error,) = page.evaluate("window.seen.filter(([kind]) => kind === 'execution_error').map(([, d]) => d)")
    assert "no video tower" in error["exception_message"] and "muted" in error["exception_message"]
    page.page.wait_for_timeout(1500)
    page.shoot("a muted tower")


def test_models_that_are_not_there_are_named_with_their_address(page):
    if page.version < (1, 40):
        pytest.skip("this page says less of missing models")
    page.load(read("text_to_sounding_video_wan_1.3b"))
    page.page.wait_for_timeout(3000)
    page.shoot("missing models")
    notes = page.evaluate("window.app.graph._nodes.filter(n => n.type === 'MarkdownNote').map(n => n.widgets[0].value)")
    for node in read("text_to_sounding_video_wan_1.3b")["nodes"]:
        for model in node.get("properties", {}).get("models", ()):
            assert any(model["url"] in note for note in notes), model
