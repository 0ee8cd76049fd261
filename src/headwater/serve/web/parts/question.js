// The tokens of the question with their surprisal; those to explain are chosen by dragging, or with Shift and arrows.

import { announce, h, put } from "../dom.js";
import { go } from "../state.js";
import { count, oneLine, probability, shorten, visible } from "../words.js";

const FULL = 8; // nats at which the bar under a token is full

const length = (text) => [...text].length; // in code points, as the server counts

class QuestionTokens extends HTMLElement {
  #query;
  #contrast;
  #places = []; // of the tokens that may be chosen: {start, stop} in the completion
  #anchor = 0;
  #caret = 0;
  #answering = false;

  empty() {
    this.#query = undefined;
    put(this, h("p", { class: "hint" }, "Then the words to explain are chosen here."));
  }

  fail(problem, retry) {
    const trouble = document.createElement("hw-trouble");
    put(this, trouble);
    trouble.show(problem, retry);
  }

  show(query, contrast, span, answering) {
    this.#query = query;
    this.#contrast = contrast;
    const prompt = length(query.prompt);
    const end = length(query.completion);
    let reached = 0;
    this.#places = query.tokens.map((token, place) => {
      const begin = reached;
      reached += length(token.token);
      const there = place > 0 && reached > prompt && reached > begin;
      return there ? { start: Math.max(0, begin - prompt), stop: Math.min(end, reached - prompt) } : null;
    });
    this.#build();
    this.select(span, answering);
  }

  /** Choose a part of the completion by its characters; null is all of it. */
  select(span, answering) {
    this.#answering = answering;
    if (!this.#query || !this.tokens) return;
    const chosen = this.#choosable().filter((n) => !span || (this.#places[n].start < span[1] && this.#places[n].stop > span[0]));
    if (chosen.length) [this.#anchor, this.#caret] = [chosen[0], chosen.at(-1)];
    this.#draw();
    this.go.hidden = answering;
    this.edit.hidden = !answering;
  }

  #choosable() {
    return this.#places.flatMap((place, n) => (place ? [n] : []));
  }

  #build() {
    const first = this.#choosable()[0] ?? 0;
    const before = this.#query.tokens.slice(0, first).map((token) => visible(token.token)).join("");
    const option = (token, n) => {
      const place = this.#places[n];
      const word = visible(token.token);
      const said = h("span", { class: "said" }, word);
      if (!place) return said;
      const loss = token.loss ?? 0;
      return h("span", {
        class: "tok", role: "option", id: `tok-${n}`, "data-n": n, style: { "--n": Math.min(1, loss / FULL).toFixed(3) },
        "data-nats": loss >= 0.05 && loss.toFixed(1), title: `${loss.toFixed(3)} nats, probability ${probability(loss)}`,
      }, said);
    };
    this.tokens = h("div", {
      class: "tokens", role: "listbox", tabindex: 0, "aria-multiselectable": "true",
      "aria-label": "Words of the completion to explain. Arrows move, with Shift they choose several.",
      onkeydown: (event) => this.#key(event), onpointerdown: (event) => this.#press(event),
    }, this.#query.tokens.slice(first).map((token, n) => option(token, n + first)));
    this.readout = h("p", { class: "readout" });
    this.go = h("button", { type: "button", class: "main", onclick: () => go({ view: "results", span: this.#span() }) }, "Explain");
    this.edit = h("button", { type: "button", onclick: () => go({ view: "ask", example: "" }) }, "Change the question");
    const preset = (name, action, title) => h("button", { type: "button", title, onclick: action }, name);
    put(
      this,
      h("h2", { class: "unseen" }, "What to explain"),
      h("div", { class: "asked" },
        before && h("bdi", { class: "before", dir: "auto" }, before.length > 600 ? `…${before.slice(-600)}` : before),
        this.tokens,
        this.#contrast && h("p", { class: "contrast" }, h("span", { class: "quiet" }, "rather than "),
          h("bdi", {}, oneLine(this.#contrast.completion.trim())),
          h("span", { class: "quiet" }, ` ${this.#contrast.loss.toFixed(2)} nats, probability ${probability(this.#contrast.loss)}`))),
      h("div", { class: "row choose" },
        h("div", { class: "segments", role: "group", "aria-label": "Choose" },
          preset("Whole", () => this.#whole(), "The whole completion"),
          preset("Sentence", () => this.#sentence(), "The sentence of the chosen word"),
          preset("Token", () => this.#token(), "The most surprising of the chosen tokens")),
        this.readout, this.go, this.edit),
    );
  }

  get #range() {
    return [Math.min(this.#anchor, this.#caret), Math.max(this.#anchor, this.#caret)];
  }

  /** The chosen characters of the completion, or null where all of it is chosen. */
  #span() {
    const [low, high] = this.#range;
    const choosable = this.#choosable();
    if (low <= choosable[0] && high >= choosable.at(-1)) return null;
    return [this.#places[low].start, this.#places[high].stop];
  }

  #draw() {
    const [low, high] = this.#range;
    for (const element of this.tokens.querySelectorAll(".tok")) {
      const n = Number(element.dataset.n);
      element.setAttribute("aria-selected", String(n >= low && n <= high));
      element.classList.toggle("caret", n === this.#caret);
    }
    this.tokens.setAttribute("aria-activedescendant", `tok-${this.#caret}`);
    const chosen = this.#choosable().filter((n) => n >= low && n <= high).map((n) => this.#query.tokens[n]);
    const loss = chosen.reduce((sum, token) => sum + (token.loss ?? 0), 0);
    const words = shorten(oneLine(chosen.map((token) => token.token).join("").trim()), 50);
    put(this.readout, "Explaining ", h("b", {}, h("bdi", {}, `“${words}”`)), `, ${count(chosen.length, "token")}: `,
      h("span", { title: "Surprisal: −log p of the chosen words" }, `${loss.toFixed(2)} nats, probability ${probability(loss)}`));
  }

  /** The choice is made: it goes into the address, and an answer that is shown follows it. */
  #commit() {
    this.#draw();
    announce(this.readout.textContent);
    go({ span: this.#span(), example: "" }, { replace: !this.#answering });
  }

  #whole() {
    const choosable = this.#choosable();
    [this.#anchor, this.#caret] = [choosable[0], choosable.at(-1)];
    this.#commit();
  }

  #sentence() {
    const choosable = this.#choosable();
    const ends = (n) => /[.!?]["'”’]?\s*$/u.test(this.#query.tokens[n].token);
    const at = choosable.indexOf(this.#range[0]);
    let low = at;
    let high = at;
    while (low > 0 && !ends(choosable[low - 1])) low -= 1;
    while (high < choosable.length - 1 && !ends(choosable[high])) high += 1;
    [this.#anchor, this.#caret] = [choosable[low], choosable[high]];
    this.#commit();
  }

  #token() {
    const [low, high] = this.#range;
    const chosen = this.#choosable().filter((n) => n >= low && n <= high);
    const most = chosen.reduce((a, b) => ((this.#query.tokens[b].loss ?? 0) > (this.#query.tokens[a].loss ?? 0) ? b : a));
    this.#anchor = this.#caret = most;
    this.#commit();
  }

  #key(event) {
    const choosable = this.#choosable();
    const at = choosable.indexOf(this.#caret);
    const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: choosable.length - 1 };
    if (event.key === "a" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.#whole();
    } else if (event.key === "Enter") {
      go({ view: "results", span: this.#span() });
    } else if (event.key in moves) {
      event.preventDefault();
      this.#caret = choosable[Math.max(0, Math.min(choosable.length - 1, moves[event.key]))];
      if (!event.shiftKey) this.#anchor = this.#caret;
      this.#commit();
    }
  }

  #press(event) {
    const pressed = event.target.closest(".tok");
    if (!pressed || event.button) return;
    if (!event.shiftKey) this.#anchor = Number(pressed.dataset.n);
    this.#caret = Number(pressed.dataset.n);
    this.#draw();
    event.preventDefault();
    this.tokens.focus();
    const move = (at) => {
      const under = document.elementFromPoint(at.clientX, at.clientY)?.closest("hw-question .tok");
      if (!under) return;
      this.#caret = Number(under.dataset.n);
      this.#draw();
    };
    const stop = () => {
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", stop);
      removeEventListener("pointercancel", stop);
      this.#commit();
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", stop);
    addEventListener("pointercancel", stop);
  }
}

customElements.define("hw-question", QuestionTokens);
