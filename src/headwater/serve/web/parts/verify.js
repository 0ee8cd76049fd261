// Verifying an answer: its predictions for single examples, compared with their effect on the model.

import * as api from "../api.js";
import { announce, h, put, tell } from "../dom.js";
import { address, field, go, read, usualCheck, verification } from "../state.js";
import { count, oneLine, shorten, signed } from "../words.js";
import { NAMES, numbers, scatter } from "./scatter.js";

const KINDS = {
  step: ["A small step on each", "Trains a little more on each example and compares the change of the likelihood with the prediction. It checks gradients and arithmetic, in about a second."],
  pbrf: ["Removing each", "Finds where the weights settle without the example, if predictions for a reference set stay the same. It checks the curvature too, and takes about half a minute per example with a small model, while other questions wait."],
};
const STAGES = { step: "steps", pbrf: "responses" };

class Verify extends HTMLElement {
  #key; // of the verification that is shown or under way
  #stop; // aborts it
  #job;

  #build() {
    this.trouble = h("div");
    this.result = h("div");
    this.details = h("details", {}, h("summary", { "data-key": "verify" }, "Verify: does the model do what this predicts?"),
      h("div", { class: "verify" }, this.#form(), this.trouble, this.result));
    this.append(this.details);
    this.#fill(usualCheck());
    addEventListener("pagehide", () => this.stop()); // nobody would wait for it
    addEventListener("pageshow", (event) => event.persisted && dispatchEvent(new CustomEvent("headwater:state")));
  }

  /** Stop what is under way. */
  stop() {
    this.#stop?.abort();
    if (!this.#job) this.#key = undefined;
  }

  update(state, answer) {
    if (!this.firstElementChild) this.#build(); // it may not be in the page: an answer can come while another view is shown
    this.answer = answer;
    const wanted = verification(state);
    const key = wanted ? JSON.stringify(wanted) : undefined;
    if (key === this.#key) {
      if (this.#job) this.#draw();
      return;
    }
    this.#clear();
    if (!wanted) return;
    this.#key = key;
    this.details.open = true;
    this.#fill(state.verify);
    this.#run(wanted);
  }

  #clear() {
    this.#stop?.abort();
    this.#key = this.#job = this.#stop = undefined;
    put(this.trouble);
    put(this.result);
  }

  async #run(wanted) {
    this.#stop?.abort();
    const stop = (this.#stop = new AbortController());
    const trouble = document.createElement("hw-trouble");
    const progress = (job) => !stop.signal.aborted && trouble.progress(job, () => this.#cancel());
    put(this.trouble, trouble);
    progress({ state: "running", stage: STAGES[wanted.kind] });
    try {
      const job = await api.verify(wanted, { signal: stop.signal, onProgress: progress });
      if (stop.signal.aborted) return;
      this.#job = job;
      put(this.trouble);
      this.#draw();
      announce(job.meaning);
    } catch (problem) {
      if (problem.name === "AbortError" || stop.signal.aborted) return;
      trouble.show(problem, () => this.#run(wanted));
    }
  }

  /** The address then no longer says that it is verified. */
  #cancel() {
    this.#clear();
    go({ verify: null }, { replace: true });
    put(this.trouble, h("p", { class: "hint" }, "Cancelled."));
    announce("Cancelled");
    this.button.focus();
  }

  // -- what is asked for

  #form() {
    const kind = ([name, [title, told]]) => h("label", { class: "kind" },
      h("input", { type: "radio", name: "verify-kind", value: name, "data-key": `verify-${name}`, onchange: () => this.#arrange() }),
      h("b", {}, title), h("span", { class: "quiet" }, told));
    const number = (name, label, attributes) => {
      const limits = field("verifications", name);
      const input = h("input", { type: "number", name, required: true, "data-key": `verify-${name}`, ...limits, ...attributes });
      return [name, h("label", {}, label, input), input];
    };
    const all = [
      number("k", "Of each end"),
      number("random", "At random"),
      number("weight", "Part removed", { step: "any" }),
      number("subset", "Reference set"),
      number("iterations", "Iterations"),
      number("seed", "Seed"),
    ];
    this.inputs = Object.fromEntries(all.map(([name, , input]) => [name, input]));
    const labels = Object.fromEntries(all.map(([name, label]) => [name, label]));
    this.responses = [labels.weight, labels.subset, labels.iterations];
    this.button = h("button", { class: "main", "data-key": "verify-go" }, "Verify");
    this.form = h("form", { onsubmit: (event) => this.#submit(event) },
      h("fieldset", {}, h("legend", {}, "What is done to the model"), Object.entries(KINDS).map(kind)),
      h("div", { class: "numbers" }, labels.k, labels.random),
      h("details", {}, h("summary", { "data-key": "verify-more" }, "More"), h("div", { class: "numbers" }, this.responses, labels.seed)),
      this.button);
    return this.form;
  }

  #fill(check) {
    this.form.elements["verify-kind"].value = check.kind;
    for (const [name, input] of Object.entries(this.inputs)) input.value = check[name];
    this.#arrange();
  }

  get #kind() {
    return this.form.elements["verify-kind"].value;
  }

  /** Hide the numbers that a step does not need. */
  #arrange() {
    for (const label of this.responses) {
      label.hidden = this.#kind !== "pbrf";
      label.firstElementChild.disabled = label.hidden;
    }
  }

  #submit(event) {
    event.preventDefault();
    const check = { ...usualCheck(), kind: this.#kind };
    for (const [name, input] of Object.entries(this.inputs)) if (!input.disabled) check[name] = input.valueAsNumber;
    const before = location.hash;
    go({ verify: check });
    if (location.hash === before) this.#run(verification(read())); // once more
  }

  // -- what was found

  #draw() {
    const found = this.#job.answer;
    const shown = new Set([...this.answer.proponents, ...this.answer.opponents].map((example) => example.id));
    const leads = {
      href: (id) => address({ ...read(), example: id }),
      open: (event, id) => {
        if (!shown.has(id) || event.metaKey || event.ctrlKey || event.shiftKey) return;
        event.preventDefault();
        event.stopPropagation(); // a link would open the example; its card is here
        tell(this, "headwater:card", id);
      },
    };
    const readout = h("p", { class: "readout", "aria-hidden": "true" }, "Point at a mark to see its example; choosing it leads there.");
    const look = (check) => put(readout, h("b", {}, h("bdi", {}, oneLine(check.id))), ` (${NAMES[check.group]}): ${numbers(check)}`);
    const figure = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value === null ? "none" : value.toFixed(3).replace("-", "−")));
    put(this.result, h("div", { class: "checked" },
      h("div", {}, scatter(found, leads, look), readout,
        h("dl", { class: "figures" }, figure("Slope", found.slope), figure("Pearson", found.correlation), figure("Spearman", found.spearman)),
        h("p", {}, this.#job.meaning),
        h("p", { class: "made-with" }, this.#job.made_with)),
      table(found, leads.href)));
  }
}

/** The same in numbers. */
function table(found, href) {
  const unsettled = found.checks.some((check) => !check.converged);
  const row = (check, n) => h("tr", {},
    h("td", {}, h("a", { href: href(check.id), "data-key": `check-${n}` }, h("bdi", {}, shorten(oneLine(check.id), 60)))),
    h("td", {}, NAMES[check.group]),
    h("td", { class: "number" }, signed(check.predicted)),
    h("td", { class: "number" }, signed(check.measured)),
    unsettled && h("td", { class: "number" }, check.converged ? "" : `${(100 * check.remaining).toFixed(0)}%`));
  return h("div", { class: "scroll" }, h("table", {},
    h("caption", {}, `${count(found.checks.length, "example")}, in nats`),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "example"), h("th", { scope: "col" }, "of those that"),
      h("th", { scope: "col", class: "number" }, "predicted"), h("th", { scope: "col", class: "number" }, "measured"),
      unsettled && h("th", { scope: "col", class: "number" }, "of the way left"))),
    h("tbody", {}, found.checks.map(row))));
}

customElements.define("hw-verify", Verify);
