// One example of an answer.

import { h } from "../dom.js";
import { shade, share, snippet, strength, strongest, text } from "../heat.js";
import { go, read, address } from "../state.js";
import { count, instead, occurrences, oneLine, shorten, signed, size } from "../words.js";
import { sparkline } from "./layers.js";

const ROOM = 320; // characters of text on a card

/** The card of an example. `scene` = {looks, words, end, scale, layers, opened, reach}. */
export function card(example, rank, end, scene) {
  const pieces = shade(example.tokens, scene.scale ?? strongest(example.tokens), scene.words);
  const cut = snippet(pieces, ROOM);
  const shared = [...new Set(occurrences(example.text, scene.words).map((place) => place.word))];
  const open = (event) => {
    if (event.target.closest("a, button") || getSelection().toString()) return;
    go({ example: example.id });
  };
  return h("article", { class: `card ${example.id === scene.opened ? "opened" : ""}`, onclick: open },
    h("div", { class: "head" },
      h("span", { class: "rank" }, rank),
      h("b", { class: `score ${example.influence > 0 ? "up" : "down"}` }, signed(strength(example))),
      bar(share(strength(example), scene.end)),
      h("a", { class: "id", href: address({ ...read(), example: example.id }), "data-key": `card-${end}-${rank}` }, h("bdi", {}, shorten(oneLine(example.id), 60)))),
    text(cut.pieces, scene.looks, cut),
    instead(example) && h("p", { class: "quiet" }, instead(example)),
    h("div", { class: "foot" },
      sparkline(example.layers, scene.layers),
      h("span", { title: "Predicted change of log p if this example were taken out of the training text" },
        `without it ${size(example.removal_effect, scene.reach)}`),
      example.relative !== null && h("span", {}, `influence ${signed(example.influence)}`),
      example.duplicates.length > 0 && h("span", { class: "badge", title: example.duplicates.map(oneLine).join(", ") }, `+ ${count(example.duplicates.length, "near-duplicate")}`),
      shared.length > 0 && h("span", { title: "Telling words that it shares with the question" }, "shares ", h("bdi", {}, shorten(shared.join(", "), 60))),
      example.source && h("bdi", { class: "source" }, shorten(oneLine(example.source), 60))));
}

/** A score on the axis that all cards share. */
export function bar(part) {
  return h("span", { class: "bar", "aria-hidden": "true" },
    h("span", { class: part > 0 ? "up" : "down", style: { "--s": Math.abs(part).toPrecision(3) } }));
}
