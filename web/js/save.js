// On the save node only what goes together can be chosen: the codecs that the format holds, a quality where there is one.
import { app } from "../../../scripts/app.js";
import { widgetOf, write } from "./dom.js";

const AUTO = "auto";
const OWN_QUALITY = -1;
// As media/writers/base.py and media/codecs.py have it; a test compares them.
const CODECS = {
  mp4: ["h264", "hevc", "av1"],
  webm: ["vp9", "av1"],
  mkv: ["h264", "hevc", "av1", "vp9", "ffv1"],
  wav: ["pcm_s24", "pcm_s16", "pcm_f32"],
  flac: [],
  m4a: [],
};
const WORST_QUALITY = { h264: 51, hevc: 51, av1: 63, vp9: 63 };

/**
 * What can be chosen with the values that stand on the node.
 * @param {string} format
 * @param {string} codec
 * @returns {{codecs: string[], worst: number}} worst is -1 where no quality can be chosen
 */
function choices(format, codec) {
  const held = CODECS[format] ?? [];
  return { codecs: [AUTO, ...held], worst: WORST_QUALITY[codec === AUTO ? held[0] : codec] ?? OWN_QUALITY };
}

/**
 * Offer what goes with the node's format and codec. Values that stand there stay unless the user has just changed what
 * they hang on: a graph that asks for what cannot be is refused by the server, with a sentence.
 * @param {object} node
 * @param {boolean} changed whether to put values right that do not go together
 */
function offer(node, changed) {
  const [format, codec, quality] = ["format", "codec", "quality"].map((name) => widgetOf(node, name));
  if (!format || !codec || !quality) return;
  const { codecs } = choices(format.value, AUTO);
  codec.options.values = codecs;
  if (changed && !codecs.includes(codec.value)) write(codec, AUTO);
  const { worst } = choices(format.value, codec.value);
  quality.options.max = Math.max(worst, OWN_QUALITY);
  quality.disabled = worst === OWN_QUALITY && quality.value === OWN_QUALITY;
  if (changed && quality.value > worst) {
    write(quality, OWN_QUALITY);
    quality.disabled = worst === OWN_QUALITY;
  }
}

app.registerExtension({
  name: "SoundingVideo.Save",
  nodeCreated(node) {
    if (node.comfyClass !== "T2SVMux") return;
    for (const name of ["format", "codec"]) {
      const widget = widgetOf(node, name);
      if (!widget) return;
      const before = widget.callback;
      widget.callback = function (...values) {
        const answer = before?.apply(this, values);
        offer(node, true);
        return answer;
      };
    }
    const configured = node.onConfigure;
    node.onConfigure = function (...values) {
      const answer = configured?.apply(this, values);
      offer(node, false);
      return answer;
    };
    offer(node, false);
  },
});
