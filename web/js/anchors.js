// A form over the JSON text of Edit Anchors. The text stays the widget that is saved with the workflow; the form reads
// it and writes it, and the server says whether it can be used.
import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { el, panel, whileInGraph, widgetOf, write } from "./dom.js";
import { t } from "./texts.js";

const NODE = "T2SVEditAnchors";
const PANEL = "t2sv_anchors";
const HEIGHT = 330;
const LOOK_EVERY = 400; // milliseconds: the text may be typed, pasted, loaded or set by a script
const ASK_AFTER = 300;
const SINGLE = { environment: "place", ambient_sound: "background", camera: "camera", style: "style", mood: "mood" };
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
    if (!objects(found?.entities) || !objects(found?.events)) return null;
    for (const entity of found.entities) entity.attributes ??= [];
    return found;
  } catch {
    return null; // half-typed JSON; the server's answer says what is wrong with it
  }
}

/** @param {unknown} value whether it is a list of objects */
function objects(value) {
  return Array.isArray(value) && value.every((item) => item !== null && typeof item === "object");
}

/**
 * One labelled field that writes into an object.
 * @param {string} label
 * @param {object} target
 * @param {string} key
 * @param {() => void} changed
 * @param {(text: string) => unknown} [read]
 */
function field(label, target, key, changed, read = (text) => text) {
  const value = target[key] ?? "";
  const input = el("input", { value: Array.isArray(value) ? value.join(", ") : value });
  input.oninput = () => {
    target[key] = read(input.value);
    changed();
  };
  return el("label", {}, el("span", {}, label), input);
}

/**
 * Who acts in an event: one of those who are seen. A name that nobody has stays, until another is chosen.
 * @param {object} event
 * @param {object[]} entities
 * @param {() => void} changed
 */
function whoField(event, entities, changed) {
  const select = el("select", { className: "t2sv-who", onchange: () => choose(select.value) });
  const choose = (name) => {
    event.entity = name;
    changed();
  };
  const label = el("label", {}, el("span", {}, t("who")), select);
  const names = entities.map((entity) => String(entity.name ?? ""));
  const same = names.find((name) => name.toLowerCase() === String(event.entity ?? "").toLowerCase());
  const options = same === undefined ? [String(event.entity ?? ""), ...names] : names;
  select.replaceChildren(...[...new Set(options)].map((name) => el("option", { value: name }, name)));
  select.value = same ?? options[0];
  return label;
}

/** @param {string} text */
function listed(text) {
  return text.split(",").map((part) => part.trim()).filter(Boolean);
}

// A text that is no number stays as it is, so that the server can say so.

/** @param {string} text */
function whole(text) {
  return /^\d+$/.test(text.trim()) ? Number(text) : text;
}

/** @param {string} text */
function time(text) {
  if (!text.trim()) return null;
  const number = Number(text.replace(",", "."));
  return Number.isFinite(number) ? number : text;
}

/**
 * @param {object} event
 * @param {object[]} entities
 * @param {() => void} changed
 * @param {() => void} remove
 */
function eventFields(event, entities, changed, remove) {
  const heard = { heard: String(event.sound?.heard ?? ""), source: String(event.sound?.source ?? "") };
  const sounds = () => {
    const silent = !heard.heard.trim() && !heard.source.trim();
    event.sound = silent ? null : { heard: heard.heard, source: heard.source };
    changed();
  };
  const row = el(
    "div",
    { className: "t2sv-row" },
    field(t("order"), event, "order", changed, whole),
    field(t("from"), event, "start", changed, time),
    field(t("to"), event, "end", changed, time),
    el("button", { type: "button", title: t("remove"), onclick: remove }, "✕"),
  );
  return el(
    "fieldset",
    {},
    row,
    whoField(event, entities, changed),
    field(t("seen"), event, "visual_action", changed),
    field(t("heard"), heard, "heard", sounds),
    field(t("cause"), heard, "source", sounds),
  );
}

