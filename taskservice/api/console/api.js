// The API over fetch: the key, time-outs, and problem documents as exceptions.

const KEY = "taskservice.key";
const ANSWER_MS = 15_000; // the service promises 5 s; a file may take longer and has no limit here

export const currentKey = () => sessionStorage.getItem(KEY) || "";

export function useKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

// What the service said it could not do.
export class Problem extends Error {
  constructor(status, body, retryAfter) {
    super(body.detail || `The service answered ${status}.`);
    Object.assign(this, { status, retryAfter, code: body.error, errors: body.errors || [], requestId: body.request_id });
  }
}

// No answer: whether the service did what was asked is not known.
class Unreachable extends Error {}

// Throws Problem, Unreachable, or AbortError when `signal` ended it. Tells the document `keyneeded` on 401.
export async function call(method, path, { json, form, headers = {}, signal } = {}) {
  const answer = await request(method, path, {
    headers: { ...headers, ...keyHeader(), ...(json === undefined ? {} : { "Content-Type": "application/json" }) },
    body: json === undefined ? form : JSON.stringify(json),
    signal: signal ?? (isFile(path) ? undefined : AbortSignal.timeout(ANSWER_MS)),
  });
  if (answer.ok) return answer;
  if (answer.status === 401) document.dispatchEvent(new Event("keyneeded"));
  throw new Problem(answer.status, await answer.json().catch(() => ({})), answer.headers.get("Retry-After"));
}

async function request(method, path, options) {
  try {
    return await fetch(path, { method, cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Unreachable(error.name === "TimeoutError" ? "The service did not answer in time." : "The service cannot be reached.");
  }
}

const keyHeader = () => (currentKey() ? { Authorization: `Bearer ${currentKey()}` } : {});
const isFile = (path) => path.startsWith("/api/files");

export const read = async (path) => (await call("GET", path)).json();

// crypto.randomUUID exists only on https and localhost.
export const newKey = () => `console-${[...crypto.getRandomValues(new Uint32Array(4))].map((one) => one.toString(16)).join("-")}`;
