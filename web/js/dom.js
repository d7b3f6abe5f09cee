// Building blocks for the panels on nodes: elements without markup strings, one way to hang them on a node.
import { app } from "../../../scripts/app.js";

// The page says that it is dark by a class, and since 1.58 by its colour scheme.
const STYLE = `
.t2sv { box-sizing: border-box; width: 100%; height: 100%; overflow: auto; font: 12px/1.45 system-ui, sans-serif;
  color: var(--input-text, #ddd); background: var(--comfy-input-bg, #222); border-radius: 6px; padding: 6px 8px; }
.t2sv canvas { display: block; width: 100%; border-radius: 4px; background: #101018; }
.t2sv h4 { margin: 6px 0 2px; font-size: 11px; font-weight: 600; text-transform: uppercase; }
.t2sv p { margin: 0 0 4px; white-space: pre-wrap; overflow-wrap: anywhere; user-select: text; }
.t2sv textarea, .t2sv input, .t2sv select { box-sizing: border-box; width: 100%; font: inherit; color: inherit; padding: 2px 4px;
  background: var(--comfy-menu-bg, #333); border: 1px solid var(--border-color, #555); border-radius: 4px; }
.t2sv textarea { resize: vertical; min-height: 3.2em; }
.t2sv button { font: inherit; color: inherit; padding: 2px 8px; cursor: pointer; border-radius: 4px;
  background: var(--comfy-menu-bg, #333); border: 1px solid var(--border-color, #555); }
.t2sv label { display: grid; grid-template-columns: 86px 1fr; gap: 4px; align-items: center; margin: 2px 0; }
.t2sv fieldset { margin: 4px 0; padding: 2px 6px 4px; border: 1px solid var(--border-color, #555); border-radius: 4px; }
.t2sv .t2sv-bad { color: #a01818; color: light-dark(#a01818, #f88); }
.t2sv .t2sv-good { color: #14601c; color: light-dark(#14601c, #7c7); }
.dark-theme .t2sv .t2sv-bad { color: #f88; }
.dark-theme .t2sv .t2sv-good { color: #7c7; }
.t2sv .t2sv-row { display: flex; gap: 6px; align-items: center; }
.t2sv .t2sv-row > * { flex: 1; }
.t2sv .t2sv-row > button { flex: none; }
.t2sv .t2sv-row > label { grid-template-columns: auto minmax(32px, 1fr); white-space: nowrap; }
.t2sv .t2sv-row > .t2sv-name { flex: none; width: 82px; white-space: nowrap; }
.t2sv .t2sv-bar { flex: 4; height: 9px; background: var(--comfy-menu-bg, #333); border-radius: 3px; overflow: hidden; }
.t2sv .t2sv-bar > div { height: 100%; background: #4a90d9; }
.t2sv .t2sv-bar > div.t2sv-full { background: #d9534f; }
`;

let styled = false;

/** Put the panels' style sheet into the page, once. */
function addStyle() {
  if (styled) return;
  styled = true;
  document.head.append(el("style", {}, STYLE));
}

/**
 * Make an element. Texts become text nodes, so nothing in them is ever read as markup.
 * @param {string} tag
 * @param {Record<string, unknown>} [properties] set on the element as properties, e.g. className, onclick
 * @param {...(Node|string)} children
 * @returns {HTMLElement}
 */
export function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  Object.assign(element, properties);
  element.append(...children);
  return element;
}

/** @type {WeakMap<HTMLElement, number>} height of each panel in pixels, margins included */
const heights = new WeakMap();

/** Remember a panel's height. Vue nodes would else give it as much as is in it; it scrolls instead. */
function keep(element, height) {
  heights.set(element, height);
  element.style.maxHeight = `${height}px`;
}

/**
 * Hang an element on a node as a widget that is not part of the workflow. Calling it again with the same name gives the
 * panel that is there, at the new height.
 * @param {object} node LiteGraph node
 * @param {string} name of the widget
 * @param {number} height in pixels, margins included
 * @returns {HTMLElement} the panel, to be filled
 */
export function panel(node, name, height) {
  const existing = widgetOf(node, name);
  if (existing) {
    resize(node, existing.element, height);
    return existing.element;
  }
  addStyle();
  const element = el("div", { className: "t2sv" });
  keep(element, height);
  const tall = () => heights.get(element);
  // The page zooms on the wheel and deletes nodes on a key; inside a panel both belong to the panel. Only the keys that
  // run the graph go on to the page.
  for (const event of ["wheel", "keydown", "pointerdown", "contextmenu"]) {
    element.addEventListener(event, (happened) => {
      const runs = happened.key === "Enter" && (happened.ctrlKey || happened.metaKey);
      if (!runs) happened.stopPropagation();
    });
  }
  const widget = node.addDOMWidget(name, "t2sv_panel", element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: tall,
    getMaxHeight: tall,
  });
  widget.serialize = false;
  widget.computeLayoutSize = () => ({ minHeight: tall(), maxHeight: tall(), minWidth: 0 });
  makeRoom(node);
  return element;
}

