// Asking the server.

/** Something went wrong: what, why, and what to do next. */
export class Problem extends Error {
  constructor(status, title, detail, errors = []) {
    super(title);
    Object.assign(this, { status, title, detail, errors });
  }
}

const TOKEN = "headwater-token";

/** Keep the token that the server asks for, until the tab is closed. */
export function useToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

async function call(method, path, { body, signal } = {}) {
  const headers = {};
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    const keepalive = method === "DELETE"; // also by a page that is being left
    response = await fetch(path, { method, headers, signal, keepalive, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw gone();
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

function gone() {
  return new Problem(0, "The server does not answer", "It may have been stopped. Start it again, then try once more.");
}

async function problemOf(response) {
  let told = {};
  try {
    told = await response.json();
  } catch {
    // not a problem document: the status alone must do
  }
  const problem = new Problem(response.status, told.title ?? `Error ${response.status}`, told.detail ?? "", told.errors);
  problem.retryAfter = Number(response.headers.get("Retry-After")) || 1;
  return problem;
}

const json = async (method, path, options) => (await call(method, path, options)).json();

export const info = () => json("GET", "/v1/run");
export const describe = (question, signal) => json("POST", "/v1/queries", { body: question, signal });
export const generate = (given, sampling, signal) =>
  json("POST", "/v1/generate", { body: { ...given, sampling }, signal });
export const tokenMap = (body, signal) => json("POST", "/v1/tokens", { body, signal });
export const example = (id) => json("GET", `/v1/examples/${id.split("/").map(encodeURIComponent).join("/")}`);

/** Ask, and follow the work until it is over: resolves to the finished job. An abort of `signal` cancels it. */
export const ask = (request, options) => finished("/v1/influences", request, options);

/** The same with the verification of an answer. */
export const verify = (request, options) => finished("/v1/verifications", request, options);

async function finished(address, request, { onProgress = () => {}, signal } = {}) {
  let job = await submit(address, request, onProgress, signal);
  const cancel = () => call("DELETE", `/v1/jobs/${job.id}`).catch(() => {});
  signal?.addEventListener("abort", cancel);
  try {
    while (!over(job)) {
      onProgress(job);
      job = await follow(job, onProgress, signal);
    }
  } finally {
    signal?.removeEventListener("abort", cancel);
  }
  if (job.state === "failed") throw new Problem(job.error.status, job.error.title, job.error.detail, job.error.errors);
  if (job.state === "cancelled") {
    signal?.throwIfAborted();
    throw new Problem(0, "The question was cancelled", job.note || "Someone else cancelled it."); // not by us
  }
  return job;
}

async function submit(address, request, onProgress, signal) {
  for (;;) {
    try {
      return await json("POST", `${address}?wait=0.3`, { body: request, signal });
    } catch (problem) {
      if (problem.status !== 429) throw problem;
      onProgress({ state: "full", retryAfter: problem.retryAfter });
      await pause(problem.retryAfter * 1000, signal);
    }
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}

const over = (job) => ["done", "failed", "cancelled"].includes(job.state);

/** Read a job's events until the last one, then the job with its answer. */
async function follow(job, onProgress, signal) {
  const response = await call("GET", `/v1/jobs/${job.id}/events`, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const events = (waiting + value).split(/\r?\n\r?\n/);
      waiting = events.pop();
      for (const event of events) {
        const data = event.split(/\r?\n/).filter((line) => line.startsWith("data:"));
        if (data.length) onProgress(JSON.parse(data.map((line) => line.slice(5)).join("\n")));
      }
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw gone();
  }
  return json("GET", `/v1/jobs/${job.id}?wait=1`, { signal });
}

/** A finished answer as a file of the given format. */
export async function download(job, format) {
  const response = await call("GET", `/v1/jobs/${job.id}/answer?format=${format}`);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = `headwater-answer.${format}`;
  link.click();
  URL.revokeObjectURL(link.href);
}
