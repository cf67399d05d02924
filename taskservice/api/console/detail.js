// One task as it is drawn in the dialog: its facts, what can be done with it, result, attempts, parameters.

import { call, newKey } from "./api.js";
import { drawDeliveries } from "./deliveries.js";
import { download } from "./files.js";
import { badge, bar, duration, moment, taskLink } from "./format.js";
import { act } from "./notices.js";
import { byId, el, table } from "./page.js";
import { fillFrom } from "./submit.js";
import { tasksChanged } from "./tasks.js";
import { isFinal } from "./words.js";

// `deliveries`: the task's webhooks; `refresh` reads all of it again.
export function drawDetail(task, deliveries, refresh) {
  return [
    el("div", { class: "bar" },
      el("h2", { id: "detail-title" }, task.task_type, " ", badge(isStopping(task) ? "stopping" : task.status)),
      el("button", { type: "button", id: "detail-close", onclick: () => byId("detail").close() }, "Close")),
    el("code", {}, task.task_id),
    task.progress && !isFinal(task.status) ? drawProgress(task.progress) : null,
    drawFacts(task),
    task.error ? el("p", { class: "bad" }, el("strong", {}, task.error.code), ` ${task.error.message}`) : null,
    drawActions(task, refresh),
    task.result ? [el("h3", {}, "Result"), json(task.result), drawOutput(task.result)] : null,
    task.attempts.length ? [el("h3", {}, "Attempts"), el("div", { class: "scroll" }, drawAttempts(task.attempts))] : null,
    deliveries.length ? [el("h3", {}, "Webhooks"), el("div", { class: "scroll" }, drawDeliveries(task.task_id, deliveries, refresh))] : null,
    el("h3", {}, "Parameters"), json(task.parameters),
    Object.keys(task.metadata).length ? [el("h3", {}, "Metadata"), json(task.metadata)] : null,
  ];
}

const isStopping = (task) => task.cancel_requested && !isFinal(task.status);
const json = (value) => el("pre", { tabindex: "0" }, JSON.stringify(value, null, 2));

const drawProgress = (progress) => el("div", {}, bar(progress),
  el("div", { class: "soft" }, `${progress.current} of ${progress.total} ${progress.message}`));

const drawFacts = (task) => el("dl", { class: "facts" },
  fact("Queue", task.queue),
  fact("Accepted", moment(task.created_at)),
  task.started_at ? null : fact("Due", moment(task.due_at)),
  task.started_at || task.expires_in == null ? null : fact("Expires", `${duration(task.expires_in)} after it is due`),
  task.status === "retrying" ? fact("Next attempt", moment(task.due_at)) : null,
  task.started_at ? fact("Started", moment(task.started_at)) : null,
  task.finished_at ? fact("Ended", moment(task.finished_at)) : null,
  fact("Waited", duration(task.wait_s)),
  fact("Ran", duration(task.run_s)),
  fact("Attempt", `${task.attempt} of at most ${task.max_attempts}`),
  fact("Worker", task.worker),
  fact("Tags", task.tags.join(", ")),
  task.retried_from ? fact("Repeats", taskLink(task.retried_from, "detail-origin")) : null);

const fact = (name, value) => (value == null || value === "" ? null : el("div", {}, el("dt", {}, name), el("dd", {}, value)));

function drawActions(task, refresh) {
  const self = `/api/tasks/${task.task_id}`;
  const button = (text, work, kind) => el("button", {
    type: "button", class: kind, id: `detail-${text.split(" ")[0]}`, onclick: (event) => act(event.currentTarget, work),
  }, text);
  const headers = { "Idempotency-Key": newKey() }; // whoever presses again because no answer came asks for the same
  const send = (method, path) => async () => {
    const { task_id: id } = await (await call(method, path, { headers })).json();
    if (id && id !== task.task_id) location.hash = `#/tasks/${id}`;
    else await refresh();
    tasksChanged();
  };
  const isHeld = ["scheduled", "retrying"].includes(task.status);
  return el("div", { class: "bar start" },
    isFinal(task.status) || task.cancel_requested ? null : button("Cancel", send("DELETE", self), "danger"),
    isFinal(task.status) ? button("Retry as a new task", send("POST", `${self}/retry`)) : null,
    isHeld ? button("Run now", send("POST", `${self}/run`)) : null,
    button("Edit a copy", () => {
      byId("detail").addEventListener("close", () => fillFrom(task), { once: true }); // after the keyboard was put back
      byId("detail").close();
    }));
}

function drawAttempts(attempts) {
  const took = (one) => duration((new Date(one.finished_at) - new Date(one.started_at)) / 1000);
  const row = (one) => el("tr", {},
    el("td", {}, String(one.number)),
    el("td", {}, moment(one.started_at)),
    el("td", {}, one.finished_at ? took(one) : "running"),
    el("td", {}, one.worker),
    el("td", { class: one.error ? "bad" : "soft" }, one.error ? `${one.error.code}: ${one.error.message}` : one.finished_at ? "done" : ""));
  return table(["#", "Started", "Took", "Worker", "Outcome"], attempts.map(row));
}

function drawOutput(result) {
  const filename = result.output?.filename;
  if (!filename) return null;
  return el("button", { type: "button", id: "detail-output", class: "below",
    onclick: (event) => act(event.currentTarget, () => download(filename)) }, `Download ${filename}`);
}
