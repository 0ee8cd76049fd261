// The page: which view is shown, and what the views share.

import * as api from "./api.js";
import { announce, put } from "./dom.js";
import { go, read, useOptions } from "./state.js";
import "./parts/ask.js";
import "./parts/drawer.js";
import "./parts/facts.js";
import "./parts/method.js";
import "./parts/results.js";
import "./parts/trouble.js";
import "./parts/what-if.js";

const TITLES = { ask: "Ask", results: "Answer", "what-if": "What if", method: "Method" };
const main = document.getElementById("main");
const drawer = document.querySelector("hw-drawer");
const views = {};
let info;

/** Views are kept, so that going back finds them as they were. */
function view(name) {
  const element = name === "results" ? "ask" : name; // an answer is shown under its question
  views[element] ??= document.createElement(`hw-${element}`);
  return views[element];
}

function show() {
  const state = read();
  for (const link of document.querySelectorAll("nav [data-view]")) {
    const here = link.dataset.view === (state.view === "results" ? "ask" : state.view);
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
    link.setAttribute("href", hrefOf(link.dataset.view));
  }
  const shown = view(state.view);
  if (main.firstElementChild !== shown) {
    put(main, shown);
    if (document.title !== "Headwater") announce(TITLES[state.view]);
    scrollTo(0, 0);
  }
  document.title = `${TITLES[state.view]} · Headwater`;
  shown.update(state, info);
  drawer.update(state, info, views.ask?.answer);
}

/** Where a view's link leads: with the question along, so that nothing has to be typed twice. */
function hrefOf(view) {
  const query = location.hash.split(/\?(.*)/s)[1];
  return `#${view}${query ? `?${query}` : ""}`;
}

async function start() {
  try {
    info = await loaded();
  } catch (problem) {
    const trouble = document.createElement("hw-trouble");
    put(main, trouble);
    trouble.show(problem, start);
    return;
  }
  useOptions(info.options);
  document.querySelector("hw-facts").show(info);
  addEventListener("popstate", show);
  addEventListener("headwater:state", show);
  main.addEventListener("headwater:answer", () => drawer.update(read(), info, views.ask?.answer));
  show();
}

/** What the server serves, once it has loaded its model. */
async function loaded() {
  for (;;) {
    try {
      return await api.info();
    } catch (problem) {
      if (problem.status !== 503) throw problem;
      const trouble = document.createElement("hw-trouble");
      put(main, trouble);
      trouble.wait("The server is loading its model …");
      await new Promise((resolve) => setTimeout(resolve, 700));
    }
  }
}

document.querySelector("[data-skip]").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.addEventListener("click", (event) => {
  const link = event.target.closest?.('a[href^="#"]:not([data-skip])');
  if (!info || !link || event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go(read(link.getAttribute("href")));
});
start();
