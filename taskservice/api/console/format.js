// How numbers, times and statuses read.

import { el } from "./page.js";

export const whole = (number) => new Intl.NumberFormat().format(number);

export const counted = (number, noun) => `${whole(number)} ${noun}${number === 1 ? "" : "s"}`;

export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)}\u00a0ms`;
  if (seconds < 90) return `${Math.round(seconds * 10) / 10}\u00a0s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)}\u00a0min` : `${Math.round(seconds / 360) / 10}\u00a0h`;
}

export function size(bytes) {
  if (bytes < 1000) return `${bytes}\u00a0B`;
  const [unit, by] = bytes < 1e6 ? ["KB", 1e3] : bytes < 1e9 ? ["MB", 1e6] : ["GB", 1e9];
  return `${(bytes / by).toFixed(bytes < 10 * by ? 1 : 0)}\u00a0${unit}`;
}

export function moment(text) {
  if (!text) return "–";
  const at = new Date(text);
  const isToday = at.toDateString() === new Date().toDateString();
  return el("time", { datetime: text, title: text }, isToday ? at.toLocaleTimeString() : at.toLocaleString());
}

// What a datetime-local field says, in the browser's time zone, as the API wants it.
export const instant = (local) => new Date(local).toISOString();

export const badge = (word) => el("span", { class: `status ${word}` }, word);

export function bar(progress) {
  if (!progress) return null;
  const text = progress.message || `${progress.current} of ${progress.total}`;
  return el("progress", { max: progress.total || 1, value: progress.current, title: text, "aria-label": text });
}

export const taskLink = (id, elementId) =>
  el("a", { href: `#/tasks/${id}`, id: elementId, title: id, "aria-label": `Task ${id}` }, el("code", {}, id.slice(0, 8)));
