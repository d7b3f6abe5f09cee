// Room on nodes for what a run shows: kept from the start, so that no node grows over its neighbours.
import { app } from "../../../scripts/app.js";

// What appears below the widgets, in pixels: the page's player and our strip, the live preview, captions.
const ROOM = {
  T2SVMux: 380,
  T2SVJointSampler: 290,
  T2SVNativeSampler: 290,
  T2SVExpandPrompt: 310,
  T2SVCaptionVideo: 310,
};
const WIDE = 420;
const PAGES_PLAYER = "video-preview";
const PLAYER = 220;

/**
 * On the canvas the page's player wants to be as high as a clip is at the node's width, which a square or upright clip
 * makes higher than any room; it may fill what is free instead.
 * @param {object} node
 */
function keepPlayerLow(node) {
  const add = node.addDOMWidget;
  node.addDOMWidget = function (name, ...rest) {
    const widget = add.call(this, name, ...rest);
    if (name === PAGES_PLAYER) {
      const low = () => ({ minHeight: PLAYER, minWidth: 0 });
      Object.defineProperty(widget, "computeLayoutSize", { get: () => low, set() {}, configurable: true });
    }
    return widget;
  };
}

app.registerExtension({
  name: "SoundingVideo.Room",
  nodeCreated(node) {
    const room = ROOM[node.comfyClass];
    if (!room) return;
    if (node.comfyClass === "T2SVMux") keepPlayerLow(node);
    const [width, height] = node.computeSize();
    node.setSize([Math.max(WIDE, width), height + room]); // a saved size comes after this and stays
  },
});
