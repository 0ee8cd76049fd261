// Texts and numbers as people read them. The counterparts of render/visible.py and render/summary.py: tests compare them.

const KEPT = new Set(["\n", "\t", "\u200c", "\u200d"]);
const ACTING = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** Text with what would act on the screen (control characters, bidi marks, invisible ones) shown by name. */
export function visible(text) {
  return text.replace(ACTING, (character) => (KEPT.has(character) ? character : nameOf(character.codePointAt(0))));
}

/** The same with line breaks and tabs shown as signs too. */
export function oneLine(text) {
  return visible(text).replaceAll("\n", "⏎").replaceAll("\t", "⇥");
}

function nameOf(code) {
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  return code === 0x7f ? "␡" : `⟪U+${code.toString(16).toUpperCase().padStart(4, "0")}⟫`;
}

/** The beginning of a text, with … where it was cut. */
export function shorten(text, length) {
  const characters = [...text];
  return characters.length <= length ? text : `${characters.slice(0, Math.max(0, length - 1)).join("")}…`;
}

/** A number with its sign and three digits: "+36.9", "−0.0123", "+1.20e−7"; "0" for nothing. */
export function signed(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const sign = value > 0 ? "+" : "−";
  if (size >= 1000 && size < 1e6) return sign + grouped(size);
  let digits = size.toPrecision(3);
  if (!digits.includes("e") && Number(digits) < 1e-4) digits = size.toExponential(2);
  return sign + digits.replace("e-", "e−");
}

/** A predicted change of log p: "−0.0123 nats", or that it is beyond a linear prediction (see Answer.reach). */
export function size(effect, reach) {
  return beyondReach(effect, reach) ? "more than a linear prediction can tell" : `${signed(effect)} nats`;
}

/** Whether a predicted change is larger than a linear prediction can tell. */
export function beyondReach(effect, reach) {
  return typeof reach === "number" && Math.abs(effect) > reach;
}

/** A whole number with its thousands apart. */
export function grouped(value) {
  return Math.round(value).toLocaleString("en-US");
}

/** exp(−loss) as one reads it aloud: "12%", "0.9%", "1 in 54,000". */
export function probability(loss) {
  if (loss > 36) return `1 in 10^${Math.round(loss / Math.LN10)}`;
  const chance = Math.exp(-loss);
  if (chance < 0.001) return `1 in ${grouped(Number((1 / chance).toPrecision(2)))}`;
  if (chance > 0.99) return "over 99%";
  return chance < 0.1 ? `${(100 * chance).toFixed(1)}%` : `${(100 * chance).toFixed(0)}%`;
}

/** What an opponent that contains the words asked about taught instead; empty for any other example. */
export function instead(example) {
  if (!example.taught?.length) return "";
  const taught = example.taught.map((token) => `“${shorten(oneLine(token.trim()), 30)}”`).join(", ");
  return `Contains the words asked about. Its strongest negative shares come where it teaches ${taught}.`;
}

/** "42 s", "3 min". */
export function duration(seconds) {
  return seconds < 90 ? `${Math.round(seconds)} s` : `${Math.round(seconds / 60)} min`;
}

/** "1 token", "3 tokens". */
export function count(number, noun) {
  return `${grouped(number)} ${noun}${number === 1 ? "" : "s"}`;
}

// So common in any text that sharing them means nothing.
const COMMON = new Set(
  ("a an and are as at be been but by can could did do for from had has have he her him his i if in into is it its me " +
    "my no not of off on one or our out said she so some than that the their them then there they this to too up us " +
    "very was we were what when which who will with would you your").split(" "),
);
const WORD = /[\p{L}\p{N}][\p{L}\p{N}'’-]*/gu;

/** The telling words of a text, in small letters. */
export function tellingWords(text) {
  const found = (text.match(WORD) ?? []).map((word) => word.toLowerCase());
  return new Set(found.filter((word) => word.length > 1 && !COMMON.has(word)));
}

/** Where the words of `wanted` stand in a text: [{start, end, word}]. */
export function occurrences(text, wanted) {
  const places = [];
  for (const match of text.matchAll(WORD)) {
    const word = match[0].toLowerCase();
    if (wanted.has(word)) places.push({ start: match.index, end: match.index + match[0].length, word });
  }
  return places;
}
