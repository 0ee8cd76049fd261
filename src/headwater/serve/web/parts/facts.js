// The head of the page: what is served, and light or dark.

import { h, put } from "../dom.js";
import { count, oneLine } from "../words.js";

class Facts extends HTMLElement {
  show(info) {
    const name = info.model.split("/").filter(Boolean).slice(-2).join("/");
    put(this, h("bdi", { title: oneLine(info.model) }, oneLine(name)), " · ", count(info.examples, "training example"));
  }
}

const THEMES = ["system", "light", "dark"];

class Theme extends HTMLElement {
  connectedCallback() {
    this.set(localStorage.getItem("headwater-theme") ?? "system");
  }

  set(theme) {
    if (theme === "system") {
      delete document.documentElement.dataset.theme;
      localStorage.removeItem("headwater-theme");
    } else {
      document.documentElement.dataset.theme = theme;
      localStorage.setItem("headwater-theme", theme);
    }
    const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    const sign = { system: "◐", light: "○", dark: "●" }[theme];
    const label = `Theme: ${theme}. Change to ${next}`;
    const button = h("button", { class: "plain", type: "button", title: label, "aria-label": label }, sign);
    button.addEventListener("click", () => {
      this.set(next);
      this.firstElementChild.focus();
    });
    put(this, button);
  }
}

customElements.define("hw-facts", Facts);
customElements.define("hw-theme", Theme);
