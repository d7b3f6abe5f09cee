"""The save node on the page: sound alone is played, a preview is not kept, only what goes together is offered."""

from __future__ import annotations

import base64
import json

import pytest

SMALL = {
    "T2SVLoadWanTower": {"video_model": "wan"},
    "T2SVLoadStableAudioTower": {"audio_model": "stable_audio"},
    "T2SVLoadBridge": {"bridge_file": "bridge.safetensors"},
    "T2SVEmptyAVLatent": {"width": 32, "height": 32, "num_frames": 9},
    "T2SVJointSampler": {"steps": 2},
}
PLAYERS = "[...document.querySelectorAll('audio, video')].filter(p => p.src || p.currentSrc)"
WORDS = "[...document.querySelectorAll('.t2sv-words')].map(w => w.textContent)"


@pytest.fixture
def mux(page, root):
    """The pocket template on the page with the small random models; the id of its save node."""
    page.load(json.loads((root / "workflows" / "text_to_sounding_video_pocket.json").read_text(encoding="utf-8")))
    ids = page.evaluate("() => window.app.graph._nodes.map(n => [n.id, n.type])")
    for node, kind in ids:
        for name, value in SMALL.get(kind, {}).items():
            page.set_widget(node, name, value)
    (found,) = [node for node, kind in ids if kind == "T2SVMux"]
    page.view_node(found)
    return found


def widget(page, node, name, what):
    """What an expression says of a widget ``w``."""
    found = "window.app.graph.getNodeById(id).widgets.find(w => w.name === name)"
    return page.evaluate(f"([id, name]) => {{ const w = {found}; return {what}; }}", [node, name])


@pytest.mark.parametrize("format", ["flac", "wav", "mp4"])
def test_sound_alone_is_played_and_drawn(page, mux, format):
    page.set_widget(mux, "format", format)
    if format == "mp4":
        page.evaluate("id => window.app.graph.getNodeById(id).disconnectInput(0)", mux)
    page.run()
    page.wait_for(f"{WORDS}.length === 1")
    page.wait_for(f"{PLAYERS}.some(p => p.readyState >= 1)")
    page.page.wait_for_timeout(3500)  # a second player would be there by now
    page.view_node(mux)
    page.shoot(f"sound alone {format}")
    ((kind, seconds, own),) = page.evaluate(f"{PLAYERS}.map(p => [p.localName, p.duration, !!p.closest('.t2sv')])")
    # The page takes any mp4 for a video and plays it in a player of its own, which looks like one for sound.
    assert (kind, own) == ("audio", True) or (format == "mp4" and kind == "video")
    assert seconds == pytest.approx(0.6, abs=0.03)
    (words,) = page.evaluate(WORDS)
    assert words.startswith("0.60 s, ") and "motion" not in words
    page.evaluate(
        "() => { const c = document.querySelector('.t2sv-words').parentElement.querySelector('canvas');"
        " const box = c.getBoundingClientRect(); c.dispatchEvent(new MouseEvent('click', { bubbles: true,"
        " clientX: box.left + box.width / 2, clientY: box.top + 5 })); }"
    )
    page.page.wait_for_timeout(500)
    assert page.evaluate(f"{PLAYERS}[0].currentTime") == pytest.approx(0.3, abs=0.05)
    assert page.errors == []


def test_a_dropped_flac_brings_the_graph_back(page, mux):
    page.set_widget(mux, "format", "flac")
    page.run()
    (file,) = page.shown_by(mux)["audio"]
    sound = (page.server.base / "output" / file["subfolder"] / file["filename"]).read_bytes()
    page.evaluate("() => window.app.graph.clear()")
    page.evaluate(
        "async ([name, data]) => { const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));"
        " await window.app.handleFile(new File([bytes], name, { type: 'audio/flac' })); }",
        [file["filename"], base64.b64encode(sound).decode()],
    )
    page.wait_for("window.app.graph._nodes.some(n => n.type === 'T2SVMux')")
    assert page.errors == []


def test_a_preview_is_shown_and_not_kept(page, mux):
    page.set_widget(mux, "save", "preview only")
    page.run()
    (shown,) = page.shown_by(mux)["images"]
    assert shown["type"] == "temp"
    page.wait_for(f"{PLAYERS}.some(p => p.readyState >= 2)")
    assert not list((page.server.base / "output").rglob(shown["filename"]))
    assert list((page.server.base / "temp").rglob(shown["filename"]))
    page.page.wait_for_timeout(1500)
    page.shoot("preview only")
    (words,) = page.evaluate(WORDS)
    assert "motion peaks: " in words
    assert page.errors == []


def test_only_what_goes_together_is_offered(page, mux):
    def codecs():
        return widget(page, mux, "codec", "[...w.options.values]")

    assert codecs() == ["auto", "h264", "hevc", "av1"]
    page.set_widget(mux, "codec", "hevc")
    page.set_widget(mux, "quality", 30)
    page.set_widget(mux, "format", "webm")
    assert (codecs(), widget(page, mux, "codec", "w.value")) == (["auto", "vp9", "av1"], "auto")
    assert widget(page, mux, "quality", "w.value") == 30
    page.set_widget(mux, "format", "mkv")
    page.set_widget(mux, "codec", "ffv1")
    assert (widget(page, mux, "quality", "w.value"), widget(page, mux, "quality", "!!w.disabled")) == (-1, True)
    page.set_widget(mux, "format", "flac")
    assert (codecs(), widget(page, mux, "codec", "w.value")) == (["auto"], "auto")
    # Another save node keeps its own choices, and a loaded graph its own values.
    other = page.evaluate(
        "() => { const n = window.LiteGraph.createNode('T2SVMux'); window.app.graph.add(n); return n.id; }"
    )
    assert widget(page, other, "codec", "[...w.options.values]") == ["auto", "h264", "hevc", "av1"]
    page.set_widget(mux, "format", "mkv")
    page.set_widget(mux, "codec", "vp9")
    saved = page.evaluate("() => window.app.graph.serialize()")
    page.load(saved)
    assert widget(page, mux, "codec", "[w.value, w.options.values.length]") == ["vp9", 6]
    assert page.errors == []
