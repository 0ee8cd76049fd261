// What would a text that is not in the corpus do, if it were added? Edited, the answer follows.

import * as api from "../api.js";
import { announce, debounce, h, put } from "../dom.js";
import { bar } from "./card.js";
import { shade, strongest, text } from "../heat.js";
import { go, looks, promptText, question, read } from "../state.js";
import { beyondReach, grouped, oneLine, signed, tellingWords } from "../words.js";
import { sparkline } from "./layers.js";

class WhatIf extends HTMLElement {
  #asked;
  #stop;
  #first; // the first score of this question, to compare with
  #typed = debounce(() => go({ text: this.box.value }, { replace: true }), 300);

  connectedCallback() {
    if (this.firstElementChild) return;
    this.box = h("textarea", { id: "what-if-text", rows: 8, spellcheck: "false", oninput: this.#typed, placeholder: "Write or paste a training text …" });
    this.about = h("div", { class: "asked small" });
    this.result = h("div", { class: "result" });
    put(this,
      h("h1", {}, "What if this were in the training text?"),
      h("p", { class: "lead" }, "Write or edit a text: its influence on the completion follows as you type. Nothing is trained and nothing is kept."),
      this.about,
      h("div", { class: "what-if" },
        h("div", { class: "field" }, h("label", { for: "what-if-text" }, "Training text"), this.box),
        this.result));
  }

  update(state, info) {
    this.info = info;
    if (this.box.value !== state.text) this.box.value = state.text;
    if (!state.completion) {
      put(this.about, h("p", { class: "hint" }, "There is no question yet: ", h("a", { href: "#ask" }, "ask one"), " first."));
      put(this.result);
      return;
    }
    const characters = [...state.completion];
    const [start, stop] = state.span ?? [0, characters.length];
    const part = (from, to) => oneLine(characters.slice(from, to).join(""));
    put(this.about, h("span", { class: "quiet" }, oneLine(promptText(state)), part(0, start)), h("b", {}, part(start, stop)), h("span", { class: "quiet" }, part(stop)),
      state.contrast && h("span", { class: "quiet" }, ` rather than ${oneLine(state.contrast.trim())}`));
    this.#ask(state);
  }

  async #ask(state) {
    const asked = { ...question(state), damping: state.damping || null, layers: state.layers.length ? state.layers : null };
    const body = { ...asked, texts: [state.text], k: 1 };
    const key = JSON.stringify(body);
    if (!state.text.trim()) {
      this.#asked = undefined;
      put(this.result, h("p", { class: "quiet" }, "Its influence will be shown here."));
      return;
    }
    if (key === this.#asked) {
      if (this.example !== undefined) this.#draw(state);
      return;
    }
    this.#asked = key;
    this.#stop?.abort();
    const stop = (this.#stop = new AbortController());
    this.result.classList.add("busy");
    try {
      const { answer } = await api.ask(body, { signal: stop.signal });
      if (stop.signal.aborted) return;
      this.example = answer.proponents[0] ?? answer.opponents[0] ?? null;
      this.total = answer.examples;
      this.reach = answer.reach;
      const about = JSON.stringify(asked);
      if (this.#first?.about !== about) this.#first = { about, score: this.example?.influence ?? 0 };
      this.#draw(state);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      this.#asked = undefined;
      const trouble = document.createElement("hw-trouble");
      put(this.result, trouble);
      trouble.show(problem, () => this.#ask(read()));
    } finally {
      if (this.#stop === stop) this.result.classList.remove("busy");
    }
  }

  #draw(state) {
    const { example } = this;
    if (!example) {
      put(this.result, h("p", {}, "It would change nothing: its influence is zero."));
      return;
    }
    const score = example.influence;
    const before = this.#first.score;
    const scale = Math.max(Math.abs(score), Math.abs(before));
    const row = (name, value) => [h("span", {}, name), h("b", { class: `score ${value > 0 ? "up" : "down"}` }, signed(value)), bar(scale ? value / scale : 0)];
    const effect = -example.removal_effect;
    const change = Math.expm1(Math.abs(effect)) * 100;
    const words = beyondReach(effect, this.reach)
      ? `would ${effect > 0 ? "raise" : "lower"} it by more than a linear prediction can tell.`
      : state.contrast
      ? `would move the log odds between the two by ${signed(effect)} nats.`
      : `would change log p by ${signed(effect)} nats${change < 1000 ? ` (${change < 0.01 ? "under 0.01" : change.toPrecision(2)}% ${effect > 0 ? "more" : "less"} likely)` : ""}.`;
    put(this.result,
      h("div", { class: "scores" }, row("now", score), before !== score && row("at first", before),
        before !== score && h("button", { type: "button", class: "link", onclick: () => {
          this.#first.score = score;
          this.#draw(read());
        } }, "compare with this one from now on")),
      h("p", {}, `Added to the ${grouped(this.total)} examples, it is predicted it `, words),
      text(shade(example.tokens, strongest(example.tokens), tellingWords(`${promptText(state)} ${state.completion}`)), looks(state)),
      h("div", { class: "row" }, sparkline(example.layers, this.info.layers), h("span", { class: "quiet" }, "influence by layer")));
    announce(`Influence ${signed(score)}`);
  }
}

customElements.define("hw-what-if", WhatIf);
