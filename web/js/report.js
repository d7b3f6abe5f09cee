// A sentence under a node that measured something or chose something.
import { close, el, onOutput, panel } from "./dom.js";

const PANEL = "t2sv_report";
const LINE = 18;
const LETTER = 7;
const MARGINS = 36;
const BESIDE = 56;
const BETWEEN = 4; // sentences

onOutput([], (node, output) => {
  const sentences = output.sounding_video_report;
  if (!sentences) return;
  if (!sentences.length) {
    close(node, PANEL); // an earlier run's
    return;
  }
  const letters = Math.max(20, (node.size[0] - BESIDE) / LETTER); // on a line
  const lines = sentences.reduce((sum, text) => sum + Math.ceil(text.length / letters), 0);
  const height = LINE * lines + BETWEEN * sentences.length + MARGINS;
  panel(node, PANEL, height).replaceChildren(...sentences.map((text) => el("p", {}, text)));
});
