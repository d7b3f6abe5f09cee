// A sentence under a node that measured something or chose something.
import { close, el, onOutput, panel } from "./dom.js";

const PANEL = "t2sv_report";
const LINE = 18;
const LETTERS = 52; // on a line of a node as wide as the templates have them
const MARGINS = 36;

onOutput([], (node, output) => {
  const sentences = output.sounding_video_report;
  if (!sentences) return;
  if (!sentences.length) {
    close(node, PANEL); // an earlier run's
    return;
  }
  const lines = sentences.reduce((sum, text) => sum + Math.ceil(text.length / LETTERS), 0);
  panel(node, PANEL, LINE * lines + MARGINS).replaceChildren(...sentences.map((text) => el("p", {}, text)));
});
