// One example in full: its heat, its peaks, and which of its tokens pushed which token of the question.

import * as api from "../api.js";
import { announce, h, put } from "../dom.js";
import { dress, peaks, shade, share, strongest, text, token } from "../heat.js";
import { address, go, looks, promptText, question, read } from "../state.js";
import { count, oneLine, signed, size, tellingWords, visible } from "../words.js";
import { sparkline } from "./layers.js";

const CLOSE_ENOUGH = 1e-3; // rounding of float32 sums

class Drawer extends HTMLElement {
  #key; // of what is shown
  #example; // {id, tokens: [{token, influence}], …}
  #map; // token × token
  #pinned; // {side: "query" | "text", place}
  #stop;

  connectedCallback() {
    if (this.dialog) return;
    this.dialog = h("dialog", { class: "drawer", "aria-labelledby": "drawer-title", onclose: () => read().example && go({ example: "" }) });
    this.dialog.addEventListener("click", (event) => event.target === this.dialog && this.dialog.close());
    this.dialog.addEventListener("keydown", (event) => this.#pressed(event));
    this.append(this.dialog);
  }

  update(state, info, answer) {
    this.state = state;
    this.answer = answer;
    if (!state.example || !state.completion) {
      this.#key = undefined;
      if (this.dialog.open) this.dialog.close();
      return;
    }
    const key = JSON.stringify([state.example, question(state), state.layers, state.damping, state.view === "results" && !answer]);
    if (key !== this.#key) {
      this.#key = key;
      this.#show(state, info);
    } else if (this.#example) this.#draw();
    if (!this.dialog.open) this.dialog.showModal();
  }

  get #ranked() {
    return this.answer ? [...this.answer.proponents, ...this.answer.opponents] : [];
  }

  async #show(state, info) {
    this.info = info;
    this.#example = this.#ranked.find((example) => example.id === state.example);
    this.#map = this.#pinned = undefined;
    this.#stop?.abort();
    const stop = (this.#stop = new AbortController());
    if (this.#example) this.#draw();
    else put(this.dialog, this.#head(state.example), h("p", { class: "quiet" }, "Reading the example …"));
    try {
      const asked = { ...question(state), example: state.example, damping: state.damping || null, layers: state.layers.length ? state.layers : null };
      const known = this.#example ?? (await api.example(state.example));
      const map = await api.tokenMap(asked, stop.signal);
      if (stop.signal.aborted) return;
      this.#map = map;
      if (!this.#example) {
        const sums = map.example_tokens.map((piece, t) => ({ token: piece, influence: map.values.reduce((sum, row) => sum + row[t], 0) }));
        this.#example = { ...known, tokens: sums, influence: sums.reduce((sum, one) => sum + one.influence, 0), layers: {}, duplicates: [] };
      }
      this.#draw();
    } catch (problem) {
      if (problem.name === "AbortError" || stop.signal.aborted) return;
      const trouble = document.createElement("hw-trouble");
      this.dialog.append(trouble);
      trouble.show(problem, () => this.#show(read(), info));
    }
  }

  #head(id) {
    const ids = this.#ranked.map((example) => example.id);
    const at = ids.indexOf(id);
    const step = (name, to, sign) => at >= 0 && h("button", { type: "button", class: "plain", "data-key": name, disabled: !(to in ids), "aria-label": name, title: name, onclick: () => go({ example: ids[to] }, { replace: true }) }, sign);
    const copy = h("button", { type: "button", class: "link", onclick: async () => {
      await navigator.clipboard.writeText(id);
      announce("Id copied");
      copy.textContent = "Copied";
    } }, "Copy id");
    return h("header", {},
      h("h2", { id: "drawer-title", tabindex: -1 }, h("bdi", {}, oneLine(id))), copy,
      h("span", { class: "push" }), step("The one before", at - 1, "↑"), step("The next one", at + 1, "↓"),
      h("button", { type: "button", class: "plain", "aria-label": "Close", title: "Close (Esc)", onclick: () => this.dialog.close() }, "✕"));
  }

  #draw() {
    const example = this.#example;
    const inside = this.dialog.contains(document.activeElement);
    const focused = inside && document.activeElement.dataset.key;
    const seen = looks(this.state);
    this.pieces = shade(example.tokens, strongest(example.tokens), tellingWords(`${promptText(this.state)} ${this.state.completion}`));
    this.summits = peaks(this.pieces);
    this.body = text(this.pieces, { ...seen, numbers: seen.numbers });
    this.body.classList.add("whole");
    this.#listen(this.body, "text");
    this.query = this.#queryStrip(seen);
    this.readout = h("p", { class: "readout", "aria-live": "polite" });
    put(
      this.dialog,
      this.#head(example.id),
      h("div", { class: "facts" },
        h("b", { class: `score ${example.influence > 0 ? "up" : "down"}` }, signed(example.influence)), " nats × N",
        example.removal_effect !== undefined && h("span", { class: "quiet" }, `without it, log p changes by ${size(example.removal_effect, this.answer?.reach)}`),
        this.#check(example)),
      h("h3", {}, "The question"),
      this.query,
      this.readout,
      h("h3", {}, "The training text"),
      h("div", { class: "row" },
        h("div", { class: "segments", role: "group", "aria-label": "Step between the strongest tokens" },
          h("button", { type: "button", "data-key": "peak-back", onclick: () => this.#peak(-1) }, "◀"),
          h("button", { type: "button", "data-key": "peak", onclick: () => this.#peak(1) }, "Next peak ▶")),
        this.counter = h("span", { class: "quiet" }, count(this.summits.length, "peak")),
        h("button", { type: "button", "data-key": "unpin", hidden: !this.#pinned, onclick: () => this.#pin(undefined) }, "Unpin"),
        h("a", { href: address({ ...this.state, view: "what-if", text: example.text.slice(0, 4000), example: "" }) }, "Edit it: what if?")),
      this.body,
      this.#metadata(example),
    );
    this.#arrange();
    if (focused) this.dialog.querySelector(`[data-key="${CSS.escape(focused)}"]:enabled`)?.focus();
    if (inside && !this.dialog.contains(document.activeElement)) this.dialog.querySelector("#drawer-title").focus();
    if (this.#pinned) this.#relate(this.#pinned);
    else this.#tellSum();
  }

  #queryStrip(seen) {
    const strip = h("div", { class: "text query" });
    if (!this.#map) {
      put(strip, h("span", { class: "quiet" }, "Working out which token pushed which …"));
      return strip;
    }
    const sums = this.#map.values.map((row) => row.reduce((a, b) => a + b, 0));
    const tokens = this.#map.query_tokens.map((piece, n) => ({ token: piece, influence: sums[n] }));
    const pieces = shade(tokens, strongest(tokens));
    const first = this.#map.contrast_tokens ? pieces.length - this.#map.contrast_tokens : pieces.length;
    const nodes = pieces.flatMap((piece) => [piece.place === first && h("span", { class: "quiet" }, " rather than "), ...token(piece, seen)]);
    put(strip, nodes);
    this.queryPieces = pieces;
    this.#listen(strip, "query");
    return strip;
  }

  /** Do the parts add up? To the score, and the token × token map to both. */
  #check(example) {
    const sum = example.tokens.reduce((total, one) => total + one.influence, 0);
    const size = example.tokens.reduce((total, one) => total + Math.abs(one.influence), 0) || 1;
    const map = this.#map?.values.flat().reduce((a, b) => a + b, 0);
    const right = Math.abs(sum - example.influence) <= CLOSE_ENOUGH * size && (map === undefined || Math.abs(map - example.influence) <= 5 * CLOSE_ENOUGH * size);
    const told = `The tokens add up to ${signed(sum)}${map === undefined ? "" : `, all pairs of tokens to ${signed(map)}`}`;
    return h("span", { class: `badge ${right ? "right" : "wrong"}`, title: told }, right ? "✓ sum of tokens = score" : `✗ ${told}`);
  }

  #metadata(example) {
    const rows = [["Source", example.source], ...Object.entries(example.metadata ?? {}).filter(([, value]) => value !== null)];
    const list = rows.filter(([, value]) => value !== "" && value !== undefined).map(([key, value]) => [h("dt", {}, h("bdi", {}, oneLine(key))), h("dd", {}, h("bdi", {}, oneLine(String(value))))]);
    const layers = Object.keys(example.layers ?? {}).length > 0;
    return [
      layers && h("div", { class: "row" }, sparkline(example.layers, this.info.layers), h("span", { class: "quiet" }, "influence by layer")),
      h("dl", {}, list,
        example.duplicates?.length > 0 && [h("dt", {}, count(example.duplicates.length, "near-duplicate")), h("dd", {}, h("bdi", {}, example.duplicates.map(oneLine).join(", ")))]),
    ];
  }

  // -- token × token

  #listen(element, side) {
    element.addEventListener("pointerover", (event) => this.#over(event, side));
    element.addEventListener("pointerleave", () => !this.#pinned && this.#plain());
    element.addEventListener("click", (event) => {
      const place = event.target.closest(".t")?.dataset.place;
      if (place !== undefined) this.#pin({ side, place: Number(place) });
    });
    element.addEventListener("focusin", (event) => event.target.matches(".t") && !this.#pinned && this.#relate({ side, place: Number(event.target.dataset.place) }));
  }

  /** Tokens are reached with Tab, then moved among with the arrows. */
  #arrange() {
    for (const [side, element] of [["text", this.body], ["query", this.query]]) {
      const spans = [...element.querySelectorAll(".t")];
      if (!spans.length) continue;
      element.setAttribute("role", "group");
      element.setAttribute("aria-label", side === "text" ? "Tokens of the training text" : "Tokens of the question");
      spans.forEach((span, n) => {
        span.setAttribute("tabindex", n === 0 ? "0" : "-1");
        span.setAttribute("role", "button");
        span.setAttribute("aria-pressed", "false");
        span.setAttribute("aria-label", span.title);
      });
    }
  }

  #over(event, side) {
    const place = event.target.closest(".t")?.dataset.place;
    if (place !== undefined && !this.#pinned) this.#relate({ side, place: Number(place) });
  }

  #pin(one) {
    const same = one && this.#pinned && one.side === this.#pinned.side && one.place === this.#pinned.place;
    this.#pinned = same ? undefined : one;
    this.dialog.querySelector('[data-key="unpin"]').hidden = !this.#pinned;
    if (this.#pinned) this.#relate(this.#pinned);
    else this.#plain();
    for (const [side, element] of [["text", this.body], ["query", this.query]]) {
      for (const span of element.querySelectorAll(".t")) {
        const pinned = this.#pinned?.side === side && this.#pinned.place === Number(span.dataset.place);
        span.setAttribute("aria-pressed", String(pinned));
        span.classList.toggle("pinned", pinned);
      }
    }
  }

  /** Shade one side by what a token of the other side has to do with it. */
  #relate({ side, place }) {
    if (!this.#map) return;
    this.#plain();
    if (side === "query") {
      const row = this.#map.values[place];
      this.#paint(this.body, this.pieces, row);
      this.#tell(`${this.#name(this.#map.query_tokens, place)} was pushed ${signed(row.reduce((a, b) => a + b, 0))} by this text; shaded: by which of its tokens.`);
    } else {
      const column = this.#map.values.map((row) => row[place]);
      this.#paint(this.query, this.queryPieces, column);
      this.#tell(`${this.#name(this.#map.example_tokens, place)} pushed the question ${signed(column.reduce((a, b) => a + b, 0))}; shaded: which of its tokens.`);
    }
  }

  #name(tokens, place) {
    return `“${oneLine(tokens[place].trim()) || "␣"}”`;
  }

  #paint(element, pieces, values) {
    const scale = Math.max(0, ...values.map(Math.abs));
    for (const span of element.querySelectorAll(".t")) {
      const place = Number(span.dataset.place);
      const influence = values[place];
      dress(span, { ...pieces[place], influence, share: share(influence, scale), word: false });
      if (this.state.numbers) span.dataset.number = signed(influence);
    }
  }

  #plain() {
    for (const [element, pieces] of [[this.body, this.pieces], [this.query, this.queryPieces]]) {
      for (const span of element.querySelectorAll(".t")) {
        const piece = pieces?.[Number(span.dataset.place)];
        if (piece) dress(span, piece);
      }
    }
    this.#tellSum();
  }

  #tellSum() {
    this.#tell(this.#map ? "Point at a token, of the question or of the text, to see what pushed what; click pins it." : "");
  }

  #tell(words) {
    this.readout.textContent = visible(words);
  }

  // -- moving about

  #peak(step) {
    if (!this.summits.length) return;
    this.at = ((this.at ?? (step > 0 ? -1 : 0)) + step + this.summits.length) % this.summits.length;
    const span = this.body.querySelector(`[data-place="${this.summits[this.at]}"]`);
    for (const old of this.body.querySelectorAll(".peak")) old.classList.remove("peak");
    span.classList.add("peak");
    span.scrollIntoView({ block: "center" });
    this.counter.textContent = `${this.at + 1} of ${this.summits.length}, strongest first`;
    announce(`Peak ${this.at + 1} of ${this.summits.length}: ${span.title}`);
  }

  #pressed(event) {
    const span = event.target.closest?.(".t");
    if (!span) return;
    const side = this.body.contains(span) ? "text" : "query";
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.#pin({ side, place: Number(span.dataset.place) });
      return;
    }
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const spans = [...(side === "text" ? this.body : this.query).querySelectorAll(".t")];
    const to = spans[Math.max(0, Math.min(spans.length - 1, spans.indexOf(span) + step))];
    span.setAttribute("tabindex", "-1");
    to.setAttribute("tabindex", "0");
    to.focus();
  }
}

customElements.define("hw-drawer", Drawer);
