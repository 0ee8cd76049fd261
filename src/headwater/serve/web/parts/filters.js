// Only examples with certain words or columns.

import { h, put } from "../dom.js";
import { go } from "../state.js";

const WAYS = { "=": "is", "!=": "is not", "<": "is below", ">": "is above", LIKE: "contains" };

class Filters extends HTMLElement {
  show(state, info) {
    const check = (key, text, title) => h("label", { class: "check", title },
      h("input", { type: "checkbox", "data-key": key, checked: state[key], onchange: (event) => go({ [key]: event.target.checked }) }), text);
    const solver = check("cg", "Solve by conjugate gradients", "Goes on from the fitted curvature on the true Gauss–Newton matrix: slower, and closer");
    if (!info.index) {
      put(this, solver, h("p", { class: "quiet" }, "Filters need an index: headwater index RUN."));
      return;
    }
    const words = h("input", { id: "contains", type: "search", value: state.contains, "data-key": "contains", placeholder: "silver key" });
    const columns = info.index.columns.filter((name) => name !== "text" && name !== "location");
    const column = h("select", { id: "column", "aria-label": "Column" }, columns.map((name) => h("option", { value: name }, name)));
    const way = h("select", { id: "way", "aria-label": "How" }, Object.entries(WAYS).map(([sign, name]) => h("option", { value: sign }, name)));
    const value = h("input", { id: "value", "aria-label": "Value", placeholder: "value" });
    const where = h("input", { id: "where", value: state.where, "data-key": "where", placeholder: "tokens < 100 AND id LIKE 'a%'" });
    const submit = (event) => {
      event.preventDefault();
      const more = value.value.trim() ? condition(column.value, way.value, value.value.trim()) : "";
      const both = [where.value.trim(), more].filter(Boolean).join(" AND ");
      go({ contains: words.value.trim(), where: both });
    };
    const clear = () => go({ contains: "", where: "" });
    put(
      this,
      h("form", { onsubmit: submit },
        h("b", {}, "Only examples"),
        h("label", { for: "contains" }, "with the words"), words,
        h("span", { class: "label" }, "whose"), h("div", { class: "row" }, column, way, value),
        h("details", { open: Boolean(state.where) }, h("summary", {}, "SQL condition"), h("label", { class: "unseen", for: "where" }, "SQL condition"), where),
        h("div", { class: "row" }, h("button", { "data-key": "filter" }, "Filter"),
          (state.contains || state.where) && h("button", { type: "button", "data-key": "unfilter", onclick: clear }, "Clear")),
        check("exact", `Score all ${info.examples.toLocaleString("en-US")} exactly`), solver),
    );
  }
}

/** "year" is above "2010" as SQL. */
function condition(column, way, value) {
  const name = /^\w+$/.test(column) ? column : `\`${column}\``;
  if (way === "LIKE") return `${name} LIKE '%${value.replaceAll("'", "''")}%'`;
  const number = /^-?\d+(\.\d+)?$/.test(value);
  return `${name} ${way} ${number ? value : `'${value.replaceAll("'", "''")}'`}`;
}

customElements.define("hw-filters", Filters);
