// The turns of a conversation before the completion: who speaks, and what is said.

import { announce, h, put, tell } from "../dom.js";

const ROLES = { system: "System", user: "User", assistant: "Assistant", tool: "Tool" };

class Turns extends HTMLElement {
  /** The turns as they are typed: [{role, content}, …]. */
  get value() {
    return [...this.querySelectorAll("li")].map((item) => ({
      role: item.querySelector("select").value,
      content: item.querySelector("textarea").value,
    }));
  }

  show(turns) {
    if (this.list && JSON.stringify(turns) === JSON.stringify(this.value)) return; // the caret stays where it is
    this.list ??= h("ol", { class: "turns" });
    this.#draw(turns);
    if (!this.firstElementChild) {
      this.append(this.list, h("button", { type: "button", class: "link", onclick: () => this.#add() }, "Add a turn"));
    }
  }

  #draw(turns) {
    put(this.list, turns.map((turn, n) => this.#turn(turn, n, turns.length)));
  }

  #turn({ role, content }, n, total) {
    const names = role in ROLES ? ROLES : { ...ROLES, [role]: role };
    const option = ([name, label]) => h("option", { value: name, selected: name === role }, label);
    const changed = () => tell(this, "headwater:turns");
    return h("li", {},
      h("div", { class: "row" },
        h("select", { "aria-label": `Who speaks in turn ${n + 1}`, onchange: changed }, Object.entries(names).map(option)),
        total > 1 && h("button", { type: "button", class: "link", "aria-label": `Remove turn ${n + 1}`, onclick: () => this.#remove(n) }, "Remove")),
      h("textarea", {
        rows: 2, spellcheck: "false", "aria-label": `What is said in turn ${n + 1}`, value: content,
        placeholder: "What was said", oninput: changed,
      }));
  }

  /** The assistant follows the user, and the user everyone else. */
  #add() {
    const turns = this.value;
    const role = turns.at(-1)?.role === "user" ? "assistant" : "user";
    this.#change([...turns, { role, content: "" }], `Turn ${turns.length + 1} added`);
    this.list.lastElementChild.querySelector("textarea").focus();
  }

  #remove(n) {
    this.#change(this.value.filter((_, place) => place !== n), `Turn ${n + 1} removed`);
    this.list.children[Math.max(0, n - 1)].querySelector("textarea").focus();
  }

  #change(turns, said) {
    this.#draw(turns);
    announce(said);
    tell(this, "headwater:turns");
  }
}

customElements.define("hw-turns", Turns);
