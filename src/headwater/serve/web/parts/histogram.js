// How strong all examples are, with those shown marked.

import { h, svg } from "../dom.js";
import { strength } from "../heat.js";
import { count, grouped, oneLine, signed } from "../words.js";

const WIDTH = 260;
const HEIGHT = 84;

/** A histogram on a logarithmic axis of counts: most examples do next to nothing. */
export function histogram(answer, shown) {
  const spread = answer.distribution;
  if (!spread) return null;
  const most = Math.log1p(Math.max(...spread.scored.map((scored, n) => scored + spread.estimated[n])));
  const bins = spread.scored.length;
  const width = WIDTH / bins;
  const x = (value) => ((value - spread.edges[0]) / (spread.edges.at(-1) - spread.edges[0])) * WIDTH;
  const bars = spread.scored.flatMap((scored, n) => {
    const side = Math.sign(n - (bins - 1) / 2);
    const sign = { "-1": "down", 0: "none", 1: "up" }[side];
    const of = (number) => (HEIGHT * Math.log1p(number)) / most;
    const all = scored + spread.estimated[n];
    const told = `${signed(spread.edges[n])} to ${signed(spread.edges[n + 1])}: ${count(all, "example")}`;
    const rect = (height, kind) => height > 0 && svg("rect", { class: `${sign} ${kind}`, x: n * width + 0.3, width: width - 0.6, y: HEIGHT - height, height }, svg("title", {}, told));
    return [rect(of(all), spread.estimated[n] ? "estimated" : "scored"), spread.estimated[n] && rect(of(scored), "scored")];
  });
  const marks = shown.map((example) => svg("path", { class: example.influence > 0 ? "up" : "down", d: `M${x(strength(example)).toFixed(1)} ${HEIGHT + 3}l3.500 7h-7z` }, svg("title", {}, `${oneLine(example.id)} ${signed(strength(example))}`)));
  const total = spread.scored.concat(spread.estimated).reduce((a, b) => a + b, 0);
  const estimated = spread.estimated.reduce((a, b) => a + b, 0);
  const what = answer.rank_by === "relative" ? "relative influence" : "influence";
  return h("figure", { class: "histogram" },
    h("figcaption", {}, h("b", {}, `${grouped(total)} examples`), ` by ${what}`),
    svg("svg", { viewBox: `-4 0 ${WIDTH + 8} ${HEIGHT + 12}`, role: "img", "aria-label": `Histogram of ${what} over ${count(total, "example")}, from ${signed(spread.edges[0])} to ${signed(spread.edges.at(-1))}; most are near 0. Triangles mark the examples shown.` },
      bars, svg("path", { class: "zero", d: `M0 ${HEIGHT}H${WIDTH}` }), marks),
    h("div", { class: "ends", "aria-hidden": "true" }, h("span", {}, signed(spread.edges[0])), h("span", {}, "0"), h("span", {}, signed(spread.edges.at(-1)))),
    h("p", { class: "quiet" }, "Counts on a logarithmic axis; ▲ the examples shown.",
      estimated > 0 && ` ${grouped(total - estimated)} scored exactly, the pale ones estimated from their sketches.`));
}

/** How many times the usual size of an influence the strongest one is. */
export function deviations(answer) {
  const { edges, scored, estimated } = answer.distribution;
  let sum = 0;
  let squares = 0;
  scored.forEach((number, n) => {
    const middle = (edges[n] + edges[n + 1]) / 2;
    sum += number + estimated[n];
    squares += (number + estimated[n]) * middle ** 2;
  });
  const strongest = Math.max(...[answer.proponents[0], answer.opponents[0]].filter(Boolean).map((example) => Math.abs(strength(example))));
  const usual = Math.sqrt(squares / Math.max(1, sum));
  return sum >= 30 && usual > 0 ? strongest / usual : null;
}
