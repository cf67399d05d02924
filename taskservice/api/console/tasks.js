// The list of tasks: filters, pages, and one action on all that a filter matches.

import { read } from "./api.js";
import { badge, bar, duration, instant, moment, taskLink } from "./format.js";
import { byId, el, paint, table } from "./page.js";

const PAGE = 25;
const GATHER_MS = 700; // changes that are shown together

const pages = { cursors: [], next: null, asked: 0 };

export const isNewestPage = () => !pages.cursors.length;

// What the filter form asks for, in the API's words.
export function wanted() {
  const filter = {};
  for (const [name, value] of new FormData(byId("filters"))) if (value.trim()) filter[name] = value.trim();
  for (const name of ["created_after", "created_before"]) if (filter[name]) filter[name] = instant(filter[name]);
  return filter;
}

export async function showTasks() {
  const turn = ++pages.asked;
  const query = new URLSearchParams({ limit: PAGE, ...wanted() });
  if (!isNewestPage()) query.set("cursor", pages.cursors.at(-1));
  const body = await read(`/api/tasks?${query}`).catch((error) => ({ error }));
  if (turn !== pages.asked) return; // the answer to an older question
  if (body.error) {
    paint(byId("task-list"), body.error.message, () => el("p", { class: "empty bad" }, body.error.message));
    return;
  }
  pages.next = body.next_cursor;
  paint(byId("task-list"), body.data.map(facts), () => draw(body.data));
  byId("newest").hidden = isNewestPage();
  byId("older").hidden = !pages.next;
}

const facts = (task) => [task.task_id, task.status, task.progress, task.run_s];

function draw(tasks) {
  if (!tasks.length) return el("p", { class: "empty" }, "No task here. Submit one, or change the filter.");
  return table(["Task", "Status", "Type", "Priority", "Accepted", "Run"], tasks.map(row), { class: "list" });
}

const row = (task) => el("tr", {},
  el("td", {}, taskLink(task.task_id, `row-${task.task_id}`)),
  el("td", {}, badge(task.status), task.status === "running" ? bar(task.progress) : null),
  el("td", {}, task.task_type),
  el("td", { class: "soft" }, task.priority),
  el("td", { class: "soft" }, moment(task.created_at)),
  el("td", {}, duration(task.run_s)));

let gathering = null;

// Some task is not as it was; an older page stands still.
export function tasksChanged() {
  if (gathering || !isNewestPage()) return;
  gathering = setTimeout(() => {
    gathering = null;
    showTasks();
  }, GATHER_MS);
}

export function listenToPages() {
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("change", showNewest);
  byId("newest").addEventListener("click", showNewest);
  byId("older").addEventListener("click", () => {
    pages.cursors.push(pages.next);
    showTasks();
  });
}

function showNewest() {
  pages.cursors = [];
  showTasks();
}
