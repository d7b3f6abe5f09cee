"""The page of a real ComfyUI in a real Chromium. Each thing that is missing skips the tests with a reason.

COMFYUI_PATH names a ComfyUI checkout, CHROMIUM another Chromium than the system's. COMFYUI_FRONTEND names the
``static`` folder of another page than the checkout's own (``pip install --no-deps --target FOLDER
comfyui-frontend-package``), and the tests run on it too. COMFYUI_PAGE names the one of the four flavours to run on.
Screenshots are kept in ``output/browser``.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from comfyui_server import ComfyServer, checkout, serving

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip
PATIENCE = 300_000  # milliseconds; a page takes ten seconds where the machine has nothing else to do
READY = "!!(window.app && window.app.graph && window.LiteGraph?.registered_node_types?.T2SVMux)"
OWN_PAGE, OWN_PAGE_VUE = "own page", "own page, Vue nodes"
OTHER_PAGE, OTHER_PAGE_VUE = "other page", "other page, Vue nodes"
VUE = (OWN_PAGE_VUE, OTHER_PAGE_VUE)
NATIVE_FILES = Path(__file__).with_name("native_files")
HAS_VUE_NODES = (1, 40)  # versions of the page before had them unfinished or not at all
# Keeps the milliseconds of every interval that runs, in window.ticking.
COUNT_INTERVALS = """
const [set, clear] = [window.setInterval, window.clearInterval];
window.ticking = new Map();
window.setInterval = (tick, every, ...more) => {
  const id = set(tick, every, ...more);
  window.ticking.set(id, every);
  return id;
};
window.clearInterval = (id) => {
  window.ticking.delete(id);
  clear(id);
};
"""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A page loads in ten seconds and a prompt runs for as long: all of this is slow."""
    wanted, left = os.environ.get("COMFYUI_PAGE"), []
    for item in [item for item in items if Path(__file__).parent in item.path.parents]:
        item.add_marker(pytest.mark.slow)
        if wanted and item.callspec.params["flavour"] != wanted:
            left.append(item)
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


@pytest.fixture(scope="session")
def chromium() -> str:
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        pytest.skip("no Chromium here: install the system's package chromium, or name one in CHROMIUM")
    return found


@pytest.fixture(scope="session")
def playwright() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: browser)")
    with api.sync_playwright() as running:
        yield running


@pytest.fixture(scope="session", params=[OWN_PAGE, OWN_PAGE_VUE, OTHER_PAGE, OTHER_PAGE_VUE])
def flavour(request: pytest.FixtureRequest) -> str:
    if request.param in (OTHER_PAGE, OTHER_PAGE_VUE) and not os.environ.get("COMFYUI_FRONTEND"):
        pytest.skip("COMFYUI_FRONTEND is not set: no other page to test on")
    return request.param


@pytest.fixture(scope="session")
def servers(
    root: Path, small_models_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., ComfyServer]]:
    """One server a page and set of other packs; the two flavours of a page share theirs."""
    from contextlib import ExitStack

    running: dict[tuple[Any, ...], ComfyServer] = {}
    with ExitStack() as stack:

        def start(flavour: str, *others: Path) -> ComfyServer:
            other = os.environ.get("COMFYUI_FRONTEND", "")
            options = () if flavour in (OWN_PAGE, OWN_PAGE_VUE) else ("--front-end-root", other)
            if (options, others) not in running:
                base = tmp_path_factory.mktemp("comfyui")
                server = serving(checkout(), root, base, small_models_dir, options, others=others)
                running[options, others] = stack.enter_context(server)
            return running[options, others]

        yield start