/**
 * @param {object} entity
 * @param {() => void} changed
 * @param {() => void} renamed
 * @param {() => void} remove
 */
function entityFields(entity, changed, renamed, remove) {
  const button = el("button", { type: "button", title: t("remove"), onclick: remove }, "✕");
  return el(
    "fieldset",
    {},
    el("div", { className: "t2sv-row" }, field(t("name"), entity, "name", renamed), button),
    field(t("look"), entity, "visual", changed),
    field(t("details"), entity, "attributes", changed, listed),
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
    whileInGraph(node, LOOK_EVERY, () => this.look());
    this.look();
  }

  /** Follow the text wherever it was changed. */
  look() {
    const linked = this.node.inputs?.some((input) => input.name === "anchors" && input.link != null);
    const text = linked ? null : (widgetOf(this.node, "anchors")?.value ?? "");
    if (this.text === text && this.linked === linked) return;
    [this.text, this.linked] = [text, linked];
    this.ask();
    this.build();
  }

  /** Write the form's anchors into the widget, which is what the workflow keeps. */
  changed() {
    this.text = JSON.stringify(this.anchors, null, 2);
    write(widgetOf(this.node, "anchors"), this.text);
    this.ask();
  }

  /** Show the server's opinion of the text, which is the same as when the prompt runs. */
  ask() {
    clearTimeout(this.waiting);
    if (this.linked) this.say(t("linked"), "");
    else if (!this.text.trim()) this.say(t("empty"), "");
    else this.waiting = setTimeout(() => this.answered(this.text), ASK_AFTER);
  }

  /** @param {string} text */
  async answered(text) {
    let [sentence, kind] = [t("usable"), "t2sv-good"];
    try {
      const answer = await api.fetchApi("/sounding_video/anchors", { method: "POST", body: text });
      const { problem } = await answer.json();
      if (problem) [sentence, kind] = [problem, "t2sv-bad"];
    } catch (error) {
      [sentence, kind] = [t("noAnswer", { error: error.message }), "t2sv-bad"];
    }
    if (text === this.text) this.say(sentence, kind);
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
      const button = el("button", { type: "button", onclick: start }, t("startEmpty"));
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
      order: Math.max(0, ...anchors.events.map((event) => Number(event.order) || 0)) + 1,
      start: null,
      end: null,
      entity: anchors.entities[0]?.name ?? "",
      visual_action: "",
      sound: null,
    });
    const happens = el("div");
    const showEvents = () =>
      happens.replaceChildren(
        ...anchors.events.map((event) =>
          eventFields(event, anchors.entities, changed, remove(anchors.events, event)),
        ),
      );
    showEvents();
    // Events follow whoever is renamed; the field that is written in stays, so that the cursor does too.
    const renamed = (entity) => {
      let before = entity.name;
      return () => {
        const others = anchors.entities.filter((other) => other !== entity);
        const shared = others.some((other) => other.name === before);
        for (const event of shared ? [] : anchors.events) if (event.entity === before) event.entity = entity.name;
        before = entity.name;
        changed();
        showEvents();
      };
    };
    return this.body.replaceChildren(
      el("h4", {}, t("happens")),
      happens,
      add(t("addEvent"), anchors.events, newEvent),
      el("h4", {}, t("entities")),
      ...anchors.entities.map((entity) =>
        entityFields(entity, changed, renamed(entity), remove(anchors.entities, entity)),
      ),
      add(t("addEntity"), anchors.entities, () => ({ name: "", attributes: [], visual: "" })),
      el("h4", {}, t("around")),
      ...Object.entries(SINGLE).map(([key, label]) => field(t(label), anchors, key, changed)),
    );
  }
}

app.registerExtension({
  name: "SoundingVideo.Anchors",
  nodeCreated(node) {
    if (node.comfyClass === NODE) new AnchorsForm(node);
  },
});
