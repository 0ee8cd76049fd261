// What the page shows. It is in the address, so that every view can be shared, kept and gone back to.

const TEXTS = ["prompt", "messages", "completion", "contrast", "contains", "where", "damping", "example", "text"];
const FLAGS = ["exact", "cg", "raw", "own", "numbers", "glyphs"];
// `raw`: the prompt is the text that the model reads, without chat template; `own`: every card is shaded on its own scale

const KINDS = ["step", "pbrf"]; // of verifying an answer

let options = { influences: {}, sampling: {}, verifications: {} };

/** Take the options of requests from the server, with defaults and limits: `options` of GET /v1/run. */
export function useOptions(told) {
  options = told;
}

/** Default of an option of a kind of request. */
export const usual = (kind, name) => options[kind][name]?.default;

/** Attributes of a field in which an option's number is given. */
export function field(kind, name) {
  const { minimum, maximum, help } = options[kind][name];
  return { min: minimum, max: maximum, title: help };
}

/** How an answer is verified, unless something else is chosen. */
export function usualCheck() {
  return { kind: usual("verifications", "kind"), ...numbers() };
}

/** The numbers that say how an answer is verified, with their defaults. */
function numbers() {
  const all = Object.entries(options.verifications).map(([name, option]) => [name, option.default]);
  return Object.fromEntries(all.filter(([, value]) => typeof value === "number"));
}

const RANKINGS = ["influence", "relative"];
const VIEWS = ["ask", "results", "what-if", "method"];

/** The state that an address describes. */
export function read(hash = location.hash) {
  const [view, query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  const given = new URLSearchParams(query);
  const state = { view: VIEWS.includes(view) ? view : "ask" };
  for (const name of TEXTS) state[name] = given.get(name) ?? "";
  for (const name of FLAGS) state[name] = given.has(name);
  const span = /^(\d+)-(\d+)$/.exec(given.get("span") ?? "");
  state.span = span ? [Number(span[1]), Number(span[2])] : null;
  state.k = Math.max(1, Number.parseInt(given.get("k"), 10) || usual("influences", "k"));
  state.rank = RANKINGS.includes(given.get("rank")) ? given.get("rank") : usual("influences", "rank_by");
  state.layers = given.getAll("layer");
  state.verify = checkOf(given);
  return state;
}

/** How the answer is verified, or null if it is not. */
function checkOf(given) {
  const kind = given.get("verify");
  if (!KINDS.includes(kind)) return null;
  const check = { kind };
  for (const [name, number] of Object.entries(numbers())) {
    const other = Number.parseFloat(given.get(`check-${name}`));
    check[name] = Number.isFinite(other) ? other : number;
  }
  return check;
}

/** The address of a state. */
export function address(state) {
  const query = new URLSearchParams();
  for (const name of TEXTS) if (state[name]) query.set(name, state[name]);
  for (const name of FLAGS) if (state[name]) query.set(name, "1");
  if (state.span) query.set("span", state.span.join("-"));
  if (state.k !== usual("influences", "k")) query.set("k", state.k);
  if (state.rank !== usual("influences", "rank_by")) query.set("rank", state.rank);
  for (const layer of state.layers) query.append("layer", layer);
  if (state.verify) {
    query.set("verify", state.verify.kind);
    for (const [name, number] of Object.entries(numbers())) {
      if (state.verify[name] !== number) query.set(`check-${name}`, state.verify[name]);
    }
  }
  const told = query.toString();
  return `#${state.view}${told ? `?${told}` : ""}`;
}

/** Go to a state that differs from the present one by `changes`; `replace` leaves no step to go back to. */
export function go(changes, { replace = false } = {}) {
  const now = read();
  const there = { ...now, ...changes };
  // Another answer has not been verified yet.
  if (!changes.verify && JSON.stringify(request(there)) !== JSON.stringify(request(now))) there.verify = null;
  const next = address(there);
  if (next === location.hash) return;
  if (replace) history.replaceState(null, "", next);
  else history.pushState(null, "", next);
  dispatchEvent(new CustomEvent("headwater:state"));
}

/** The turns of a conversation in the address: [{role, content}, …], or null if there are none. */
export function conversation(state) {
  let told;
  try {
    told = JSON.parse(state.messages || "null");
  } catch {
    return null; // an address that was cut off
  }
  const good = (turn) => typeof turn?.role === "string" && typeof turn?.content === "string";
  return Array.isArray(told) && told.length > 0 && told.every(good) ? told : null;
}

/** What the model was given, as the server takes it. */
export function given(state) {
  const messages = conversation(state);
  return messages ? { messages } : { prompt: state.prompt, raw: state.raw };
}

/** What the model was given, in words. */
export function promptText(state) {
  const messages = conversation(state);
  return messages ? messages.map((turn) => turn.content).join("\n") : state.prompt;
}

/** The question as the server takes it. */
export function question(state) {
  return {
    ...given(state),
    completion: state.completion,
    span: state.span,
    contrast: state.contrast || null,
  };
}

/** The request for an answer. */
export function request(state) {
  return {
    ...question(state),
    k: state.k,
    rank_by: state.rank,
    contains: state.contains || null,
    where: state.where || null,
    layers: state.layers.length ? state.layers : null,
    exact: state.exact || Boolean(state.damping), // an index serves one damping
    damping: state.damping || null,
    solver: state.cg ? "cg" : usual("influences", "solver"),
  };
}

/** The request to verify the answer, or null if the state asks for none. */
export function verification(state) {
  return state.verify && { question: request(state), ...state.verify };
}

/** What changes only the looks. */
export function looks(state) {
  return { numbers: state.numbers, glyphs: state.glyphs, own: state.own };
}
