// A form over the JSON text of Edit Anchors. The text stays the widget that is saved with the workflow; the form reads
// it and writes it, and the server says whether it can be used.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { el, panel, widgetOf } from "./dom.js";

const NODE = "T2SVEditAnchors";
const PANEL = "t2sv_anchors";
const HEIGHT = 330;
const LOOK_EVERY = 400; // milliseconds: the text may be typed, pasted, loaded or set by a script
const ASK_AFTER = 300;
const SINGLE = [
  ["environment", "place"],
  ["ambient_sound", "background"],
  ["camera", "camera"],
  ["style", "style"],
  ["mood", "mood"],
];
const EMPTY = {
  entities: [{ name: "", attributes: [], visual: "" }],
  environment: "",
  events: [],
  ambient_sound: "",
  camera: "",
  style: "",
  mood: "",
};

/**
 * @param {string} text
 * @returns {object|null} the anchors, or null where the text holds none that the form could show
 */
function parsed(text) {
  try {
    const found = JSON.parse(text);
    return Array.isArray(found?.entities) && Array.isArray(found?.events) ? found : null;
  } catch {
    return null; // half-typed JSON; the server's answer says what is wrong with it
  }
}

/**
 * One labelled field that writes into an object.
 * @param {string} label
 * @param {object} target
 * @param {string} key
 * @param {() => void} changed
 * @param {{read?: (text: string) => unknown, write?: (value: unknown) => string}} [form]
 */
function field(label, target, key, changed, form = {}) {
  const write = form.write ?? ((value) => value ?? "");
  const input = el("input", { value: write(target[key]) });
  input.oninput = () => {
    target[key] = form.read ? form.read(input.value) : input.value;
    changed();
  };
  return el("label", {}, el("span", {}, label), input);
}

const LIST = {
  read: (text) => text.split(",").map((part) => part.trim()).filter(Boolean),
  write: (list) => list.join(", "),
};
const WHOLE = { read: (text) => (/^\d+$/.test(text.trim()) ? Number(text) : text), write: String };
const TIME = {
  read: (text) => (text.trim() === "" ? null : Number(text)),
  write: (value) => (value === null ? "" : String(value)),
};

/**
 * @param {object} event
 * @param {() => void} changed
 * @param {() => void} remove
 */
function eventFields(event, changed, remove) {
  const heard = { heard: event.sound?.heard ?? "", source: event.sound?.source ?? "" };
  const sounds = () => {
    const silent = !heard.heard.trim() && !heard.source.trim();
    event.sound = silent ? null : { heard: heard.heard, source: heard.source };
    changed();
  };
  const row = el(
    "div",
    { className: "t2sv-row" },
    field("order", event, "order", changed, WHOLE),
    field("from 0–1", event, "start", changed, TIME),
    field("to 0–1", event, "end", changed, TIME),
    el("button", { type: "button", title: "Remove this event", onclick: remove }, "✕"),
  );
  return el(
    "fieldset",
    {},
    row,
    field("who", event, "entity", changed),
    field("seen", event, "visual_action", changed),
    field("heard", heard, "heard", sounds),
    field("its cause", heard, "source", sounds),
  );
}

/**
 * @param {object} entity
 * @param {() => void} changed
 * @param {() => void} remove
 */
function entityFields(entity, changed, remove) {
  const button = el("button", { type: "button", title: "Remove", onclick: remove }, "✕");
  return el(
    "fieldset",
    {},
    el("div", { className: "t2sv-row" }, field("name", entity, "name", changed), button),
    field("look", entity, "visual", changed),
    field("details", entity, "attributes", changed, LIST),
  );
}

/** The form of one node. */
class AnchorsForm {
  /** @param {object} node */
  constructor(node) {
    this.node = node;
    this.text = null;
    this.element = panel(node, PANEL, HEIGHT);
    this.message = el("p", { className: "t2sv-message" });
    this.body = el("div");
    this.element.replaceChildren(this.message, this.body);
    const look = setInterval(() => (node.graph ? this.look() : this.detached(look)), LOOK_EVERY);
    this.look();
  }

