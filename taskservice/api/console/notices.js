// What the page tells: alarms, what was done, and how the connection is.

import { byId, el } from "./page.js";

export function alarm(error) {
  if (error.name === "AbortError") return;
  const details = (error.errors || []).map((one) => el("li", {}, el("code", {}, one.pointer || "/"), ` ${one.detail}`));
  notice("alert",
    el("strong", {}, error.message),
    details.length ? el("ul", {}, details) : null,
    error.retryAfter ? el("div", {}, `Try again in ${error.retryAfter} s.`) : null,
    error.requestId ? el("div", { class: "soft" }, `${error.code ?? "request"} · request ${error.requestId}`) : null);
}

export const tell = (text) => notice("alert told", text);

// The last one only, where it is seen: a dialog hides what is behind it.
function notice(kind, ...content) {
  const place = byId("detail").open ? byId("detail-alerts") : byId("alerts");
  const dismiss = el("button", { type: "button", "aria-label": "Dismiss", onclick: () => place.replaceChildren() }, "×");
  place.replaceChildren(el("div", { class: kind }, el("div", {}, content), dismiss));
}

export const clearNotices = () => byId("alerts").replaceChildren();

// The button cannot be pressed twice while its work goes on; the keyboard stays on it.
export async function act(button, work) {
  if (button.getAttribute("aria-busy") === "true") return;
  button.setAttribute("aria-busy", "true");
  try {
    await work();
  } catch (error) {
    alarm(error);
  } finally {
    button.removeAttribute("aria-busy");
  }
}

// `is`: live, polling or away.
export function connection(is, text) {
  byId("connection").dataset.is = is;
  if (byId("connection").textContent !== text) byId("connection").textContent = text;
}
