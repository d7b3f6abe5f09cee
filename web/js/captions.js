// Shows what Expand Prompt made of a prompt: both captions, the anchors event by event, the report. One button hands
// the anchors over to an Edit Anchors node, from which the graph then takes its captions.
import { app } from "../../../scripts/app.js";
import { afterRun, el, panel, widgetOf } from "./dom.js";

const SHOWING = ["T2SVExpandPrompt", "T2SVEditAnchors", "T2SVCaptionVideo"];
const PANEL = "t2sv_captions";
const HEIGHT = 300;
const SHARED_WIDGETS = ["backend", "profile", "server", "model"];

/** @typedef {{video: string, audio: string, anchors: string, report: string}} Parts all but the captions as JSON */

/**
 * @param {object} anchors
 * @returns {HTMLElement[]} the anchors in words
 */
function anchorLines(anchors) {
  const lines = anchors.entities.map((entity) => `${entity.name}: ${entity.visual}`);
  const events = [...anchors.events].sort((one, other) => one.order - other.order);
  const said = events.map((event) => {
    const sound = event.sound ? `  →  ${event.sound.heard}` : "  →  (silent)";
    return `${event.order}. ${event.entity} ${event.visual_action}${sound}`;
  });
  return [
    el("p", {}, lines.join("\n")),
    el("p", {}, said.join("\n")),
    el("p", {}, `place: ${anchors.environment}\nbackground: ${anchors.ambient_sound || "(none)"}`),
  ];
}

/**
 * Make an Edit Anchors node beside this one, filled with its anchors, and let it feed what this node's captions fed.
 * @param {object} node
 * @param {string} anchors JSON
 */
function editAnchors(node, anchors) {
  const editor = window.LiteGraph.createNode("T2SVEditAnchors");
  editor.pos = [node.pos[0] + node.size[0] + 40, node.pos[1]];
  node.graph.add(editor);
  for (const name of SHARED_WIDGETS) {
    const [from, to] = [widgetOf(node, name), widgetOf(editor, name)];
    if (from && to) to.value = from.value;
  }
  const text = widgetOf(editor, "anchors");
  text.value = JSON.stringify(JSON.parse(anchors), null, 2);
  text.callback?.(text.value);
  for (const name of ["video_caption", "audio_caption"]) {
    const slot = node.findOutputSlot(name);
    const links = [...(node.outputs[slot].links ?? [])];
    for (const id of links) {
      const link = node.graph.links.get?.(id) ?? node.graph.links[id];
      const target = node.graph.getNodeById(link.target_id);
      editor.connect(editor.findOutputSlot(name), target, link.target_slot);
    }
  }
  app.graph.setDirtyCanvas(true, true);
}

/**
 * @param {object} node
 * @param {Parts} parts
 */
function show(node, parts) {
  const element = panel(node, PANEL, HEIGHT);
  const children = [
    el("h4", {}, "seen"),
    el("p", { className: "t2sv-video-caption" }, parts.video),
    el("h4", {}, "heard"),
    el("p", { className: "t2sv-audio-caption" }, parts.audio),
  ];
  if (parts.anchors) {
    children.push(el("h4", {}, "anchors"), ...anchorLines(JSON.parse(parts.anchors)));
    if (node.comfyClass !== "T2SVEditAnchors") {
      const button = el("button", { type: "button", className: "t2sv-edit" }, "Edit anchors…");
      button.title = "Opens them in an Edit Anchors node, which then feeds the captions on";
      button.onclick = () => editAnchors(node, parts.anchors);
      children.push(button);
    }
  }
  const report = el("details", {}, el("summary", {}, "report"), el("p", {}, parts.report));
  element.replaceChildren(...children, report);
}

app.registerExtension({
  name: "SoundingVideo.Captions",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!SHOWING.includes(nodeData.name)) return;
    afterRun(nodeType, (node, output) => {
      const parts = output.sounding_video_captions?.at(-1);
      if (parts) show(node, parts);
    });
  },
});