  /** A node that was taken out of the graph may come back by undo as another object; this one is done. */
  detached(timer) {
    if (this.wasThere) clearInterval(timer);
  }

  /** Follow the text wherever it was changed. */
  look() {
    this.wasThere = true;
    const linked = this.node.inputs?.some((input) => input.name === "anchors" && input.link != null);
    const text = linked ? null : (widgetOf(this.node, "anchors")?.value ?? "");
    if (this.text === text && this.linked === linked) return;
    [this.text, this.linked] = [text, linked];
    this.build();
    this.ask();
  }

  /** Write the form's anchors into the widget, which is what the workflow keeps. */
  changed() {
    const widget = widgetOf(this.node, "anchors");
    this.text = JSON.stringify(this.anchors, null, 2);
    widget.value = this.text;
    widget.callback?.(this.text);
    this.ask();
  }

  /** Show the server's opinion of the text, which is the same as when the prompt runs. */
  ask() {
    clearTimeout(this.waiting);
    if (this.linked) return this.say("The anchors come from a link; cut it to edit them here.", "");
    if (!this.text.trim()) {
      return this.say("No anchors yet. Run Expand Prompt and press Edit anchors…, or start here.", "");
    }
    this.waiting = setTimeout(async () => {
      const text = this.text;
      const answer = await api.fetchApi("/sounding_video/anchors", { method: "POST", body: text });
      const { problem } = await answer.json();
      if (text === this.text) this.say(problem ?? "These anchors can be used.", problem ? "t2sv-bad" : "t2sv-good");
    }, ASK_AFTER);
    return undefined;
  }

  /**
   * @param {string} sentence
   * @param {string} kind class of the message
   */
  say(sentence, kind) {
    this.message.textContent = sentence;
    this.message.className = `t2sv-message ${kind}`;
  }

  /** Make the fields anew from the text. */
  build() {
    if (this.linked) return this.body.replaceChildren();
    this.anchors = parsed(this.text);
    if (!this.anchors) {
      const start = () => {
        this.anchors = structuredClone(EMPTY);
        this.changed();
        this.build();
      };
      const button = el("button", { type: "button", onclick: start }, "Start with empty anchors");
      return this.body.replaceChildren(...(this.text.trim() ? [] : [button]));
    }
    const { anchors } = this;
    const changed = () => this.changed();
    const rebuilt = () => {
      this.changed();
      this.build();
    };
    const remove = (list, item) => () => {
      list.splice(list.indexOf(item), 1);
      rebuilt();
    };
    const add = (label, list, make) => {
      const onclick = () => {
        list.push(make());
        rebuilt();
      };
      return el("button", { type: "button", onclick }, label);
    };
    const newEvent = () => ({
      id: `e${Math.max(0, ...anchors.events.map((event) => Number(/^e(\d+)$/.exec(event.id)?.[1] ?? 0))) + 1}`,
      order: Math.max(0, ...anchors.events.map((event) => event.order)) + 1,
      start: null,
      end: null,
      entity: anchors.entities[0]?.name ?? "",
      visual_action: "",
      sound: null,
    });
    return this.body.replaceChildren(
      el("h4", {}, "what happens"),
      ...anchors.events.map((event) => eventFields(event, changed, remove(anchors.events, event))),
      add("+ event", anchors.events, newEvent),
      el("h4", {}, "who and what"),
      ...anchors.entities.map((entity) => entityFields(entity, changed, remove(anchors.entities, entity))),
      add("+ entity", anchors.entities, () => ({ name: "", attributes: [], visual: "" })),
      el("h4", {}, "all around"),
      ...SINGLE.map(([key, label]) => field(label, anchors, key, changed)),
    );
  }
}

app.registerExtension({
  name: "SoundingVideo.Anchors",
  nodeCreated(node) {
    if (node.comfyClass === NODE) new AnchorsForm(node);
  },
});
