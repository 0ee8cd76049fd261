// How to read all this, and what is being asked.

import { h, put } from "../dom.js";
import { grouped, oneLine } from "../words.js";

class Method extends HTMLElement {
  update(_, info) {
    if (this.firstElementChild) return;
    put(
      this,
      h("h1", {}, "How to read this"),
      h("h2", {}, "What the sign means"),
      h("p", {}, h("b", { class: "up" }, "Positive (blue, underlined)"), ": training on the example made the words more likely. Taken away, the model would say them less readily. ",
        h("b", { class: "down" }, "Negative (orange, dotted)"), ": training on it made them less likely."),
      h("h2", {}, "What the number means"),
      h("p", {}, "The influence of a training example z on a question q is ", h("i", {}, "∇L(q)ᵀ (H + λI)⁻¹ ∇L(z)"),
        ": how fast log p of the chosen words grows with the weight of z in training, in nats. With every one of N examples weighing 1/N, taking z away is predicted to change log p by −influence/N: the ",
        h("i", {}, "without it"), " of every card. Scores look large because they are not yet divided by N."),
      h("p", {}, "Scores compare examples for one question. Between questions they do not compare: surprising words have larger gradients, and so larger scores."),
      h("h2", {}, "What the shades mean"),
      h("p", {}, "A score is a sum over the example's tokens, and that sum is exact: the drawer checks it. A token is shaded where the weights were changed, which is mostly at the word ",
        h("b", {}, "before"), " the one you expect, where the model was taught what comes next. Token × token splits it once more: which training token pushed which word of the question."),
      h("h2", {}, "Relative influence"),
      h("p", {}, "Some examples are loud: long, odd or hard, with large gradients for any question. ", h("i", {}, "Relative"),
        " divides by the example's own norm √I(z, z), and so finds those that are about this question in particular."),
      h("h2", {}, "Known limits"),
      h("ul", {},
        h("li", {}, "It predicts a small change around the trained weights. Taking many examples away at once, or one that was learned by heart, can go otherwise."),
        h("li", {}, "Only the weights of the tracked layers count, and H is approximated (", h("i", {}, info.curvature), ")."),
        h("li", {}, "Damping λ trades noise against reach: a larger one makes scores more like plain gradient products."),
        h("li", {}, "An answer from the index scores only the likeliest examples exactly; it says how many a scan of everything might change."),
        h("li", {}, "Influence is about what taught the model, not about what is alike: a text with the same words may have none.")),
      h("h2", {}, "What is being asked"),
      h("dl", {}, Object.entries({
        Model: info.model,
        "Fingerprints": `model ${info.fingerprints.model}, tokenizer ${info.fingerprints.tokenizer}, corpus ${info.fingerprints.corpus}`,
        Corpus: `${grouped(info.examples)} examples, ${grouped(info.tokens)} tokens, from ${info.corpus_source}`,
        Curvature: `${info.curvature}, damping λ = ${info.damping}`,
        "Tracked layers": `${grouped(info.layers.length)}: ${info.layers.slice(0, 4).join(", ")}${info.layers.length > 4 ? ", …" : ""}`,
        "Tracked share": info.coverage ? info.coverage.text : "not recorded: the curvature is older than this entry",
        Index: info.index ? `${grouped(info.index.bytes)} bytes of sketch an example` : "none: every question scores every example",
        Reads: `${grouped(info.limits.prompt_tokens)} tokens at most`,
        Headwater: info.version,
      }).map(([key, value]) => [h("dt", {}, key), h("dd", {}, h("bdi", {}, oneLine(value)))])),
      h("p", { class: "quiet" }, "The method: Grosse et al. 2023 (arXiv 2308.03296); George et al. 2018 (EK-FAC); Koh and Liang 2017 (influence functions)."),
    );
  }
}

customElements.define("hw-method", Method);
