// Asking: a prompt, what the model said after it, and the answer below.

import * as api from "../api.js";
import { announce, debounce, h, put, tell } from "../dom.js";
import { conversation, field, given, go, promptText, question, read, usual } from "../state.js";
import { oneLine, shorten } from "../words.js";
import "./question.js";
import "./results.js";
import "./turns.js";

class Ask extends HTMLElement {
  #info;
  #described; // the question whose tokens are shown
  #describing; // stops it
  #typed = debounce(() => this.#take(), 350);

  connectedCallback() {
    if (this.firstElementChild) return;
    this.form = h("form", { class: "compose", onsubmit: (event) => event.preventDefault() });
    this.asked = document.createElement("hw-question");
    this.results = document.createElement("hw-results");
    this.append(this.form, this.asked, this.results);
    this.addEventListener("headwater:again", () => this.results.show(read(), this.#info, { again: true }));
  }

  /** The finished answer that is shown, or undefined. */
  get answer() {
    return this.results.answer;
  }

  update(state, info) {
    if (this.#info !== info) {
      this.#info = info;
      this.#build(info);
    }
    for (const [name, box] of Object.entries(this.boxes)) if (box.value !== state[name]) box.value = state[name];
    this.contrast.open ||= Boolean(state.contrast);
    const chat = info.conversations && !state.raw;
    this.prompt.hidden = chat;
    this.turns.hidden = !chat;
    this.raw.checked = state.raw;
    if (chat) this.turns.show(conversation(state) ?? [{ role: "user", content: state.prompt }]);
    const answering = state.view === "results";
    this.form.hidden = answering;
    this.#advise(state);
    this.#describe(state);
    this.results.hidden = !answering;
    if (answering) this.results.show(state, info);
  }

  #build(info) {
    const box = (name, label, rows, hint) => {
      const area = h("textarea", { id: `box-${name}`, rows, spellcheck: "false", placeholder: hint, oninput: this.#typed });
      return [h("label", { for: area.id }, label), area];
    };
    const prompt = box("prompt", "Prompt", 2, "What the model was given");
    const completion = box("completion", "What it said", 2, "Let it write, or paste a completion");
    const contrast = box("contrast", "Rather than", 1, "What it might have said instead");
    this.boxes = { prompt: prompt[1], completion: completion[1], contrast: contrast[1] };
    this.prompt = h("div", { class: "field" }, prompt);
    this.turns = document.createElement("hw-turns");
    this.turns.addEventListener("headwater:turns", this.#typed);
    this.raw = h("input", { type: "checkbox", onchange: () => this.#toggleTemplate() });
    this.contrast = h("details", {}, h("summary", {}, "Why this rather than that?"), contrast);
    this.advice = h("p", { class: "advice", hidden: true });
    this.trouble = document.createElement("hw-trouble");
    put(
      this.form,
      h("h1", {}, "Which training examples made the model say that?"),
      h("p", { class: "lead" },
        "Give a prompt, let the model go on or paste what it said, choose the words to explain, and see the texts that taught it."),
      this.#chips(info),
      h("div", { class: "fields" },
        h("div", { class: "field" }, this.prompt, this.turns,
          info.conversations && h("label", { class: "check" }, this.raw, "The prompt is the whole text that the model reads (no chat template)")),
        h("div", { class: "field" }, completion, this.#writer(), this.advice, this.contrast)),
      this.trouble,
    );
  }

  #chips(info) {
    const chip = ({ prompt, completion }) =>
      h("button", {
        type: "button", class: "chip", title: oneLine(prompt + (completion ?? "")),
        onclick: () => go({ view: "ask", prompt, messages: "", raw: false, completion: completion ?? "", contrast: "", span: null, layers: [], example: "" }),
      }, h("span", {}, shorten(oneLine(prompt), 60)), completion && h("b", {}, shorten(oneLine(completion), 40)));
    return info.prompts.length > 0 && h("div", { class: "chips", role: "group", "aria-label": "Examples to begin with" }, info.prompts.map(chip));
  }

  #writer() {
    const number = (id, label, name, attributes) => [
      h("label", { for: id }, label),
      h("input", { id, name, type: "number", value: usual("sampling", name), ...field("sampling", name), ...attributes }),
    ];
    this.length = number("length", "Tokens", "max_new_tokens");
    this.temperature = number("temperature", "Temperature (0: the likeliest)", "temperature", { step: "0.1" });
    this.seed = number("seed", "Seed", "seed");
    this.write = h("button", { type: "button", onclick: () => this.#generate() }, "Generate");
    return h("div", { class: "row" }, this.write,
      h("details", { class: "inline" }, h("summary", {}, "How it is written"),
        h("div", { class: "numbers" }, this.length, this.temperature, this.seed)));
  }

  async #generate() {
    const inputs = [this.length, this.temperature, this.seed].map(([, input]) => input);
    const chosen = ({ name, valueAsNumber }) => [name, Number.isNaN(valueAsNumber) ? usual("sampling", name) : valueAsNumber];
    const sampling = Object.fromEntries(inputs.map(chosen));
    this.write.disabled = true;
    this.trouble.wait("The model is writing …");
    try {
      const state = read();
      const query = await api.generate(given({ ...state, ...this.#typedPrompt(state) }), sampling);
      this.trouble.replaceChildren();
      announce(`It said: ${query.completion}`);
      go({ ...(query.messages ? {} : { prompt: query.prompt }), completion: query.completion, span: null });
    } catch (problem) {
      this.trouble.show(problem, () => this.#generate());
    } finally {
      this.write.disabled = false;
    }
  }

  /** What was typed becomes part of the address. */
  #take() {
    const [completion, contrast] = ["completion", "contrast"].map((name) => this.boxes[name].value);
    go({ ...this.#typedPrompt(read()), completion, contrast, span: null }, { replace: true });
  }

  /** What was typed as the prompt. One message of a user is a prompt; several turns are messages. */
  #typedPrompt(state) {
    if (!this.#info.conversations || state.raw) return { prompt: this.boxes.prompt.value, messages: "" };
    const turns = this.turns.value;
    const alone = turns.length === 1 && turns[0].role === "user";
    return alone ? { prompt: turns[0].content, messages: "" } : { prompt: "", messages: JSON.stringify(turns) };
  }

  /** The words stay, with the chat template or without it. */
  #toggleTemplate() {
    const state = read();
    go({ raw: this.raw.checked, prompt: promptText({ ...state, ...this.#typedPrompt(state) }), messages: "", span: null });
  }

  /** A space that is missing between prompt and completion changes every token after it. */
  #advise({ prompt, completion, raw }) {
    const chat = this.#info.conversations && !raw;
    const glued = !chat && /[\p{L}\p{N}.,!?]$/u.test(prompt) && /^[\p{L}\p{N}]/u.test(completion);
    this.advice.hidden = !glued;
    if (!glued) return;
    const fix = () => go({ completion: ` ${read().completion}`, span: null });
    put(this.advice, "There is no space between the prompt and what it said. ",
      h("button", { type: "button", class: "link", onclick: fix }, "Put one in"));
  }

  async #describe(state) {
    const asked = { ...question(state), span: null };
    const key = JSON.stringify(asked);
    const answering = state.view === "results";
    this.asked.hidden = !promptText(state) && !state.completion;
    if (!state.completion) {
      this.#described = undefined;
      this.asked.empty();
      return;
    }
    if (key === this.#described) {
      this.asked.select(state.span, answering);
      return;
    }
    this.#described = key;
    this.#describing?.abort();
    this.#describing = new AbortController();
    const { signal } = this.#describing;
    try {
      const query = await api.describe(asked, signal);
      const contrast = state.contrast ? await api.describe({ ...asked, completion: state.contrast, contrast: null }, signal) : null;
      this.asked.show(query, contrast, read().span, read().view === "results");
    } catch (problem) {
      if (problem.name === "AbortError") return;
      this.#described = undefined;
      this.asked.fail(problem, () => this.#describe(read()));
      tell(this, "headwater:trouble", problem);
    }
  }
}

customElements.define("hw-ask", Ask);
