"""Take the pictures of the help pages from ComfyUI's page, with what the bundled model makes.

COMFYUI_PATH names a ComfyUI checkout. Names of nodes as arguments take only theirs. The pictures go to
``web/docs/img``; those of the templates that need real weights, which show the graph, go to ``workflows``.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests" / "browser"), str(ROOT / "tests")]

from comfyui_server import checkout, serving  # noqa: E402
from conftest import ARGUMENTS, OWN_PAGE, PATIENCE, Page  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402

WIDTH, MARGIN = 440, 10  # of a picture, and of the canvas around the node on it
TITLE = 30
QUICK = {"T2SVJointSampler": {"steps": 2}}
RUN = "sync_report_pocket"
# The template on which a node is seen after a run; the others stand alone, as they come from the menu.
SEEN = {
    RUN: (
        "T2SVLoadWanTower", "T2SVLoadStableAudioTower", "T2SVLoadBridge", "T2SVJoinTowers", "T2SVEmptyAVLatent",
        "T2SVEncodeCaptions", "T2SVJointSampler", "T2SVDecodeAV", "T2SVMux", "T2SVSyncReport",
    ),
    "expand_prompt_pocket": ("T2SVExpandPrompt", "T2SVEditAnchors"),
}  # fmt: skip
GRAPHS = ("text_to_sounding_video_native", "text_to_sounding_video_wan_1.3b")
GRAPH_WIDTH = 1100
ALONE = (
    "T2SVCaptionVideo",
    "T2SVConditionOnPicture",
    "T2SVConditionOnSound",
    "T2SVDownloadModels",
    "T2SVEncodeClip",
    "T2SVJoinClips",
    "T2SVLoadAlignment",
    "T2SVLoadLora",
    "T2SVLoadPavDit",
    "T2SVNativeSampler",
)


def open_template(page: Page, name: str) -> None:
    """Open a template, let it run, and put its anchors into an editor where it has any."""
    page.load(json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8")), name)
    if name != RUN:
        for kind, values in QUICK.items():
            for key, value in values.items():
                page.set_widget(node_of(page, kind), key, value)
    page.run()
    if page.evaluate("!!document.querySelector('.t2sv-edit')"):
        page.evaluate("document.querySelector('.t2sv-edit').click()")
    page.page.wait_for_timeout(4000)


def node_of(page: Page, kind: str) -> int:
    """The number of the first node of a kind."""
    return page.evaluate("kind => window.app.graph._nodes.find(n => n.type === kind).id", kind)


def picture(page: Page, kind: str) -> Image.Image:
    """A node on an otherwise empty canvas, as wide as the help pages have it."""
    node = node_of(page, kind)
    page.evaluate(  # and without the page's text: how long this machine took
        "id => { const n = window.app.graph.getNodeById(id);"
        " const text = n.widgets?.find(w => w.name === '$$node-text-preview'); if (text) n.removeWidget(text); }",
        node,
    )
    page.evaluate(
        "id => { window.app.canvas.deselectAll(); const [x, y] = window.app.graph.getNodeById(id).pos;"
        " for (const n of window.app.graph._nodes) if (n.id !== id) n.pos = [x, y + 20000]; }",
        node,
    )
    (x, y), (width, height) = page.evaluate(
        "id => { const n = window.app.graph.getNodeById(id); return [[...n.pos], [...n.size]]; }", node
    )
    scale = (WIDTH - 2 * MARGIN) / width
    left, top = 500, 150
    page.view(x - left / scale, y - top / scale, scale)
    page.page.mouse.move(5, 1000)
    page.page.wait_for_timeout(1500)
    shot = Image.open(BytesIO(page.page.screenshot()))
    # Newer pages have bars beside and above the canvas.
    origin = page.evaluate("() => { const r = window.app.canvas.canvas.getBoundingClientRect(); return [r.x, r.y]; }")
    left, top = left + round(origin[0]), top + round(origin[1])
    title = round(TITLE * scale)
    return shot.crop((left - MARGIN, top - title - MARGIN, left + WIDTH - MARGIN, round(top + height * scale) + MARGIN))


def graph_picture(page: Page, name: str) -> Image.Image:
    """A whole template, as it opens where its models are."""
    page.load(json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8")))
    page.page.wait_for_timeout(3000)
    page.evaluate("() => { for (const n of window.app.graph._nodes) n.has_errors = false; }")
    left, top, right, below = page.evaluate(
        "() => { const boxes = window.app.graph._groups.map(g => [...g._bounding]);"
        " return [Math.min(...boxes.map(b => b[0])), Math.min(...boxes.map(b => b[1])),"
        " Math.max(...boxes.map(b => b[0] + b[2])), Math.max(...boxes.map(b => b[1] + b[3]))]; }"
    )
    scale = 0.75  # at less the page leaves texts out
    x, y = 250, 150  # clear of the page's bars
    width, height = (round(length * scale) + 2 * MARGIN for length in (right - left, below - top))
    page.page.set_viewport_size({"width": x + width + 400, "height": y + height + 200})
    page.view(left - x / scale, top - y / scale, scale)
    page.page.wait_for_timeout(1500)
    shot = Image.open(BytesIO(page.page.screenshot()))
    origin = page.evaluate("() => { const r = window.app.canvas.canvas.getBoundingClientRect(); return [r.x, r.y]; }")
    x, y = x + round(origin[0]) - MARGIN, y + round(origin[1]) - MARGIN
    shot = shot.crop((x, y, x + width, y + height))
    return shot.resize((GRAPH_WIDTH, round(height * GRAPH_WIDTH / width)), Image.Resampling.LANCZOS)


def take(page: Page, wanted: set[str]) -> None:
    """Take and save the pictures of some nodes and templates."""

    def save(kind: str) -> None:
        path = ROOT / "web" / "docs" / "img" / f"{kind}.jpg"
        picture(page, kind).convert("RGB").save(path, quality=88)
        print(path)

    for template, kinds in SEEN.items():
        if wanted & set(kinds):
            open_template(page, template)
            for kind in kinds:
                if kind in wanted:
                    save(kind)
    for kind in sorted(wanted & set(ALONE)):
        page.evaluate("() => window.app.graph.clear()")
        page.evaluate("kind => window.app.graph.add(window.LiteGraph.createNode(kind))", kind)
        save(kind)
    for name in sorted(wanted & set(GRAPHS)):
        path = ROOT / "workflows" / f"{name}.jpg"
        graph_picture(page, name).convert("RGB").save(path, quality=72)
        print(path)


def main(*names: str) -> None:
    """Start a server and a page and take the pictures of these nodes, or of all."""
    every = {kind for kinds in SEEN.values() for kind in kinds} | {*ALONE, *GRAPHS}
    if strangers := set(names) - every:
        raise SystemExit(f"no such nodes or templates: {', '.join(sorted(strangers))}")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        base = Path(folder, "comfyui")
        base.mkdir()
        with serving(checkout(), ROOT, base, None) as server:
            context = playwright.chromium.launch_persistent_context(
                Path(folder, "profile"),
                executable_path=shutil.which("chromium") or shutil.which("chromium-browser"),
                args=list(ARGUMENTS),
                viewport={"width": 1900, "height": 1200},
                timeout=PATIENCE,
            )
            context.set_default_timeout(10 * PATIENCE)
            page: Any = Page(context.pages[0], server, OWN_PAGE, Path(folder))
            take(page, set(names) or every)
            context.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
