// What is being looked at. It lives in the address, so that every view can be shared, kept and gone back to.

const TEXTS = ["prompt", "completion", "contrast", "contains", "where", "damping", "example", "text"];
const FLAGS = ["exact", "cg", "own", "numbers", "glyphs"]; // `own`: every card is shaded on a scale of its own

const KINDS = ["step", "pbrf"]; // of verifying an answer
const NUMBERS = { k: 5, random: 5, weight: 1, subset: 512, iterations: 40, seed: 0 };
/** How an answer is verified, unless something else is chosen. */
export const CHECK = { kind: "step", ...NUMBERS };

const VIEWS = ["ask", "results", "what-if", "method"];

/** The state that an address tells of. */
export function read(hash = location.hash) {
  const [view, query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  const given = new URLSearchParams(query);
  const state = { view: VIEWS.includes(view) ? view : "ask" };
  for (const name of TEXTS) state[name] = given.get(name) ?? "";
  for (const name of FLAGS) state[name] = given.has(name);
  const span = /^(\d+)-(\d+)$/.exec(given.get("span") ?? "");
  state.span = span ? [Number(span[1]), Number(span[2])] : null;
  state.k = Math.max(1, Number.parseInt(given.get("k"), 10) || 10);
  state.rank = given.get("rank") === "relative" ? "relative" : "influence";
  state.layers = given.getAll("layer");
  state.verify = checkOf(given);
  return state;
}

/** How the answer is verified, or null where it is not. */
function checkOf(given) {
  const kind = given.get("verify");
  if (!KINDS.includes(kind)) return null;
  const check = { kind };
  for (const [name, usual] of Object.entries(NUMBERS)) {
    const number = Number.parseFloat(given.get(`check-${name}`));
    check[name] = Number.isFinite(number) ? number : usual;
  }
  return check;
}

/** The address that tells of a state. */
export function address(state) {
  const query = new URLSearchParams();
  for (const name of TEXTS) if (state[name]) query.set(name, state[name]);
  for (const name of FLAGS) if (state[name]) query.set(name, "1");
  if (state.span) query.set("span", state.span.join("-"));
  if (state.k !== 10) query.set("k", state.k);
  if (state.rank !== "influence") query.set("rank", state.rank);
  for (const layer of state.layers) query.append("layer", layer);
  if (state.verify) {
    query.set("verify", state.verify.kind);
    for (const name in NUMBERS) if (state.verify[name] !== NUMBERS[name]) query.set(`check-${name}`, state.verify[name]);
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

/** The question as the server takes it. */
export function question(state) {
  return {
    prompt: state.prompt,
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
    solver: state.cg ? "cg" : "curvature",
  };
}

/** The request for the verification of the answer, or null where none is asked for. */
export function verification(state) {
  return state.verify && { question: request(state), ...state.verify };
}

/** What is only a matter of looks. */
export function looks(state) {
  return { numbers: state.numbers, glyphs: state.glyphs, own: state.own };
}
