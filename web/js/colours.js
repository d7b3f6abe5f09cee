// Colours of our own sockets and their links: blue for the picture, orange for the sound, violet for the joint model.
import { app } from "../../../scripts/app.js";

const COLOURS = {
  T2SV_VIDEO_TOWER: "#4a90d9",
  T2SV_VIDEO_TEXT: "#6fb1e8",
  T2SV_VIDEO_CODEC: "#3f6fa8",
  T2SV_AUDIO_TOWER: "#e08a2e",
  T2SV_AUDIO_TEXT: "#efae63",
  T2SV_AUDIO_CODEC: "#b0662b",
  T2SV_BRIDGE: "#4fae72",
  T2SV_MODEL: "#9b7fd1",
  T2SV_CONDITIONING: "#d96a8b",
};

/**
 * Give a table of colours ours. The page empties its tables for every type when a palette is loaded: then ours stand
 * again, and a palette that names our types has its way.
 * @param {Record<string, string>|undefined} table
 */
function fill(table) {
  for (const [type, ours] of table ? Object.entries(COLOURS) : []) {
    let colour = table[type] || ours;
    Object.defineProperty(table, type, {
      get: () => colour,
      set: (value) => (colour = value || ours),
      enumerable: true,
      configurable: true,
    });
  }
}

app.registerExtension({
  name: "SoundingVideo.Colours",
  setup() {
    fill(app.canvas.default_connection_color_byType);
    fill((window.LGraphCanvas ?? app.canvas.constructor).link_type_colors);
    // Vue nodes read them from here, below what a palette writes on the element itself.
    const rules = Object.entries(COLOURS).map(([type, colour]) => `--color-datatype-${type}: ${colour};`);
    const sheet = document.createElement("style");
    sheet.textContent = `:root { ${rules.join(" ")} }`;
    document.head.append(sheet);
  },
});
