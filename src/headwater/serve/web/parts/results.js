// The answer: what raised the likelihood and what lowered it, and beside them what all examples did.

import * as api from "../api.js";
import { announce, h, put, tell } from "../dom.js";
import { strength, strongest } from "../heat.js";
import { go, looks, read, request } from "../state.js";
import { count, grouped, signed, tellingWords } from "../words.js";
import { card } from "./card.js";
import "./filters.js";
import "./verify.js";
import { deviations, histogram } from "./histogram.js";
import { Layers } from "./layers.js";

const STANDS_OUT = 4.5; // times the spread of all examples, below which the strongest is nothing special

/** What the model was given, without the marks of a chat template. */
const asked = (query) => query.messages?.map((message) => message.content).join(" ") ?? query.prompt;

class Results extends HTMLElement {
  #asked; // the request that was last sent, as text
  #stop; // aborts it
  #job;
  #layers = new Layers();
  #shownEnd = "raised";
  #beside = innerWidth > 900; // whether what stands beside the cards is open
  #verify = document.createElement("hw-verify");

  constructor() {
    super();
    this.addEventListener("headwater:card", (event) => this.#lead(event.detail));
  }

  get answer() {
    return this.#job?.answer;
  }

  show(state, info, { again = false } = {}) {
    this.info = info;
    const wanted = request(state);
    if (!wanted.completion) {
      this.#asked = undefined;
      put(this, h("p", { class: "hint" }, "There is no question yet. ", h("a", { href: "#ask" }, "Ask one.")));
      return;
    }
    const key = JSON.stringify(wanted);
    if (key !== this.#asked || again) this.#ask(wanted, key);
    else if (this.#job) this.#draw(state);
  }

  async #ask(wanted, key) {
    this.#stop?.abort();
    this.#verify.stop();
    const stop = new AbortController();
    this.#stop = stop;
    this.#asked = key;
    const trouble = document.createElement("hw-trouble");
    const cancel = () => {
      stop.abort();
      this.#asked = undefined;
      put(trouble, h("p", { class: "hint" }, "Cancelled. ", h("button", { type: "button", onclick: () => tell(this, "headwater:again") }, "Ask again")));
      trouble.className = "waiting";
      announce("Cancelled");
    };
    this.classList.add("busy");
    if (this.#job) this.prepend(trouble);
    else put(this, trouble);
    for (const old of this.querySelectorAll(":scope > hw-trouble")) if (old !== trouble) old.remove();
    trouble.progress({ state: "running" }, cancel);
    try {
      const job = await api.ask(wanted, { signal: stop.signal, onProgress: (now) => !stop.signal.aborted && trouble.progress(now, cancel) });
      if (stop.signal.aborted) return;
      this.#job = job;
      const state = read();
      this.#draw(state);
      const { proponents, opponents } = job.answer;
      announce(`${count(proponents.length, "example")} raised its likelihood, ${grouped(opponents.length)} lowered it.`);
      tell(this, "headwater:answer");
    } catch (problem) {
      if (problem.name === "AbortError" || stop.signal.aborted) return;
      this.#job = undefined;
      put(this, trouble);
      const { contains, where, layers } = read();
      const clear = () => go({ contains: "", where: "", layers: [] });
      trouble.show(problem, () => tell(this, "headwater:again"),
        (contains || where || layers.length > 0) && h("button", { type: "button", onclick: clear }, "Clear the filters"));
    } finally {
      if (this.#stop === stop) this.classList.remove("busy");
    }
  }

  #draw(state) {
    const { answer } = this.#job;
    const shown = [...answer.proponents, ...answer.opponents];
    const end = Math.max(0, ...shown.map((example) => Math.abs(strength(example))));
    const scene = {
      looks: looks(state),
      words: tellingWords(`${asked(answer.query)} ${answer.query.completion}`),
      end,
      scale: state.own ? null : Math.max(0, ...shown.map((example) => strongest(example.tokens))),
      layers: this.info.layers,
      opened: state.example,
      reach: answer.reach,
    };
    this.#layers.learn(state, answer);
    const focus = document.activeElement?.dataset?.key;
    put(
      this,
      this.#head(answer),
      h("div", { class: "answer" },
        h("aside", { class: "beside", "aria-label": "All examples" },
          h("details", { open: this.#beside, ontoggle: (event) => (this.#beside = event.target.open) },
            h("summary", {}, "All examples, layers and filters"),
            histogram(answer, shown),
            this.#layers.strip(state, answer, this.info.layers),
            this.#filters(state))),
        h("div", { class: "main-part" },
          this.#tools(state),
          this.#nothing(answer, shown),
          this.#columns(answer, scene),
          this.#verify)),
      h("footer", {}, this.#job.made_with, " · ", h("a", { href: `#method?${location.hash.split(/\?(.*)/s)[1] ?? ""}` }, "How to read this")),
    );
    this.#verify.update(state, answer);
    if (focus) this.querySelector(`[data-key="${CSS.escape(focus)}"]`)?.focus();
  }

  /** Go to the card of an example, in whichever column it is. */
  #lead(id) {
    const { proponents, opponents } = this.#job.answer;
    const raised = proponents.some((example) => example.id === id);
    const rank = (raised ? proponents : opponents).findIndex((example) => example.id === id) + 1;
    this.#shownEnd = raised ? "raised" : "lowered";
    this.#draw(read());
    const link = this.querySelector(`[data-key="card-${this.#shownEnd}-${rank}"]`);
    link.closest(".card").scrollIntoView({ block: "center" });
    link.focus({ preventScroll: true });
  }

  #head(answer) {
    const parts = [this.#job.meaning && h("p", { class: "meaning" }, this.#job.meaning)];
    return h("header", {}, parts,
      h("p", { class: "legend" },
        h("span", { class: "name down" }, "− lowered it"), h("span", { class: "ramp", "aria-hidden": "true" }),
        h("span", { class: "name up" }, "+ raised it"),
        h("span", { class: "quiet" }, "Strong tokens that raised it are underlined, those that lowered it dotted. Words that a text shares with the question are ", h("b", { class: "t word" }, "bold"), ".")));
  }

  #tools(state) {
    const toggle = (name, key, pressed, changes, title) =>
      h("button", { type: "button", "data-key": key, "aria-pressed": String(pressed), title, onclick: () => go(changes, { replace: key !== "influence" && key !== "relative" }) }, name);
    const copy = h("button", { type: "button", onclick: async () => {
      await navigator.clipboard.writeText(location.href);
      announce("Link copied");
      copy.textContent = "Copied";
    } }, "Copy link");
    const formats = ["json", "csv", "parquet", "html"].map((format) =>
      h("button", { type: "button", onclick: () => this.#export(format) }, { json: "JSON", csv: "CSV", parquet: "Parquet", html: "Page (HTML)" }[format]));
    const sizes = [5, 10, 20, 50].filter((size) => size <= this.info.limits.k);
    const k = h("select", { id: "k", "data-key": "k", onchange: (event) => go({ k: Number(event.target.value) }) },
      (sizes.includes(state.k) ? sizes : [...sizes, state.k]).map((size) => h("option", { value: size, selected: size === state.k }, size)));
    return h("div", { class: "tools", role: "group", "aria-label": "How the answer is shown" },
      h("div", { class: "segments", role: "group", "aria-label": "Rank by" },
        toggle("Influence", "influence", state.rank === "influence", { rank: "influence" }, "How much each example moved the likelihood"),
        toggle("Relative", "relative", state.rank === "relative", { rank: "relative" }, "Divided by each example's own norm, so that loud examples do not always win")),
      h("div", { class: "segments", role: "group", "aria-label": "Shade" },
        toggle("One scale", "shared", !state.own, { own: false }, "Every text is shaded on the same scale"),
        toggle("Each its own", "own", state.own, { own: true }, "Every text is shaded by its own strongest token")),
      toggle("Numbers", "numbers", state.numbers, { numbers: !state.numbers }, "Write the influence of every shaded token under it"),
      toggle("Whitespace", "glyphs", state.glyphs, { glyphs: !state.glyphs }, "Show spaces and line breaks"),
      h("label", { class: "quiet", for: "k" }, "Show ", k),
      h("span", { class: "push" }),
      copy,
      h("details", { class: "menu" }, h("summary", {}, "Export"), h("div", {}, formats)));
  }

  async #export(format) {
    try {
      await api.download(this.#job, format);
      announce(`Saved as ${format}`);
    } catch (problem) {
      const trouble = document.createElement("hw-trouble");
      this.prepend(trouble);
      trouble.show(problem, () => tell(this, "headwater:again"));
    }
  }

  #filters(state) {
    const filters = document.createElement("hw-filters");
    filters.show(state, this.info);
    return filters;
  }

  /** What to say where the answer has little to tell. */
  #nothing(answer, shown) {
    if (!shown.length) {
      return h("div", { class: "notice" }, h("b", {}, "Nothing raised or lowered it. "),
        answer.selection ? "No example that the filters let through has any influence: widen them." : "Every example has an influence of exactly zero.");
    }
    const times = answer.distribution && deviations(answer);
    if (!times || times >= STANDS_OUT) return null;
    return h("div", { class: "notice" }, h("b", {}, "Nothing stands out. "),
      `The strongest example is ${times.toFixed(1)} times as strong as examples usually are: many taught the model a little of this, none of them much. `,
      "Try fewer words, a more surprising one, or ", h("i", {}, "Relative"), ".");
  }

  #columns(answer, scene) {
    const column = (end, title, examples) =>
      h("section", { class: end, "aria-label": title, "data-shown": String(this.#shownEnd === end) },
        h("h2", {}, title),
        h("p", { class: "axis" }, h("span", { class: "unit" }, unit(answer)),
          h("span", { class: "ends" }, h("span", {}, signed(-scene.end)), h("span", {}, "0"), h("span", {}, signed(scene.end)))),
        examples.length ? h("ol", { class: "cards" }, examples.map((example, n) => h("li", {}, card(example, n + 1, end, scene))))
          : h("p", { class: "quiet" }, `Nothing ${end} it.`));
    const tab = (end, title) => h("button", { type: "button", "data-key": `tab-${end}`, "aria-pressed": String(this.#shownEnd === end), onclick: () => {
      this.#shownEnd = end;
      this.#draw(read());
    } }, title);
    const likelihood = answer.contrast ? "Favoured it" : "Raised its likelihood";
    const against = answer.contrast ? "Favoured the other" : "Lowered it";
    return [
      h("div", { class: "tabs segments", role: "group", "aria-label": "Column" }, tab("raised", likelihood), tab("lowered", against)),
      h("div", { class: "columns" }, column("raised", likelihood, answer.proponents), column("lowered", against, answer.opponents)),
    ];
  }
}


/** The unit of the scores. */
function unit(answer) {
  if (answer.rank_by === "relative") return h("abbr", { title: "Influence divided by the example's own norm √I(z, z)" }, "relative");
  return h("abbr", { title: "Influence in nats: how fast log p grows with the example's weight in training, where each of N examples weighs 1/N" }, "nats × N");
}

customElements.define("hw-results", Results);
