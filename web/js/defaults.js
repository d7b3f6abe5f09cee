// Whether a node follows the loaded model came later: a graph that was saved before keeps its own values.
import { app } from "../../../scripts/app.js";

const FOLLOWERS = ["T2SVEmptyAVLatent", "T2SVEncodeCaptions", "T2SVJointSampler"];
const AS_SET = "as set here";

app.registerExtension({
  name: "SoundingVideo.Defaults",
  beforeRegisterNodeDef(nodeType, nodeData) {
    if (!FOLLOWERS.includes(nodeData.name)) return;
    const before = nodeType.prototype.onConfigure;
    nodeType.prototype.onConfigure = function (saved, ...rest) {
      before?.call(this, saved, ...rest);
      const widgets = (this.widgets ?? []).filter((widget) => widget.serialize !== false);
      const index = widgets.findIndex((widget) => widget.name === "defaults");
      const values = saved?.widgets_values;
      if (Array.isArray(values) && index >= 0 && values.length <= index) widgets[index].value = AS_SET;
    };
  },
});
