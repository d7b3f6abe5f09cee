// Plays the live preview on the node that samples. The server sends one still picture with all frames on it (any client
// can show that) and says before it how the frames are laid out.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { close, nodeById, panel } from "./dom.js";

const EVENT = "sounding_video.preview";
const PANEL = "t2sv_preview";
const HEIGHT = 260;
const DRAW_EVERY = 90; // milliseconds
const TILES_A_SECOND = 3.75; // where the length is not known: 15 frames per second, four to a latent frame
const SAMPLERS = ["T2SVJointSampler", "T2SVNativeSampler"];
const NOWHERE = "-1"; // no node has this id

/**
 * @typedef {{node: string, count: number, columns: number, tile: number[], strip: number, seconds: number|null}} Layout
 * @typedef {{layout: Layout, bitmap: ImageBitmap, canvas: HTMLCanvasElement}} Playing
 */

/** @type {Map<string, Layout>} layouts whose picture is still on its way */
const announced = new Map();
/** @type {Set<string>} nodes that may be running and have sent a picture */
const sending = new Set();
/** @type {Map<string, number>} the number of the picture that a node shows */
const shownNumbers = new Map();
/** @type {Map<string, Playing>} what is shown, by node */
const playing = new Map();

/**
 * Draw the frame of this moment above the spectrogram and a line at its time.
 * @param {Playing} shown
 * @param {number} seconds since any fixed moment
 */
function draw({ layout, bitmap, canvas }, seconds) {
  const { count, columns, strip } = layout;
  const [width, height] = layout.tile;
  const length = layout.seconds || Math.max(1, count) / TILES_A_SECOND;
  const share = (seconds % length) / length;
  const stripHeight = strip ? Math.max(36, strip) : 0;
  const scale = window.devicePixelRatio || 1;
  const view = { width: canvas.clientWidth || 300, height: HEIGHT - 32 };
  canvas.width = view.width * scale;
  canvas.height = view.height * scale;
  canvas.style.height = `${view.height}px`;
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.imageSmoothingQuality = "high";
  if (count) {
    const room = view.height - stripHeight - (strip ? 4 : 0);
    const zoom = Math.min(view.width / width, room / height);
    const index = Math.min(count - 1, Math.floor(share * count));
    const from = [(index % columns) * width, Math.floor(index / columns) * height];
    const left = (view.width - width * zoom) / 2;
    context.drawImage(bitmap, ...from, width, height, left, (room - height * zoom) / 2, width * zoom, height * zoom);
  }
  if (strip) {
    const top = count ? view.height - stripHeight : 0;
    const tall = count ? stripHeight : view.height;
    context.drawImage(bitmap, 0, bitmap.height - strip, bitmap.width, strip, 0, top, view.width, tall);
    context.fillStyle = "rgba(255, 255, 255, 0.85)";
    context.fillRect(share * view.width - 1, top, 2, tall);
  }
}

let timer = null;
let pictures = 0;

/** Draw what is played, a few times a second: a page without a graphics card must not work harder than the server. */
function tick() {
  for (const shown of playing.values()) {
    if (shown.canvas.isConnected) draw(shown, performance.now() / 1000);
  }
}

/** Leave the last picture of every node standing that is not the running one. */
function stopOthers(running) {
  for (const id of sending) if (id !== running) sending.delete(id);
  for (const [id, shown] of playing) {
    if (id === running) continue;
    shown.bitmap.close();
    playing.delete(id);
  }
  if (!playing.size) {
    clearInterval(timer);
    timer = null;
  }
}

/**
 * @param {object} node
 * @param {string} id
 * @param {Layout} layout
 * @param {Blob} blob
 */
async function show(node, id, layout, blob) {
  const number = ++pictures;
  sending.add(id);
  const bitmap = await createImageBitmap(blob);
  if ((shownNumbers.get(id) ?? 0) > number) {
    bitmap.close(); // a later one was decoded sooner
    return;
  }
  shownNumbers.set(id, number);
  playing.get(id)?.bitmap.close();
  playing.delete(id);
  // What the page showed while the node was not in view.
  node.imgs = undefined;
  close(node, "$$canvas-image-preview");
  const element = panel(node, PANEL, HEIGHT);
  let canvas = element.querySelector("canvas");
  if (!canvas) {
    canvas = document.createElement("canvas");
    element.replaceChildren(canvas);
  }
  const shown = { layout, bitmap, canvas };
  if (!sending.has(id)) {
    // The run has gone on while it was decoded: it stands as the last pictures of others do.
    draw(shown, performance.now() / 1000);
    bitmap.close();
    return;
  }
  playing.set(id, shown);
  timer ??= setInterval(tick, DRAW_EVERY);
  tick();
}

api.addEventListener(EVENT, ({ detail }) => announced.set(String(detail.node), detail));

// Extensions are loaded before the page listens itself. A picture that is played here goes on to the page's list of
// runs and to the subgraph that the sampler is in, but does not lie as a still picture on the same node.
api.addEventListener("b_preview_with_metadata", ({ detail }) => {
  const id = String(detail.displayNodeId ?? detail.nodeId);
  const layout = announced.get(id);
  announced.delete(id);
  const node = nodeById(id);
  if (!layout || !SAMPLERS.includes(node?.comfyClass) || node.graph !== app.canvas.graph) return;
  for (const url of app.nodePreviewImages?.[NOWHERE] ?? []) URL.revokeObjectURL(url); // older pages keep them all
  detail.displayNodeId = id.slice(0, Math.max(0, id.lastIndexOf(":"))) || NOWHERE;
  show(node, id, layout, detail.blob);
});

api.addEventListener("executing", ({ detail }) => stopOthers(detail === null ? null : String(detail)));

app.registerExtension({ name: "SoundingVideo.Preview" });