/**
 * Give a panel another height.
 * @param {object} node
 * @param {HTMLElement} element the panel
 * @param {number} height in pixels, margins included
 */
export function resize(node, element, height) {
  if (heights.get(element) === height) return;
  keep(element, height);
  makeRoom(node);
}

/**
 * Take a panel off its node, if it is there.
 * @param {object} node
 * @param {string} name of the widget
 */
export function close(node, name) {
  const widget = widgetOf(node, name);
  if (widget) node.removeWidget(widget);
}

/** Make a node as large as its widgets need, and never smaller than it is. */
function makeRoom(node) {
  const [width, height] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(node.size[1], height)]);
  app.graph.setDirtyCanvas(true, true);
}

/**
 * Call a function in turn for as long as a node is in a graph. The page may leave `node.graph` set on a node that it
 * has thrown away, so only its callbacks tell.
 * @param {object} node
 * @param {number} every milliseconds
 * @param {() => void} tick
 */
export function whileInGraph(node, every, tick) {
  let timer = null;
  const start = () => {
    timer ??= setInterval(tick, every);
  };
  const stop = () => {
    clearInterval(timer);
    timer = null;
  };
  chain(node, "onAdded", start);
  chain(node, "onRemoved", stop);
  if (node.graph) start();
}

/** Let a callback of an object do something more. */
function chain(object, name, more) {
  const before = object[name];
  object[name] = function () {
    const answer = before?.apply(this, arguments);
    more.apply(this, arguments);
    return answer;
  };
}

/** @typedef {(node: object, output: Record<string, any>) => void} Show */

/** @type {{kinds: string[], show: Show}[]} */
const shows = [];
/** @type {WeakMap<object, string>} what is on a node already: edits in a panel outlive a run that changed nothing */
const standing = new WeakMap();

/**
 * Call a function with what a node gave: after it has run, and when the page brings the node back with it, as on undo,
 * on redo, on another workflow's tab.
 * @param {string[]} kinds ids of nodes; empty for all of ours
 * @param {Show} show
 */
export function onOutput(kinds, show) {
  shows.push({ kinds, show });
}

/** @type {Show} */
function give(node, output) {
  const text = JSON.stringify(output);
  if (standing.get(node) === text) return;
  standing.set(node, text);
  for (const { kinds, show } of shows) {
    if (!kinds.length || kinds.includes(node.comfyClass)) show(node, output);
  }
}

let waiting = null;

/** Give the nodes what the page remembers of them, once the graph stands. */
function giveAgain() {
  waiting ??= setTimeout(() => {
    waiting = null;
    for (const [key, output] of Object.entries(app.nodeOutputs ?? {})) {
      const node = nodeById(key);
      if (isOurs(node?.comfyClass) && output) give(node, output);
    }
  });
}

/** @param {string|undefined} kind id of a node */
function isOurs(kind) {
  return Boolean(kind?.startsWith("T2SV"));
}

/**
 * The node with this id: "12"; "5:12" inside a subgraph's node, as the server names it; or the subgraph's own id before
 * the colon, as the page keeps outputs.
 * @param {string|number} id
 * @returns {object|null}
 */
export function nodeById(id) {
  let graph = app.graph;
  let node = null;
  for (const part of String(id).split(":")) {
    const inside = app.graph.subgraphs?.get(part);
    node = inside ? null : (graph?.getNodeById(Number(part)) ?? graph?.getNodeById(part) ?? null);
    graph = inside ?? node?.subgraph;
  }
  return node;
}

/**
 * @param {object} node
 * @param {string} name
 * @returns {object|undefined} the widget of that name
 */
export function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

/**
 * Write into a widget as a user does.
 * @param {object} widget
 * @param {string} value
 */
export function write(widget, value) {
  widget.value = value;
  widget.callback?.(value);
}

app.registerExtension({
  name: "SoundingVideo.Outputs",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!isOurs(nodeData.name)) return;
    chain(nodeType.prototype, "onExecuted", function (output) {
      if (output) give(this, output);
    });
  },
  nodeCreated(node) {
    if (isOurs(node.comfyClass)) giveAgain();
  },
  onNodeOutputsUpdated: giveAgain,
});
