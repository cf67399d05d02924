// One section of the page: read, drawn, and read again; its errors stay inside it.

import { Problem, read } from "./api.js";
import { byId, el, paint } from "./page.js";

// Draws the body of `path` when `facts` of it changed. Returns what went wrong, or null.
export async function look(id, path, draw, facts = (body) => body) {
  try {
    const body = await read(path);
    paint(byId(id), facts(body), () => draw(body));
    return null;
  } catch (error) {
    paint(byId(id), error.message, () => el("p", { class: "empty bad" }, error.message));
    return error;
  }
}

// How the service is, from what went wrong in each section; null: well enough.
export function ailment(errors) {
  if (errors.every((error) => error && !(error instanceof Problem))) return "the service cannot be reached";
  const codes = errors.map((error) => error?.code);
  if (codes.includes("broker_unavailable")) return "the broker is away";
  if (codes.includes("store_unavailable")) return "the store is away";
  return errors.some((error) => error?.status === 503) ? "the service is busy" : null;
}
