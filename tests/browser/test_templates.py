"""Every template is run from the page: nothing is missing, nothing lies on anything, the clip plays inside its node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_models import write_pav_dit_folder

ROOT = Path(__file__).parents[2]
NATIVE = "text_to_sounding_video_native"  # on a server of its own
NAMES = sorted(path.stem for path in (ROOT / "workflows").glob("*.json") if path.stem != NATIVE)
SMALL = {
    "T2SVLoadWanTower": {"video_model": "wan"},
    "T2SVLoadStableAudioTower": {"audio_model": "stable_audio"},
    "T2SVLoadBridge": {"bridge_file": "bridge.safetensors", "fusion": "from file"},
    "T2SVEmptyAVLatent": {"width": 32, "height": 32, "num_frames": 9},
    "T2SVEncodeClip": {"width": 32, "height": 32, "num_frames": 9},
    "T2SVJointSampler": {"steps": 3},
}
SMALL_NATIVE = {
    "T2SVLoadBridge": {"bridge_file": "native_bridge.safetensors", "fusion": "from file"},
    "T2SVEmptyAVLatent": {"width": 64, "height": 48, "num_frames": 9},
    "T2SVNativeSampler": {"steps": 3},
}  # ComfyUI's own files are small ones: native_files
# An alignment is for the models that it was made for.
FEW_STEPS = {"T2SVJointSampler": {"steps": 3}}
BLUEPRINT = "Text to Sounding Video"
MISSING = (
    "window.app.graph._nodes.filter(n => !(n.isVirtualNode || window.LiteGraph.registered_node_types[n.type])).length"
)
# Each node with what is drawn of it, title included, in the graph's own measure.
CLASSIC_BOXES = "window.app.graph._nodes.map(n => [n.id, n.type, n.pos[0], n.pos[1] - 30, n.size[0], n.size[1] + 30])"
VUE_BOXES = """() => {
  const { scale } = window.app.canvas.ds;
  return window.app.graph._nodes.map(n => {
    const r = document.querySelector(`[data-node-id="${n.id}"]`).getBoundingClientRect();
    return [n.id, n.type, r.x / scale, r.y / scale, r.width / scale, r.height / scale];
  });
}"""
# Players that stand on a node's picture on the screen, and those that do not.
PLAYERS = """([boxes, vue]) => {
  const { scale, offset } = window.app.canvas.ds;
  const origin = window.app.canvas.canvas.getBoundingClientRect();
  const on = (n) => {
    const [, , x, y, width, height] = n;
    if (vue) return [x * scale, y * scale, width * scale, height * scale];
    return [origin.x + (x + offset[0]) * scale, origin.y + (y + offset[1]) * scale, width * scale, height * scale];
  };
  return [...document.querySelectorAll('video')].map(video => {
    const r = video.getBoundingClientRect();
    const inside = boxes.filter(n => n[1] === 'T2SVMux').some(n => {
      const [x, y, width, height] = on(n);
      return r.x >= x - 2 && r.y >= y && r.right <= x + width + 2 && r.bottom <= y + height + 2 && r.height > 60;
    });
    return [video.readyState, inside];
  });
}"""


def read(name):
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))


def make_small(page, small):
    """The graph on the page with the small random models: a second a run."""
    for node, kind in page.evaluate("() => window.app.graph._nodes.map(n => [n.id, n.type])"):
        for name, value in small.get(kind, {}).items():
            page.set_widget(node, name, value)


def boxes(page):
    return page.evaluate(VUE_BOXES if page.is_vue else CLASSIC_BOXES)


def lying_on_each_other(placed):
    found = []
    for index, (_, one, x, y, width, height) in enumerate(placed):
        for _, other, left, top, broad, tall in placed[index + 1 :]:
            if x < left + broad - 1 and left < x + width - 1 and y < top + tall - 1 and top < y + height - 1:
                found.append((one, other))
    return found


def show_all(page):
    """The whole graph on the screen, so that every player is drawn."""
    placed = page.evaluate(CLASSIC_BOXES)
    left, top = min(box[2] for box in placed), min(box[3] for box in placed)
    right, below = max(box[2] + box[4] for box in placed), max(box[3] + box[5] for box in placed)
    scale = max(0.3, min(1700 / (right - left), 900 / (below - top)))  # of three samplers the last lies below it
    page.view(left - 100 / scale, top - 80 / scale, scale)
    page.page.wait_for_timeout(1500)


def run_template(page, name, small):
    page.load(read(name), name)
    assert page.evaluate(MISSING) == 0
    page.shoot(f"template {name} opened")
    make_small(page, small)
    page.run()
    saved = [node["id"] for node in read(name)["nodes"] if node["type"] == "T2SVMux"]
    page.wait_for(f"[...document.querySelectorAll('video')].filter(v => v.readyState >= 2).length === {len(saved)}")
    page.page.wait_for_timeout(3500)  # a stand-in of ours goes when the page's own player has come
    show_all(page)
    page.shoot(f"template {name}")
    placed = boxes(page)
    assert lying_on_each_other(placed) == []
    players = page.evaluate(PLAYERS, [placed, page.is_vue])
    assert [inside for _, inside in players] == [True] * len(saved)
    assert page.errors == []


@pytest.mark.parametrize("name", NAMES)
def test_a_template_runs_and_nothing_lies_on_anything(page, name):
    kinds = {node["type"] for node in read(name)["nodes"]}
    if "T2SVLoadPavDit" in kinds and not (page.server.models / "pav_dit").exists():
        write_pav_dit_folder(page.server.models / "pav_dit", trained=True)
        page.open()  # lists are read with the page
    own = kinds & {"T2SVLoadAlignment", "T2SVLoadPavDit"}
    run_template(page, name, FEW_STEPS if own else SMALL)


def test_the_native_template_runs_and_nothing_lies_on_anything(native_page):
    run_template(native_page, NATIVE, SMALL_NATIVE)


def test_a_node_from_the_menu_has_room_for_what_it_will_show(page):
    page.evaluate("() => window.app.graph.clear()")
    for kind, least in (("T2SVMux", 500), ("T2SVJointSampler", 600)):
        height = page.evaluate(
            "kind => { const n = window.LiteGraph.createNode(kind); window.app.graph.add(n); return n.size[1]; }", kind
        )
        assert height >= least, kind
    assert page.errors == []


def test_our_sockets_have_colours_in_every_palette(page):
    page.load(read(NAMES[0]), NAMES[0])
    colour = "window.app.canvas.default_connection_color_byType.T2SV_MODEL"
    style = "getComputedStyle(document.documentElement).getPropertyValue('--color-datatype-T2SV_AUDIO_TOWER').trim()"
    for palette in ("light", "dark"):
        page.evaluate("async p => { await window.app.extensionManager.setting.set('Comfy.ColorPalette', p); }", palette)
        page.page.wait_for_timeout(800)
        assert (page.evaluate(colour), page.evaluate(style)) == ("#9b7fd1", "#e08a2e"), palette


@pytest.mark.parametrize(
    "typed", ["sound", "sounding", "foley", "video with sound", "wan audio", "save video", "audio video"]
)
def test_the_search_finds_us(page, typed):
    if page.version < (1, 40):
        pytest.skip("this page searches names only")
    page.evaluate("() => window.app.graph.clear()")
    page.page.mouse.dblclick(900, 600)
    page.page.wait_for_timeout(1500)
    page.page.keyboard.type(typed)
    page.page.wait_for_function(
        "[...document.querySelectorAll('[role=option]')].some(o => o.innerText.includes('Sounding'))", timeout=30_000
    )
    page.page.keyboard.press("Escape")


def test_the_blueprint_is_one_node_that_shows_its_clip(page):
    """Typed, chosen, run: the clip stands on the node."""
    if page.version < (1, 40):
        pytest.skip("this page has no blueprints of packs")
    page.evaluate("() => window.app.graph.clear()")
    page.page.mouse.dblclick(900, 500)
    page.page.wait_for_timeout(1500)
    page.page.keyboard.type(BLUEPRINT)
    page.wait_for(f"[...document.querySelectorAll('[role=option]')].some(o => o.innerText.includes('{BLUEPRINT}'))")
    page.page.keyboard.press("Enter")
    page.wait_for("window.app.graph._nodes.length === 1")
    page.page.mouse.click(900, 400)  # puts it down
    page.page.wait_for_timeout(1500)
    names = page.evaluate("window.app.graph._nodes[0].widgets.map(w => w.name)")
    assert names[:5] == ["prompt", "video_model", "audio_model", "bridge_file", "seed"]
    page.evaluate(
        "small => { for (const n of window.app.graph._nodes[0].subgraph._nodes)"
        " for (const [name, value] of Object.entries(small[n.type] ?? {}))"
        " { const w = n.widgets.find(w => w.name === name); w.value = value; w.callback?.(value); } }",
        {kind: SMALL[kind] for kind in ("T2SVEmptyAVLatent", "T2SVJointSampler")},
    )
    for name, value in (("video_model", "wan"), ("audio_model", "stable_audio"), ("bridge_file", "bridge.safetensors")):
        page.evaluate(
            "([name, value]) => { const w = window.app.graph._nodes[0].widgets.find(w => w.name === name);"
            " w.value = value; w.callback?.(value); }",
            [name, value],
        )
    page.run()
    page.wait_for("[...document.querySelectorAll('.t2sv video')].some(v => v.readyState >= 2)")
    page.shoot("blueprint")
    assert page.evaluate("document.querySelectorAll('.t2sv-words').length") >= 1
    assert page.errors == []