@pytest.fixture(scope="session")
def shots(root: Path) -> Path:
    folder = root / "output" / "browser"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Page:
    """ComfyUI's page, with the few things that the tests do on it."""

    def __init__(self, page: Any, server: ComfyServer, flavour: str, shots: Path) -> None:
        self.page, self.server, self.flavour, self._shots = page, server, flavour, shots
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.route("**/*", lambda route: self._let(route))
        page.add_init_script(COUNT_INTERVALS)
        self.evaluate = page.evaluate
        self.is_vue = flavour in VUE
        self.open()

    def _let(self, route: Any) -> None:
        """Nothing outside this machine is asked for."""
        own = route.request.url.startswith((self.server.url, "data:", "blob:"))
        route.continue_() if own else route.abort()

    def open(self, forget: bool = True) -> None:
        """Load the page, for a second time too; the server keeps what it knows if it is not to forget."""
        # Else the first page of a server opens its gallery of templates, on a busy machine over what a test presses.
        done = self.page.request.post(f"{self.server.url}/settings/Comfy.TutorialCompleted", data="true")
        assert done.ok, done.status_text
        self.page.goto(self.server.url, wait_until="domcontentloaded")
        self.page.wait_for_function(READY)
        self.page.wait_for_timeout(1500)
        if self.is_vue and self.version < HAS_VUE_NODES:
            pytest.skip(f"this page, {self.version}, has no Vue nodes")
        self.evaluate(
            "async vue => { const s = window.app.extensionManager.setting;"
            " await s.set('Comfy.VueNodes.Enabled', vue); await s.set('Comfy.Minimap.Visible', false); }",
            self.is_vue,
        )
        self.page.keyboard.press("Escape")
        self.page.wait_for_timeout(500)
        self.errors.clear()  # the page's own start-up noise
        if forget:
            self.forget()
        self.evaluate(
            "() => { window.seen = []; for (const kind of ['executed', 'execution_success', 'execution_error',"
            " 'execution_interrupted'])"
            " window.app.api.addEventListener(kind, event => window.seen.push([kind, event.detail])); }"
        )

    @property
    def version(self) -> tuple[int, ...]:
        """Of the page itself, not of the server."""
        told = self.evaluate("window.__COMFYUI_FRONTEND_VERSION__ ?? '0'")
        return tuple(int(part) for part in re.findall(r"\d+", told)[:3])

    def forget(self) -> None:
        """Let the server run anew what it has run: of a node that is not run again the page is told nothing."""
        self.evaluate(
            "() => window.app.api.fetchApi('/free', { method: 'POST', body: JSON.stringify({ free_memory: true }) })"
        )
        self.page.wait_for_timeout(1500)  # the server does it when it gets round to it

    def load(self, workflow: dict[str, Any], name: str = "test") -> None:
        self.evaluate("async ([w, name]) => { await window.app.loadGraphData(w, true, true, name); }", [workflow, name])
        self.page.wait_for_timeout(1200)
        if self.is_vue:
            self.wait_for("document.querySelectorAll('[data-node-id]').length > 0")
        else:
            assert self.evaluate("document.querySelectorAll('[data-node-id]').length") == 0, "rendered by Vue"

    def view(self, x: float, y: float, scale: float = 1.0) -> None:
        """Show the graph with its point (x, y) in the upper left corner."""
        self.evaluate(
            "([x, y, s]) => { const c = window.app.canvas; c.ds.scale = s; c.ds.offset = [-x, -y];"
            " c.setDirty(true, true); }",
            [x, y, scale],
        )
        self.page.wait_for_timeout(700)

    def view_node(self, node: int) -> None:
        """Bring a node near the upper left corner."""
        x, y = self.evaluate("id => [...window.app.graph.getNodeById(id).pos]", node)
        self.view(x - 300, y - 100, 1.0)

    def set_widget(self, node: int, name: str, value: object) -> None:
        self.evaluate(
            "([id, name, value]) => { const w = window.app.graph.getNodeById(id).widgets.find(w => w.name === name);"
            " w.value = value; w.callback?.(value); }",
            [node, name, value],
        )

    def prompt(self) -> dict[str, Any]:
        """The graph in the API format, as the page would queue it."""
        made = self.evaluate("async () => (await window.app.graphToPrompt()).output")
        for node in made.values():
            node.pop("_meta", None)
        return made

    def queue(self) -> None:
        self.evaluate("async () => { window.seen.length = 0; await window.app.queuePrompt(0, 1); }")

    def wait_for(self, expression: str) -> None:
        self.page.wait_for_function(expression)

    def run(self) -> None:
        """Queue the graph and wait for its end."""
        self.queue()
        self.wait_for("window.seen.some(([kind]) => kind.startsWith('execution_'))")
        ends = self.evaluate("window.seen.filter(([kind]) => kind.startsWith('execution_'))")
        assert [kind for kind, _ in ends] == ["execution_success"], ends
        self.page.wait_for_timeout(1500)

    def shown_by(self, node: int) -> dict[str, Any]:
        """What the server told of a node."""
        return self.evaluate(
            "id => window.seen.find(([kind, d]) => kind === 'executed' && d.node == id)?.[1].output", str(node)
        )

    def intervals(self, every: int) -> int:
        """How many timers of this period run on the page."""
        return self.evaluate("every => [...window.ticking.values()].filter(e => e === every).length", every)

    def shoot(self, name: str) -> Path:
        path = self._shots / f"{name}, {self.flavour}.png"
        self.page.screenshot(path=path)
        return path


@pytest.fixture
def browser(chromium: str, playwright: Any, tmp_path: Path) -> Iterator[Any]:
    """An empty tab of a browser that knows nothing yet."""
    context = playwright.chromium.launch_persistent_context(
        tmp_path / "profile",
        executable_path=chromium,
        headless=True,
        args=list(ARGUMENTS),
        viewport={"width": 1900, "height": 1100},
        timeout=PATIENCE,
    )
    context.set_default_timeout(PATIENCE)
    try:
        yield context.pages[0]
    finally:
        context.close()


@pytest.fixture
def page(browser: Any, servers: Callable[..., ComfyServer], flavour: str, shots: Path) -> Page:
    return Page(browser, servers(flavour), flavour, shots)


@pytest.fixture
def native_page(browser: Any, servers: Callable[..., ComfyServer], flavour: str, shots: Path) -> Page:
    """A page whose server has small models under the names of ComfyUI's own files."""
    return Page(browser, servers(flavour, NATIVE_FILES), flavour, shots)
