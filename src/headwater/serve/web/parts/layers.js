// Through which layers the influence comes: a sparkline on every card, and a strip of layer × module that filters.

import { h, svg } from "../dom.js";
import { share } from "../heat.js";
import { go, question } from "../state.js";
import { oneLine, signed } from "../words.js";

/** Bars of an example's influence by layer, in the order of the model. */
export function sparkline(layers, all) {
  const names = all.filter((name) => name in layers);
  const peak = Math.max(0, ...names.map((name) => Math.abs(layers[name])));
  const most = names.reduce((a, b) => (Math.abs(layers[b]) > Math.abs(layers[a]) ? b : a), names[0]);
  const bars = names.map((name, n) => {
    const part = share(layers[name], peak);
    return svg("rect", { class: part > 0 ? "up" : "down", x: n * 5 + 0.5, width: 4, y: 10 - Math.max(part, 0) * 9.5, height: Math.abs(part) * 9.5 },
      svg("title", {}, `${oneLine(name)} ${signed(layers[name])}`));
  });
  return svg("svg", { class: "spark", viewBox: `0 0 ${names.length * 5} 20`, width: Math.min(120, names.length * 5), height: 20, preserveAspectRatio: "none", role: "img", "aria-label": `Influence by layer; strongest ${oneLine(most)}, ${signed(layers[most])}` },
    bars, svg("path", { class: "zero", d: `M0 10H${names.length * 5}` }));
}

/** A layer's block and module: "transformer.h.3.mlp.c_fc" is block 3, module mlp.c_fc. */
function placeOf(name) {
  const parts = name.split(".");
  const at = parts.findIndex((part) => /^\d+$/.test(part));
  return at < 0 ? { block: 0, module: name } : { block: Number(parts[at]), module: parts.slice(at + 1).join(".") };
}

/** The strip remembers the shares of the whole answer, so that choosing a layer does not blank the others. */
export class Layers {
  #whole = { key: "", shares: {} };

  learn(state, answer) {
    if (answer.layers) return;
    const shown = [...answer.proponents, ...answer.opponents];
    const total = shown.reduce((sum, example) => sum + Math.abs(example.influence), 0);
    const shares = {};
    for (const example of shown) {
      for (const [name, part] of Object.entries(example.layers)) {
        shares[name] = (shares[name] ?? 0) + (Math.sign(example.influence) * part) / total;
      }
    }
    this.#whole = { key: JSON.stringify(question(state)), shares };
  }

  strip(state, answer, names) {
    const known = this.#whole.key === JSON.stringify(question(state)) ? this.#whole.shares : {};
    const places = names.map((name) => ({ name, ...placeOf(name) }));
    const modules = [...new Set(places.map((place) => place.module))];
    const blocks = [...new Set(places.map((place) => place.block))].sort((a, b) => a - b);
    const peak = Math.max(0, ...Object.values(known).map(Math.abs));
    const cell = (name) => {
      const part = known[name];
      const chosen = state.layers.includes(name);
      const told = part === undefined ? "not measured" : `${(100 * part).toFixed(0)}% of the influence shown`;
      return h("button", {
        type: "button", class: "cell", "data-key": `layer-${name}`, "aria-pressed": String(chosen), title: `${oneLine(name)}: ${told}`, "aria-label": `${oneLine(name)}, ${told}`,
        style: { "--s": share(Math.abs(part ?? 0), peak).toFixed(3) },
        onclick: () => go({ layers: chosen ? state.layers.filter((other) => other !== name) : [...state.layers, name] }),
      });
    };
    const row = (module) => h("tr", {}, h("th", { scope: "row" }, h("bdi", {}, oneLine(module))),
      blocks.map((block) => {
        const place = places.find((one) => one.block === block && one.module === module);
        return h("td", {}, place && cell(place.name));
      }));
    return h("figure", { class: "strip" },
      h("figcaption", {}, h("b", {}, "Layers"), " through which it comes"),
      h("div", { class: "scroll" }, h("table", {},
        h("thead", {}, h("tr", {}, h("th", {}, h("span", { class: "unseen" }, "module")), blocks.map((block) => h("th", { scope: "col" }, block)))),
        h("tbody", {}, modules.map(row)))),
      h("p", { class: "quiet" }, state.layers.length
        ? ["Only the chosen layers count. ", h("button", { type: "button", class: "link", "data-key": "layers-all", onclick: () => go({ layers: [] }) }, "Count all")]
        : "The darker, the more of the influence shown. Choose cells to count only these."));
  }
}
