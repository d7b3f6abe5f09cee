// With the clip of the save node: the waveform over its time, onsets, motion peaks, and a line where the player is.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { el, nodeById, onOutput, panel, resize, whileInGraph } from "./dom.js";
import { t } from "./texts.js";

const PANEL = "t2sv_timeline";
const STRIP = 56;
const WORDS = 28;
const MORE_WORDS = 46; // two lines
const ARROW = 6;
const OWN = { video: 206, audio: 60 };
const MARGINS = 28;
const MOST = 6;
const FOLLOW_EVERY = 90; // milliseconds
const OWN_AFTER = 2500; // the page shows its own player within this, or later where the link is slow

/**
 * `peaks` is missing in the results of older versions, and null where the motion was not measured.
 * @typedef {{seconds: number, fps: number|null, outline: number[][], onsets: number[], peaks?: number[]|null}} Timeline
 */
/** @typedef {{filename: string, subfolder: string, type: string}} File */

/**
 * Where a saved file is served.
 * @param {File} file
 */
function address(file) {
  const { filename, subfolder, type } = file;
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Timeline} timeline
 * @param {number|null} now seconds
 */
function draw(canvas, timeline, now) {
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  canvas.width = width * scale;
  canvas.height = STRIP * scale;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  const middle = STRIP / 2;
  const reach = Math.max(100, ...timeline.outline.flat().map(Math.abs));
  const column = width / Math.max(1, timeline.outline.length);
  context.fillStyle = "#6fa8dc";
  timeline.outline.forEach(([low, high], index) => {
    const top = middle - (high / reach) * middle;
    context.fillRect(index * column, top, Math.max(1, column), Math.max(1, ((high - low) / reach) * middle));
  });
  context.fillStyle = "#e5573f";
  for (const onset of timeline.onsets) context.fillRect((onset / timeline.seconds) * width, 0, 1.5, STRIP);
  context.fillStyle = "#f0963c";
  for (const peak of timeline.peaks ?? []) arrow(context, (peak / timeline.seconds) * width);
  if (now !== null) {
    context.fillStyle = "#ffffff";
    context.fillRect(Math.min(width - 2, (now / timeline.seconds) * width), 0, 2, STRIP);
  }
}

/**
 * A small arrow on the strip's lower edge.
 * @param {CanvasRenderingContext2D} context
 * @param {number} x
 */
function arrow(context, x) {
  context.beginPath();
  context.moveTo(x, STRIP - 1.5 * ARROW);
  context.lineTo(x - ARROW, STRIP);
  context.lineTo(x + ARROW, STRIP);
  context.fill();
}

/**
 * @param {Timeline} timeline
 * @returns {string}
 */
function describe(timeline) {
  const { peaks } = timeline;
  return describeSound(timeline) + (peaks ? ` · ${t("motionPeaks", { count: peaks.length })}` : "");
}

/**
 * @param {Timeline} timeline
 * @returns {string}
 */
function describeSound({ seconds, onsets, outline }) {
  const length = seconds.toFixed(2);
  if (!outline.length) return t("noSound", { seconds: length });
  if (!onsets.length) return t("noOnset", { seconds: length });
  const first = onsets.slice(0, 5).map((time) => time.toFixed(2));
  const times = first.join(", ") + (onsets.length > first.length ? " …" : "");
  return t(onsets.length === 1 ? "oneOnset" : "onsets", { seconds: length, count: onsets.length, times });
}

/** One clip's strip: it follows the clip's player and seeks in it. */
class Strip {
  /**
   * @param {object} node
   * @param {Timeline} timeline
   * @param {File} file
   */
  constructor(node, timeline, file) {
    Object.assign(this, { node, timeline, file });
    this.canvas = el("canvas", { title: t("seek"), onclick: (event) => this.seek(event) });
    this.canvas.style.height = `${STRIP}px`;
    this.canvas.style.cursor = "pointer";
    this.element = el("div", {}, this.canvas, el("p", { className: "t2sv-words" }, describe(timeline)));
    this.own = null;
    this.last = null;
    this.alone = null; // since when the page shows no player of this clip
  }

