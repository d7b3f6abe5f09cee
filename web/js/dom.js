// Building blocks for the panels on nodes: elements without markup strings, one way to hang them on a node.
import { app } from "../../../scripts/app.js";

const STYLE = `
.t2sv { box-sizing: border-box; width: 100%; height: 100%; overflow: auto; font: 12px/1.45 system-ui, sans-serif;
  color: var(--input-text, #ddd); background: var(--comfy-input-bg, #222); border-radius: 6px; padding: 6px 8px; }
.t2sv canvas { display: block; width: 100%; border-radius: 4px; background: #101018; }
.t2sv h4 { margin: 6px 0 2px; font-size: 11px; font-weight: 600; opacity: 0.7; text-transform: uppercase; }
.t2sv p { margin: 0 0 4px; white-space: pre-wrap; overflow-wrap: anywhere; user-select: text; }
.t2sv textarea, .t2sv input { box-sizing: border-box; width: 100%; font: inherit; color: inherit; padding: 2px 4px;
  background: var(--comfy-menu-bg, #333); border: 1px solid var(--border-color, #555); border-radius: 4px; }
.t2sv textarea { resize: vertical; min-height: 3.2em; }
.t2sv button { font: inherit; color: inherit; padding: 2px 8px; cursor: pointer; border-radius: 4px;
  background: var(--comfy-menu-bg, #333); border: 1px solid var(--border-color, #555); }
.t2sv label { display: grid; grid-template-columns: 86px 1fr; gap: 4px; align-items: center; margin: 2px 0; }
.t2sv fieldset { margin: 4px 0; padding: 2px 6px 4px; border: 1px solid var(--border-color, #555); border-radius: 4px; }
.t2sv .t2sv-bad { color: var(--error-text, #f77); }
.t2sv .t2sv-good { color: #7c7; }
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

/**
 * Hang an element on a node as a widget that is not part of the workflow. Calling it again with the same name gives the
 * panel that is there.
 * @param {object} node LiteGraph node
 * @param {string} name of the widget
 * @param {number} height in pixels, margins included
 * @returns {HTMLElement} the panel, to be filled
 */
export function panel(node, name, height) {
  const existing = node.widgets?.find((widget) => widget.name === name);
  if (existing) return existing.element;
  addStyle();
  const element = el("div", { className: "t2sv" });
  // The page zooms on the wheel and deletes nodes on a key; inside a panel both belong to the panel.
  for (const event of ["wheel", "keydown", "pointerdown", "contextmenu"]) {
    element.addEventListener(event, (happened) => happened.stopPropagation());
  }
  const widget = node.addDOMWidget(name, "t2sv_panel", element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => height,
    getMaxHeight: () => height,
  });
  widget.serialize = false;
  widget.computeLayoutSize = () => ({ minHeight: height, maxHeight: height, minWidth: 0 });
  const [width] = node.size;
  const wanted = node.computeSize();
  node.setSize([Math.max(width, wanted[0]), Math.max(node.size[1], wanted[1])]);
  app.graph.setDirtyCanvas(true, true);
  return element;
}

/**
 * Call a function after a node of one of these kinds has run.
 * @param {object} nodeType
 * @param {(node: object, output: Record<string, any>) => void} show
 */
export function afterRun(nodeType, show) {
  const before = nodeType.prototype.onExecuted;
  nodeType.prototype.onExecuted = function (output) {
    before?.apply(this, arguments);
    if (output) show(this, output);
  };
}

/**
 * The node with this id as the server names it: "12", or "5:12" inside a subgraph.
 * @param {string|number} id
 * @returns {object|null}
 */
export function nodeById(id) {
  let graph = app.graph;
  let node = null;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(Number(part)) ?? graph?.getNodeById(part) ?? null;
    graph = node?.subgraph;
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
