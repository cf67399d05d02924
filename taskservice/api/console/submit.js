// The form that submits a task of any type.

import { call, newKey, Problem, read } from "./api.js";
import { fieldFor, valueOf } from "./fields.js";
import { instant } from "./format.js";
import { act, alarm, tell } from "./notices.js";
import { byId, el, fill } from "./page.js";
import { tasksChanged } from "./tasks.js";
import { FINAL } from "./words.js";

let types = [];
let unanswered = { text: "", key: "" }; // a submission that may have been accepted: sent again, it keeps its key

const chosenType = () => types.find((one) => one.name === byId("submit-type").value);
const isJson = () => byId("as-json").getAttribute("aria-pressed") === "true";

export const areTypesKnown = () => types.length > 0;

export async function loadTypes() {
  types = (await read("/api/task-types")).data;
  const names = types.map((one) => one.name);
  fill(byId("submit-type"), names, byId("submit-type").value || names[0]);
  fill(byId("filters").elements.task_type, names, byId("filters").elements.task_type.value, { withAny: true });
  drawForm(chosenType()?.example ?? {});
}

export function listenToForm() {
  byId("submit").addEventListener("submit", (event) => {
    event.preventDefault();
    act(event.submitter ?? event.target, submit);
  });
  byId("submit").addEventListener("invalid", ({ target }) => { // what is folded could not be pointed at
    target.closest("details")?.setAttribute("open", "");
  }, true);
  byId("submit-type").addEventListener("change", () => drawForm(chosenType().example));
  byId("as-json").addEventListener("click", (event) => act(event.currentTarget, () => {
    const parameters = parametersNow();
    byId("as-json").setAttribute("aria-pressed", String(!isJson()));
    drawForm(parameters);
  }));
}

// The form as it was for this task, to be changed and submitted.
export function fillFrom(task) {
  if (!types.some((one) => one.name === task.task_type)) {
    alarm(new Error(`No task type is called ${task.task_type} any more.`));
    return;
  }
  byId("submit").reset();
  byId("submit-type").value = task.task_type;
  byId("submit-priority").value = task.priority;
  byId("submit-tags").value = task.tags.join(", ");
  byId("submit-retries").value = task.max_attempts - 1;
  byId("submit-expires").value = task.expires_in ?? "";
  byId("submit-metadata").value = Object.keys(task.metadata).length ? JSON.stringify(task.metadata) : "";
  drawForm(task.parameters);
  byId("submit-type").focus();
}

function drawForm(parameters) {
  const type = chosenType();
  if (!type) return;
  const root = type.parameters_schema;
  byId("submit-about").textContent = `${type.description} At most ${type.time_limit_s} s, ${type.max_retries} retries.`;
  byId("submit-retries").placeholder = type.max_retries;
  byId("parameters").replaceChildren(...(isJson()
    ? [el("label", {}, "Parameters", el("textarea", { class: "whole", spellcheck: "false" }, JSON.stringify(parameters, null, 2)))]
    : Object.entries(root.properties || {}).map(([name, schema]) =>
      fieldFor(name, schema, root, { isNeeded: (root.required || []).includes(name), example: parameters[name] }))));
}

function parametersNow() {
  if (isJson()) return parsed("parameters", byId("parameters").querySelector("textarea").value || "{}");
  const inputs = [...byId("parameters").querySelectorAll("[name]")];
  return Object.fromEntries(inputs.map((input) => [input.name, valueOf(input)]).filter(([, value]) => value !== undefined));
}

function parsed(what, text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`The ${what} are not JSON: ${error.message}`);
  }
}

function submission() {
  const value = (name) => byId(`submit-${name}`).value.trim();
  const tags = value("tags").split(",").map((tag) => tag.trim()).filter(Boolean);
  return {
    task_type: byId("submit-type").value,
    priority: byId("submit-priority").value,
    parameters: parametersNow(),
    ...(value("delay") && { delay: Number(value("delay")) }),
    ...(value("run-at") && { run_at: instant(value("run-at")) }),
    ...(value("expires") && { expires_in: Number(value("expires")) }),
    ...(value("retries") && { max_retries: Number(value("retries")) }),
    ...(tags.length && { tags }),
    ...(value("metadata") && { metadata: parsed("metadata", value("metadata")) }),
    ...(value("callback") && { callback: { url: value("callback"), events: FINAL } }),
  };
}

async function submit() {
  const json = submission();
  const answer = await call("POST", "/api/tasks", { json, headers: { "Idempotency-Key": keyFor(JSON.stringify(json)) } })
    .catch((error) => {
      if (error instanceof Problem && error.status < 500 && error.status !== 409) unanswered = { text: "", key: "" };
      throw error;
    });
  unanswered = { text: "", key: "" };
  byId("submit-key").value = ""; // it is this task's alone
  const task = await answer.json();
  location.hash = `#/tasks/${task.task_id}`;
  if (answer.headers.get("Idempotency-Replayed")) tell("An earlier request with this key made this task.");
  tasksChanged();
}

// The form's own, or the key of the same submission that nobody answered, or a new one.
function keyFor(text) {
  const written = byId("submit-key").value.trim();
  if (written) return written;
  if (unanswered.text !== text) unanswered = { text, key: newKey() };
  return unanswered.key;
}
