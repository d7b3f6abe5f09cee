// The memory plan of a loader: one bar a stage, against what is free on the device.
import { el, onOutput, panel } from "./dom.js";
import { t, TEXTS } from "./texts.js";

const PANEL = "t2sv_plan";
const LINE = 19;

/** @typedef {{stages: Record<string, number>, free_bytes: number|null, sentence: string}} Plan bytes by stage */

/**
 * @param {number} bytes
 * @returns {string}
 */
function gigabytes(bytes) {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(0)} MB`;
}

/**
 * @param {object} node
 * @param {Plan} plan
 */
function show(node, plan) {
  const stages = Object.entries(plan.stages);
  const free = plan.free_bytes;
  const widest = Math.max(1, free ?? 0, ...stages.map(([, bytes]) => bytes));
  const lines = stages.map(([stage, bytes]) => {
    const filled = el("div", { className: free !== null && bytes > free ? "t2sv-full" : "" });
    filled.style.width = `${(100 * bytes) / widest}%`;
    return el(
      "div",
      { className: "t2sv-row" },
      el("span", { className: "t2sv-name" }, TEXTS[`stage ${stage}`] ? t(`stage ${stage}`) : stage),
      el("div", { className: "t2sv-bar" }, filled),
      el("span", {}, gigabytes(bytes)),
    );
  });
  const heading = free === null ? t("memory") : t("memoryFree", { free: gigabytes(free) });
  const height = LINE * (stages.length + 1) + 30 + LINE * Math.ceil(plan.sentence.length / 40);
  panel(node, PANEL, height).replaceChildren(el("h4", {}, heading), ...lines, el("p", {}, plan.sentence));
}

onOutput([], (node, output) => {
  const plan = output.sounding_video_plan?.at(-1);
  if (plan) show(node, plan);
});
