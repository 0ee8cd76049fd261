// Tokens with the strength of their shade. The counterpart of render/heat.py: tests compare the two.

import { h } from "./dom.js";
import { occurrences, oneLine, signed, visible } from "./words.js";

const STRONG = 0.4; // of the scale: such a token also shows its sign without colour
const FAINT = 0.04; // below, a token has no shade
const LINE_BREAK_COST = 40; // characters that take as much room as a line break

/** `value` as a part of `scale`, from −1 to 1. */
export function share(value, scale) {
  if (!(scale > 0) || Number.isNaN(value)) return 0;
  return Math.max(-1, Math.min(1, value / scale));
}

/** The largest absolute influence of a list of tokens. */
export function strongest(tokens) {
  return tokens.reduce((most, token) => Math.max(most, Math.abs(token.influence)), 0);
}

/** The number an example was ranked by. */
export function strength(example) {
  return example.relative ?? example.influence;
}

/** Tokens as pieces to draw: {place, text, influence, share, word}; `words` marks those that belong to such a word. */
export function shade(tokens, scale, words) {
  const marked = marks(tokens, words);
  return tokens.map((token, place) => ({
    place,
    text: visible(token.token),
    influence: token.influence,
    share: share(token.influence, scale),
    word: marked[place],
  }));
}

function marks(tokens, words) {
  if (!words?.size) return [];
  const places = occurrences(tokens.map((token) => token.token).join(""), words);
  const marked = [];
  let start = 0;
  tokens.forEach((token, place) => {
    const end = start + token.token.length;
    marked[place] = places.some((found) => found.start < end && found.end > start && token.token.trim() !== "");
    start = end;
  });
  return marked;
}

/** About `room` characters around the strongest piece: {pieces, before, after}, the last two whether text was cut. */
export function snippet(pieces, room) {
  const whole = pieces.reduce((sum, piece) => sum + cost(piece), 0);
  if (whole <= room) return { pieces, before: false, after: false };
  let centre = 0;
  pieces.forEach((piece, place) => {
    if (Math.abs(piece.share) > Math.abs(pieces[centre].share)) centre = place;
  });
  const before = pieces.slice(0, centre).reverse();
  const after = pieces.slice(centre + 1);
  const total = (part) => part.reduce((sum, piece) => sum + cost(piece), 0);
  const spare = room - cost(pieces[centre]);
  const half = Math.floor(spare / 2);
  const start = centre - fitting(before, Math.max(half, spare - total(after)));
  const stop = centre + 1 + fitting(after, Math.max(spare - half, spare - total(before)));
  return { pieces: pieces.slice(start, stop), before: start > 0, after: stop < pieces.length };
}

function fitting(pieces, room) {
  for (const [place, piece] of pieces.entries()) {
    room -= cost(piece);
    if (room < 0) return place;
  }
  return pieces.length;
}

function cost(piece) {
  return [...piece.text].length + (LINE_BREAK_COST - 1) * piece.text.split("\n").length - (LINE_BREAK_COST - 1);
}

/** The places of the strongest tokens, strongest first. */
export function peaks(pieces, most = 8) {
  return pieces
    .filter((piece) => Math.abs(piece.share) >= FAINT)
    .sort((a, b) => Math.abs(b.share) - Math.abs(a.share) || a.place - b.place)
    .slice(0, most)
    .map((piece) => piece.place);
}

/** One piece as nodes: its leading spaces, then its word with its shade. `looks` = {numbers, glyphs}. */
export function token(piece, looks) {
  const word = piece.text.trimStart() === "" ? piece.text : piece.text.replace(/^ +/, "");
  const lead = piece.text.slice(0, piece.text.length - word.length);
  const span = h("span", { class: "t", "data-place": piece.place });
  dress(span, piece);
  if (looks.numbers && Math.abs(piece.share) >= FAINT) span.dataset.number = signed(piece.influence);
  span.append(written(word, looks));
  return lead ? [looks.glyphs ? h("span", { class: "glyph" }, "·".repeat(lead.length)) : lead, span] : [span];
}

/** Give a token's element the shade of a piece. */
export function dress(span, piece) {
  const size = Math.abs(piece.share);
  const shaded = size >= FAINT;
  span.classList.toggle("up", shaded && piece.share > 0);
  span.classList.toggle("down", shaded && piece.share < 0);
  span.classList.toggle("strong", size >= STRONG);
  span.classList.toggle("bare", size >= STRONG && piece.text === ""); // such as a beginning-of-text token
  span.classList.toggle("break", size >= STRONG && piece.text.includes("\n"));
  span.classList.toggle("word", Boolean(piece.word));
  span.style.setProperty("--s", size.toPrecision(3));
  span.title = `${oneLine(piece.text.trim() || piece.text)} ${signed(piece.influence)}`;
}

function written(text, looks) {
  if (!looks.glyphs) return text;
  return text.replaceAll(" ", "·").replaceAll("\n", "⏎\n").replaceAll("\t", "⇥\t");
}

/** A text with its heat. `cut` = {before, after} puts … where it was cut. */
export function text(pieces, looks, cut = {}) {
  const parts = pieces.flatMap((piece) => token(piece, looks));
  const dots = (there) => there && h("span", { class: "cut" }, "…");
  return h("bdi", { class: `text${looks.numbers ? " numbers" : ""}`, dir: "auto" }, dots(cut.before), parts, dots(cut.after));
}
