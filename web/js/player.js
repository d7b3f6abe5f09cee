// Under the video of the save node: the waveform over the clip's time, its onsets, and a line where the player is.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { afterRun, el, panel } from "./dom.js";

const NODES = ["T2SVMux"];
const PANEL = "t2sv_timeline";
const STRIP = 56;
const MOST = 6;
const FOLLOW_EVERY = 90; // milliseconds

/** @typedef {{seconds: number, fps: number|null, outline: number[][], onsets: number[]}} Timeline */

/**
 * Where a saved file is served.
 * @param {{filename: string, subfolder: string, type: string}} file
 */
function address(file) {
  const { filename, subfolder, type } = file;
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`);
}

/**
 * The page's own video element of a file, if it made one.
 * @param {{filename: string, subfolder: string}} file
 * @returns {HTMLVideoElement|undefined}
 */
function nativeVideo(file) {
  return [...document.querySelectorAll("video")].find((video) => {
    const query = new URL(video.currentSrc || video.src || "about:blank", location.href).searchParams;
    return query.get("filename") === file.filename && (query.get("subfolder") ?? "") === file.subfolder;
  });
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Timeline} timeline
 * @param {number|null} now seconds
 */
function draw(canvas, timeline, now) {
  const scale = window.devicePixelRatio || 1;
  const width = canvas.clientWidth || 300;
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
  if (now !== null) {
    context.fillStyle = "#ffffff";
    context.fillRect(Math.min(width - 2, (now / timeline.seconds) * width), 0, 2, STRIP);
  }
}

/**
 * One strip: it follows the clip's video and seeks in it.
 * @param {Timeline} timeline
 * @param {{filename: string, subfolder: string, type: string}} file
 * @returns {HTMLElement}
 */
function strip(timeline, file) {
  const canvas = el("canvas", { title: "Click to go there" });
  canvas.style.height = `${STRIP}px`;
  canvas.style.cursor = "pointer";
  const words = el("p", { className: "t2sv-words" });
  const holder = el("div", {}, canvas, words);
  let own = null;
  const media = () => nativeVideo(file) ?? own;
  words.textContent = describe(timeline);
  canvas.onclick = (event) => {
    const player = media();
    if (player) player.currentTime = (event.offsetX / canvas.clientWidth) * timeline.seconds;
  };
  let last = -1;
  const follow = () => {
    if (canvas.isConnected) {
      const now = media()?.currentTime ?? null;
      if (now !== last || canvas.width !== Math.round(canvas.clientWidth * (window.devicePixelRatio || 1))) {
        last = now;
        draw(canvas, timeline, now);
      }
    }
    if (!holder.dataset.gone) setTimeout(follow, FOLLOW_EVERY);
  };
  setTimeout(follow, FOLLOW_EVERY);
  // The page shows no player for sound alone, nor for kinds of files it does not know.
  setTimeout(() => {
    if (nativeVideo(file) || holder.dataset.gone) return;
    own = el(timeline.fps ? "video" : "audio", { src: address(file), controls: true, loop: true });
    own.style.width = "100%";
    holder.prepend(own);
  }, 2500);
  return holder;
}

/**
 * @param {Timeline} timeline
 * @returns {string}
 */
function describe({ seconds, onsets, outline }) {
  if (!outline.length) return `${seconds.toFixed(2)} s, no sound`;
  const first = onsets.slice(0, 8).map((time) => time.toFixed(2));
  const times = onsets.length ? ` at ${first.join(", ")}${onsets.length > 8 ? " …" : ""} s` : "";
  return `${seconds.toFixed(2)} s, ${onsets.length} onset${onsets.length === 1 ? "" : "s"}${times}`;
}

app.registerExtension({
  name: "SoundingVideo.Player",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!NODES.includes(nodeData.name)) return;
    afterRun(nodeType, (node, output) => {
      const timelines = output.sounding_video_timeline ?? [];
      if (!timelines.length) return;
      const count = Math.min(MOST, timelines.length);
      const element = panel(node, PANEL, (STRIP + 28) * count + 28);
      for (const old of element.children) old.dataset.gone = "yes";
      element.replaceChildren(...timelines.slice(0, count).map((one, index) => strip(one, output.images[index])));
    });
  },
});
