// Predicted against measured changes as a scatter plot. The counterpart of render/scatter.py and scatter_parts.py: tests compare them.

import { h, svg } from "../dom.js";
import { oneLine, shorten, signed } from "../words.js";

const [SIZE, LEFT, RIGHT, TOP, BOTTOM] = [330, 82, 32, 8, 48]; // the side of the square plotted in, and the room around it
const TICKS = 2; // labelled ones on either side of zero

/** Why an example was chosen. */
export const NAMES = { proponent: "raised it", opponent: "lowered it", random: "random" };

const SHAPES = {
  proponent: (x, y) => svg("circle", { class: "shape", cx: x, cy: y, r: 5 }),
  opponent: (x, y) => svg("rect", { class: "shape", x: x - 4.5, y: y - 4.5, width: 9, height: 9 }),
  random: (x, y) => svg("path", { class: "shape", d: `M${x - 4.5} ${y - 4.5}l9 9m0 -9l-9 9` }),
};

/** Where both axes end: a round number that every change lies within. */
export function axisLimit(checks) {
  const largest = Math.max(0, ...checks.flatMap((check) => [Math.abs(check.predicted), Math.abs(check.measured)]));
  if (!(largest > 0)) return 1;
  const unit = 10 ** Math.floor(Math.log10(largest));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10, 15].find((step) => step * unit >= largest * 1.02) * unit;
}

/** "predicted −0.81, measured −0.64", and where it is so, that the response was not found. */
export function numbers(check) {
  const found = check.converged ? "" : `, not converged (${(100 * check.remaining).toFixed(0)}% of the way left)`;
  return `predicted ${signed(check.predicted)}, measured ${signed(check.measured)}${found}`;
}

/** The plot. `leads` = {href(id), open(event, id)}: where a mark leads; `tell(check)` is called with the one looked at. */
export function scatter(found, leads, tell) {
  const limit = axisLimit(found.checks);
  const x = (value) => LEFT + SIZE * (0.5 + (0.5 * value) / limit);
  const y = (value) => TOP + SIZE * (0.5 - (0.5 * value) / limit);
  const marks = found.checks.map((check, n) => {
    const place = [x(check.predicted), y(check.measured)];
    const name = `${shorten(oneLine(check.id), 80)}, ${NAMES[check.group]}: ${numbers(check)}`;
    return svg("a", {
      class: `mark ${check.group} ${check.converged ? "" : "unsettled"}`, href: leads.href(check.id), tabindex: n ? -1 : 0,
      "data-key": `mark-${n}`, "aria-label": name,
      onclick: (event) => leads.open(event, check.id), onfocus: () => tell(check), onpointerenter: () => tell(check),
    }, svg("title", {}, name), svg("circle", { class: "near", cx: place[0], cy: place[1], r: 9 }), SHAPES[check.group](...place));
  });
  const label = `Measured against predicted changes for ${found.checks.length} training examples, in nats; the arrow keys go from one to the next`;
  const plot = svg("svg", { viewBox: `0 0 ${LEFT + SIZE + RIGHT} ${TOP + SIZE + BOTTOM}`, role: "group", "aria-label": label },
    svg("g", { "aria-hidden": "true" }, axes(limit, x, y, found.contrast ? "the log odds" : "log p"), lines(found.slope, limit, x, y)),
    [...marks].reverse()); // the strongest on top
  plot.addEventListener("keydown", (event) => rove(event, marks));
  return h("figure", { class: "plot" }, legend(found.slope), plot);
}

function axes(limit, x, y, what) {
  const ticks = Array.from({ length: 2 * TICKS + 1 }, (_, n) => (limit * (n - TICKS)) / TICKS);
  const middle = TOP + SIZE / 2;
  return [
    ticks.map((tick) => [
      svg("path", { class: "grid", d: `M${x(tick)} ${TOP}v${SIZE}M${LEFT} ${y(tick)}h${SIZE}` }),
      svg("text", { x: x(tick), y: TOP + SIZE + 18, "text-anchor": "middle" }, signed(tick)),
      svg("text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, signed(tick)),
    ]),
    svg("text", { x: LEFT + SIZE / 2, y: TOP + SIZE + 40, "text-anchor": "middle" }, `predicted change of ${what}, nats`),
    svg("text", { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }, `measured change of ${what}, nats`),
  ];
}

/** What would be as predicted, and the slope of what is, through the origin. */
function lines(slope, limit, x, y) {
  const line = (kind, rise) => {
    const end = limit * Math.min(1, 1 / Math.abs(rise));
    return svg("path", { class: kind, d: `M${x(-end)} ${y(-end * rise)}L${x(end)} ${y(end * rise)}` });
  };
  return [slope !== null && line("slope", slope), line("identity", 1)];
}

function legend(slope) {
  const key = (drawn, ...words) => h("span", {}, svg("svg", { width: 24, height: 12, "aria-hidden": "true" }, drawn), words);
  const line = (kind) => svg("path", { class: kind, d: "M0 6h24" });
  return h("figcaption", { class: "legend" },
    Object.entries(NAMES).map(([group, name]) => key(svg("g", { class: group }, SHAPES[group](12, 6)), name)),
    key(line("identity"), "as predicted"), slope !== null && key(line("slope"), "slope as measured"));
}

/** One mark is reached with Tab, the others from it with the arrows, in the order of the table. */
function rove(event, marks) {
  const at = marks.indexOf(event.target.closest(".mark"));
  const steps = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: marks.length - 1 };
  const to = marks[steps[event.key]];
  if (event.key in steps) event.preventDefault();
  if (!to) return;
  marks[at].setAttribute("tabindex", "-1");
  to.setAttribute("tabindex", "0");
  to.focus();
}
