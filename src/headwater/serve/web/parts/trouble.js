// What is shown instead of an answer: waiting, and errors with what to do next.

import { useToken } from "../api.js";
import { announce, h, put } from "../dom.js";
import { duration, grouped, visible } from "../words.js";

const STAGES = {
  query: "Reading the question",
  "conjugate gradients": "Solving by conjugate gradients",
  searching: "Searching the sketches of all examples",
  scoring: "Scoring the likeliest exactly",
  scores: "Scoring every example",
  tokens: "Looking into the tokens",
  "self-influence": "Measuring how loud each example is",
  steps: "Taking a small step on each example",
  responses: "Taking each example out",
};

const TITLES = {
  401: "This server asks for a token",
  404: "That is not there",
  413: "That is too long",
  422: "This cannot be answered as it is asked",
  500: "The server made a mistake",
  503: "The server is not ready",
};

const SLOW = 3; // seconds after which one wants to know how long it has been

class Trouble extends HTMLElement {
  #stage; // {name, began, done}: what is being done, since when, and how far it was then

  /** An error; `retry` tries again, `more` is what else can be done. */
  show(problem, retry, more) {
    this.className = "trouble";
    this.setAttribute("role", "alert");
    const errors = problem.errors ?? [];
    put(
      this,
      h("h2", {}, TITLES[problem.status] ?? problem.title ?? "Something went wrong"),
      problem.detail && !errors.length && h("p", {}, h("bdi", {}, visible(problem.detail))),
      errors.length > 0 && h("ul", {}, errors.map((error) => h("li", {}, visible(`${error.where}: ${error.message}`)))),
      problem.status === 401 ? this.#token(retry) : h("p", { class: "next" }, next(problem)),
      problem.status !== 401 && h("div", { class: "row" }, retry && h("button", { type: "button", onclick: retry }, "Try again"), more),
    );
  }

  #token(retry) {
    const input = h("input", { type: "password", id: "token", autocomplete: "off", required: true });
    const submit = (event) => {
      event.preventDefault();
      useToken(input.value.trim());
      retry();
    };
    return h(
      "form",
      { onsubmit: submit },
      h("label", { for: "token" }, "Token (HEADWATER_TOKEN of the server)"),
      h("div", { class: "row" }, input, h("button", { class: "main" }, "Enter")),
    );
  }

  /** Plain waiting. */
  wait(text) {
    this.className = "waiting";
    this.removeAttribute("role");
    put(this, h("p", {}, text), bar());
  }

  /** How far a job is, with a way to stop it. */
  progress(job, cancel) {
    this.className = "waiting";
    this.removeAttribute("role");
    const text = tellProgress(job);
    const time = this.#time(job);
    if (this.dataset.said !== text.stage) announce(text.stage);
    this.dataset.said = text.stage;
    if (!this.querySelector("button")) {
      put(this, h("p", { class: "stage" }), bar(), h("button", { type: "button", onclick: cancel }, "Cancel"));
    }
    put(this.querySelector(".stage"), h("b", {}, text.stage), " ", h("span", { class: "counts" }, [text.counts, time].filter(Boolean).join(" · ")));
    const progress = this.querySelector("progress");
    if (text.part === null) progress.removeAttribute("value");
    else progress.value = text.part;
  }

  /** How long it has been running, and about how long this stage will go on. */
  #time({ state, stage, done, total, seconds }) {
    if (state !== "running") return "";
    if (this.#stage?.name !== stage) this.#stage = { name: stage, began: seconds ?? 0, done: done ?? 0 };
    if (!(seconds >= SLOW)) return "";
    const { began, done: before } = this.#stage;
    const left = done > before ? ((seconds - began) * (total - done)) / (done - before) : 0;
    return `${duration(seconds)}${left >= SLOW ? `, about ${duration(left)} more` : ""}`;
  }
}

function bar() {
  return h("progress", { max: 1, "aria-label": "Progress" });
}

function tellProgress(job) {
  if (job.state === "full") return { stage: "Many are asking", counts: `trying again in ${job.retryAfter} s`, part: null };
  if (job.state === "queued") {
    const ahead = job.place ? `${grouped(job.place)} ahead` : "next";
    return { stage: "Waiting for its turn", counts: ahead, part: null };
  }
  const stage = STAGES[job.stage] ?? job.stage ?? "Reading the question";
  if (!job.total) return { stage, counts: "", part: null };
  return { stage, counts: `${grouped(job.done)} of ${grouped(job.total)}`, part: job.done / job.total };
}

function next(problem) {
  if (problem.status === 0) return "Everything you typed is kept in this page's address.";
  if (problem.status === 404) return "It may have been taken out of the corpus, or the server was started again.";
  if (problem.status === 413) return "Shorten the prompt, the completion or the text.";
  if (problem.status === 422) return "Change the question, then ask again.";
  if (problem.status >= 500) return "The server's log says more.";
  return "";
}

customElements.define("hw-trouble", Trouble);
