// One sentence under a node that measured something.
import { app } from "../../../scripts/app.js";
import { afterRun, el, panel } from "./dom.js";

app.registerExtension({
  name: "SoundingVideo.Report",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!nodeData.name.startsWith("T2SV")) return;
    afterRun(nodeType, (node, output) => {
      const sentences = output.sounding_video_report;
      if (sentences) panel(node, "t2sv_report", 64).replaceChildren(...sentences.map((text) => el("p", {}, text)));
    });
  },
});
