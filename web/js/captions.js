// Shows what Expand Prompt made of a prompt: both captions, to be edited, the anchors event by event, the report.
// One button writes the captions into the nodes that they feed. Another hands the anchors over to an Edit Anchors node,
// which then feeds the captions on.
import { app } from "../../../scripts/app.js";
import { el, onOutput, panel, widgetOf, write } from "./dom.js";
import { t } from "./texts.js";

const EDITOR = "T2SVEditAnchors";
const SHOWING = ["T2SVExpandPrompt", EDITOR, "T2SVCaptionVideo"];
const CAPTIONS = ["video_caption", "audio_caption"];
const LABELLED = ["T2SVEncodeCaptions", "T2SVExpandPrompt", EDITOR];
const PANEL = "t2sv_captions";
const HEIGHT = 300;
const [GAP, ABOVE, TITLE] = [40, 130, 30]; // between nodes side by side; over a group's title and a node's; a title
const EDITOR_HEIGHT = 980; // with the captions that it shows after a run
const SHARED_WIDGETS = ["backend", "profile", "server", "model", "quantization", "allow_download", "timeout_seconds"];
const ANCHORS_OF = "anchors_of"; // properties of an editor: whose anchors it got, and the text it got
const ANCHORS_GIVEN = "anchors_given";

/** @typedef {{video: string, audio: string, anchors: string, report: string}} Parts all but the captions as JSON */

/**
 * @param {object} anchors
 * @returns {HTMLElement[]} the anchors in words
 */
function anchorLines(anchors) {
  const lines = anchors.entities.map((entity) => `${entity.name}: ${entity.visual}`);
  const events = [...anchors.events].sort((one, other) => one.order - other.order);
  const said = events.map((event) => {
    const sound = `  →  ${event.sound ? event.sound.heard : t("silent")}`;
    return `${event.order}. ${event.entity} ${event.visual_action}${sound}`;
  });
  const around = [
    `${t("place")}: ${anchors.environment}`,
    `${t("background")}: ${anchors.ambient_sound || t("none")}`,
  ];
  return [lines, said, around].map((part) => el("p", {}, part.join("\n")));
}

/**
 * @param {object} node
 * @param {string} name of an output
 * @returns {{target_id: number, target_slot: number}[]} its links
 */
function linksOf(node, name) {
  const { links } = node.graph;
  return [...(node.outputs[node.findOutputSlot(name)].links ?? [])].map((id) => links.get?.(id) ?? links[id]);
}

/**
 * Do something that undo takes back at once.
 * @param {() => void} change
 */
function asOneChange(change) {
  app.canvas.emitBeforeChange();
  change();
  app.canvas.emitAfterChange();
  app.graph.setDirtyCanvas(true, true);
}

/**
 * Where a node of this size hides no other: right of a node, or else above it, below it or left of it.
 * @param {object} node
 * @param {number[]} size
 * @returns {number[]} its position
 */
function freePlace(node, [width, height]) {
  const [[x, y], [broad, tall]] = [node.pos, node.size];
  const places = [
    [x + broad + GAP, y],
    [x, y - height - ABOVE],
    [x, y + tall + ABOVE],
    [x - width - GAP, y],
  ];
  const isFree = ([left, top]) =>
    !node.graph.nodes.some(({ pos, size }) => {
      const [right, below] = [pos[0] + size[0] + TITLE, pos[1] + size[1] + TITLE];
      return left < right && pos[0] < left + width && top < below && pos[1] - TITLE < top + height;
    });
  return places.find(isFree) ?? places[0];
}

/**
 * Make an Edit Anchors node beside this one, or take the one that was made, and let it feed what this node's captions
 * fed. Anchors that are edited in it stay, unless this node has other anchors now.
 * @param {object} node
 * @param {string} anchors JSON
 */
function editAnchors(node, anchors) {
  const given = JSON.stringify(JSON.parse(anchors), null, 2);
  let editor = node.graph.nodes.find(
    (other) => other.comfyClass === EDITOR && other.properties[ANCHORS_OF] === String(node.id),
  );
  if (!editor) {
    editor = window.LiteGraph.createNode(EDITOR);
    editor.pos = freePlace(node, [editor.size[0], Math.max(editor.size[1], EDITOR_HEIGHT)]);
    node.graph.add(editor);
    editor.properties[ANCHORS_OF] = String(node.id);
    for (const name of SHARED_WIDGETS) {
      const [from, to] = [widgetOf(node, name), widgetOf(editor, name)];
      if (from && to) to.value = from.value;
    }
  }
  if (editor.properties[ANCHORS_GIVEN] !== given) {
    editor.properties[ANCHORS_GIVEN] = given;
    write(widgetOf(editor, "anchors"), given);
  }
  for (const name of CAPTIONS) {
    const slot = editor.findOutputSlot(name);
    for (const link of linksOf(node, name)) {
      const target = node.graph.getNodeById(link.target_id);
      if (target) editor.connect(slot, target, link.target_slot);
      // An output of the subgraph that both stand in is no node.
      else node.graph.outputs?.[link.target_slot]?.connect(editor.outputs[slot], editor);
    }
  }
  // The page selects the node that was clicked in, when the click is over.
  setTimeout(() => {
    app.canvas.selectNode(editor);
    if (editor.pos[1] !== node.pos[1]) app.canvas.centerOnNode(editor); // it is not beside this one
  });
}