  get height() {
    return STRIP + (this.timeline.peaks ? MORE_WORDS : WORDS) + (this.own ? OWN[this.own.localName] : 0);
  }

  /** The page's own player of the clip: on the canvas in a container of the node, or in the node's element. */
  get native() {
    const homes = [this.node.videoContainer, this.canvas.closest("[data-node-id]")];
    return homes
      .flatMap((home) => [...(home?.querySelectorAll("video, audio") ?? [])])
      .find((player) => {
        if (!player.isConnected || player.closest(".t2sv")) return false;
        const query = new URL(player.currentSrc || player.src || "about:blank", location.href).searchParams;
        return query.get("filename") === this.file.filename && (query.get("subfolder") ?? "") === this.file.subfolder;
      });
  }

  seek(event) {
    const player = this.native ?? this.own;
    if (player) player.currentTime = (event.offsetX / this.canvas.clientWidth) * this.timeline.seconds;
  }

  follow() {
    const { canvas } = this;
    if (!canvas.isConnected || !canvas.clientWidth) return;
    const native = this.native;
    this.standIn(native);
    const now = (native ?? this.own)?.currentTime ?? null;
    if (now === this.last && canvas.width === Math.floor(canvas.clientWidth * (window.devicePixelRatio || 1))) return;
    this.last = now;
    draw(canvas, this.timeline, now);
  }

  /**
   * A player of our own for as long as the page has none: for sound alone, for kinds of files that it does not know,
   * for all clips but the one that it shows.
   * @param {HTMLVideoElement|undefined} native
   */
  standIn(native) {
    if (native) {
      this.alone = null;
      this.own?.remove();
      this.own = null;
      return;
    }
    this.alone ??= performance.now();
    if (this.own || performance.now() - this.alone < OWN_AFTER) return;
    const kind = this.timeline.fps ? "video" : "audio";
    this.own = el(kind, { src: address(this.file), controls: true, loop: true });
    this.own.style.cssText = `display: block; width: 100%; height: ${OWN[kind] - 6}px; margin-bottom: 6px`;
    this.element.prepend(this.own);
  }
}

/**
 * On the canvas the page makes its player a widget, which comes after ours: let ours stand under it.
 * @param {object} node
 */
function putLast(node) {
  const at = (name) => node.widgets.findIndex((widget) => widget.name === name);
  if (at("video-preview") < at(PANEL)) return;
  node.widgets.push(...node.widgets.splice(at(PANEL), 1));
  node.arrange?.(); // or both stay where they stood until the node changes
  app.graph.setDirtyCanvas(true, true);
}

/** @type {WeakMap<object, Strip[]>} */
const strips = new WeakMap();

/** @param {object} node */
function follow(node) {
  const shown = strips.get(node);
  for (const strip of shown) strip.follow();
  resize(node, shown[0].element.parentElement, heightOf(shown));
  putLast(node);
}

/** @param {Strip[]} shown */
function heightOf(shown) {
  return shown.reduce((sum, strip) => sum + strip.height, MARGINS);
}

/** @type {import("./dom.js").Show} */
function show(node, output) {
  const timelines = (output.sounding_video_timeline ?? []).slice(0, MOST);
  if (!timelines.length) return;
  const files = output.images ?? output.audio;
  const shown = timelines.map((timeline, index) => new Strip(node, timeline, files[index]));
  panel(node, PANEL, heightOf(shown)).replaceChildren(...shown.map((strip) => strip.element));
  if (!strips.has(node)) whileInGraph(node, FOLLOW_EVERY, () => follow(node));
  strips.set(node, shown);
}

onOutput(["T2SVMux"], show);

// A save node in a subgraph: whoever looks at the subgraph's node from outside sees the clip too.
api.addEventListener("executed", ({ detail }) => {
  const id = String(detail.display_node ?? detail.node);
  for (let end = id.lastIndexOf(":"); detail.output && end > 0; end = id.lastIndexOf(":", end - 1)) {
    const outside = nodeById(id.slice(0, end));
    if (outside) show(outside, detail.output);
  }
});