/** @typedef {{target: object, input: string, widget: object}} Field an input and the text field behind it */

/** @type {WeakMap<object, Record<string, Field[]>>} what captions fed before they were written */
const fed = new WeakMap();

/**
 * The inputs with a text field that an output feeds, or fed until its text was written into them.
 * @param {object} node
 * @param {string} name of the output
 * @returns {Field[]}
 */
function fieldsOf(node, name) {
  const linked = linksOf(node, name).flatMap((link) => {
    const target = node.graph.getNodeById(link.target_id);
    const { name: input, widget: named } = target?.inputs[link.target_slot] ?? {};
    const widget = target && widgetOf(target, named?.name ?? input);
    return widget ? [{ target, input, widget }] : [];
  });
  const before = (fed.get(node)?.[name] ?? []).filter(
    ({ target, input }) =>
      node.graph.getNodeById(target.id) === target && target.inputs[target.findInputSlot(input)].link == null,
  );
  return [...linked, ...before];
}

/**
 * Write captions into the nodes that they feed and cut the links.
 * @param {object} node
 * @param {Record<string, string>} texts by output
 * @returns {string} what became of them
 */
function useCaptions(node, texts) {
  const fields = Object.fromEntries(CAPTIONS.map((name) => [name, fieldsOf(node, name)]));
  fed.set(node, fields);
  for (const name of CAPTIONS) {
    for (const { target, input, widget } of fields[name]) {
      const slot = target.findInputSlot(input);
      if (target.inputs[slot].link != null) target.disconnectInput(slot);
      write(widget, texts[name]);
    }
  }
  const titles = new Set(CAPTIONS.flatMap((name) => fields[name].map(({ target }) => target.title)));
  return titles.size ? t("captionsUsed", { nodes: [...titles].join(", ") }) : t("captionsUnused");
}

/**
 * @param {object} node
 * @param {Parts} parts
 */
function show(node, parts) {
  const element = panel(node, PANEL, HEIGHT);
  const video = el("textarea", { className: "t2sv-video-caption", value: parts.video, rows: 5 });
  const audio = el("textarea", { className: "t2sv-audio-caption", value: parts.audio, rows: 2 });
  const said = el("p", { className: "t2sv-said" });
  const use = el("button", { type: "button", className: "t2sv-use", title: t("useCaptionsHint") }, t("useCaptions"));
  use.onclick = () =>
    asOneChange(() => {
      said.textContent = useCaptions(node, { video_caption: video.value, audio_caption: audio.value });
    });
  const children = [el("h4", {}, t("seen")), video, el("h4", {}, t("heard")), audio, use, said];
  if (parts.anchors) {
    children.push(el("h4", {}, t("anchors")), ...anchorLines(JSON.parse(parts.anchors)));
    if (node.comfyClass !== EDITOR) {
      const edit = el("button", { type: "button", className: "t2sv-edit", title: t("editAnchorsHint") });
      edit.textContent = t("editAnchors");
      edit.onclick = () => asOneChange(() => editAnchors(node, parts.anchors));
      children.push(edit);
    }
  }
  const { notes = [] } = JSON.parse(parts.report || "{}");
  children.push(...notes.map((note) => el("p", { className: "t2sv-note" }, note)));
  const report = el("details", {}, el("summary", {}, t("report")), el("p", {}, parts.report));
  element.replaceChildren(...children, report);
}

/**
 * Say above each text box what it is, also while it is full: on the canvas the page draws no labels beside text boxes.
 * Between two boxes there is room for a small line.
 * @param {object} node
 */
function labelBoxes(node) {
  const draw = node.onDrawForeground;
  node.onDrawForeground = function (ctx) {
    draw?.apply(this, arguments);
    if (this.flags?.collapsed || app.canvas.low_quality) return;
    ctx.save();
    ctx.font = "10px system-ui, sans-serif";
    ctx.fillStyle = window.LiteGraph.WIDGET_SECONDARY_TEXT_COLOR ?? "#999";
    ctx.textAlign = "left";
    for (const widget of boxesOf(this)) ctx.fillText(labelOf(widget), 16, widget.y + 7);
    ctx.restore();
  };
  for (const widget of boxesOf(node)) widget.element.title = widget.element.placeholder = labelOf(widget);
}

/** @param {object} node its text boxes */
function boxesOf(node) {
  const linked = (widget) => node.inputs?.some((input) => input.widget?.name === widget.name && input.link != null);
  return (node.widgets ?? []).filter((widget) => widget.element?.tagName === "TEXTAREA" && !linked(widget));
}

/** @param {object} widget its name in the page's language */
function labelOf(widget) {
  return (widget.label ?? widget.name).replaceAll("_", " ");
}

app.registerExtension({
  name: "SoundingVideo.Captions",
  nodeCreated(node) {
    if (LABELLED.includes(node.comfyClass)) setTimeout(() => labelBoxes(node));
  },
});

onOutput(SHOWING, (node, output) => {
  const parts = output.sounding_video_captions?.at(-1);
  if (parts) show(node, parts);
});
