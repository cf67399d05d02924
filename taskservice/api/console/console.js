// The console. Every text of the service goes into the page as text, never as markup.

const FINAL = ["succeeded", "failed", "cancelled", "expired"];
const STATUSES = ["scheduled", "queued", "running", "retrying", ...FINAL];
const PRIORITIES = ["high", "normal", "low"];
const LOOK_MS = 5000; // numbers, queues and workers; and tasks while there are no events
const GATHER_MS = 700; // changes that are shown together
const AWAY_MS = 3000;
const KEY = "taskservice.key";

const byId = (id) => document.getElementById(id);
const state = { types: [], cursors: [], next: null, following: new AbortController(), detail: null, isLive: false, locked: false };

// ---- the page

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return node;
}

// Replaces what is shown, only when it differs, and leaves the keyboard where it was.
const shown = new WeakMap();
function paint(container, facts, draw) {
  const text = JSON.stringify(facts);
  if (shown.get(container) === text) return;
  shown.set(container, text);
  const focused = container.contains(document.activeElement) ? document.activeElement.id : "";
  const open = [...container.querySelectorAll("details[open]")].map((one) => one.id);
  container.replaceChildren(...[draw()].flat(Infinity).filter(Boolean));
  for (const id of open) byId(id)?.setAttribute("open", "");
  if (focused) byId(focused)?.focus({ preventScroll: true });
}

const whole = (number) => new Intl.NumberFormat().format(number);

function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 90) return `${Math.round(seconds * 10) / 10} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 360) / 10} h`;
}

function moment(text) {
  if (!text) return "–";
  const at = new Date(text);
  const isToday = at.toDateString() === new Date().toDateString();
  return el("time", { datetime: text, title: text }, isToday ? at.toLocaleTimeString() : at.toLocaleString());
}

const badge = (word) => el("span", { class: `status ${word}` }, word);

function bar(progress) {
  if (!progress) return null;
  const text = progress.message || `${progress.current} of ${progress.total}`;
  return el("progress", { max: progress.total || 1, value: progress.current, title: text, "aria-label": text });
}

// ---- what goes wrong

class Problem extends Error {
  constructor(status, body) {
    super(body.detail || `The service answered ${status}.`);
    Object.assign(this, { status, code: body.error, errors: body.errors || [], requestId: body.request_id });
  }
}

function alarm(error) {
  if (error.name === "AbortError") return;
  const details = (error.errors || []).map((one) => el("li", {}, el("code", {}, one.pointer || "/"), ` ${one.detail}`));
  const box = el("div", { class: "alert" },
    el("div", {},
      el("strong", {}, error.message),
      details.length ? el("ul", {}, details) : null,
      error.requestId ? el("div", { class: "soft" }, `request ${error.requestId}`) : null),
    el("button", { type: "button", "aria-label": "Dismiss", onclick: () => box.remove() }, "×"));
  const target = byId("detail").open ? byId("detail") : byId("alerts"); // a dialog hides what is behind it
  target.querySelectorAll(".alert").forEach((one) => one.remove());
  target.prepend(box);
}

function connection(is, text) {
  byId("connection").dataset.is = is;
  if (byId("connection").textContent !== text) byId("connection").textContent = text;
}

// ---- the API

async function call(method, path, { json, form, headers = {}, signal } = {}) {
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (json !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, signal, cache: "no-store", body: json === undefined ? form : JSON.stringify(json) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The service cannot be reached.");
  }
  if (answer.ok) return answer;
  const problem = new Problem(answer.status, await answer.json().catch(() => ({})));
  if (answer.status === 401) lock();
  throw problem;
}

const read = async (path) => (await call("GET", path)).json();

async function act(button, work) {
  button.disabled = true;
  try {
    await work();
  } catch (error) {
    alarm(error);
  } finally {
    button.disabled = false;
  }
}

function lock() {
  if (state.locked) return;
  state.locked = true;
  state.following.abort();
  connection("away", "an API key is needed");
  byId("key").focus();
}

// Server-sent events over fetch: EventSource cannot send a key.
async function* events(path, last, signal) {
  const answer = await call("GET", path, { signal, headers: last ? { "Last-Event-ID": last } : {} });
  if (answer.status === 204) return;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = ""; ;) {
    const { value, done } = await reader.read();
    if (done) return;
    const frames = (rest + value).split("\n\n");
    rest = frames.pop();
    for (const frame of frames) {
      const fields = Object.fromEntries(frame.split("\n").map((line) => line.split(/: ?(.*)/s)).filter(([name]) => name));
      if (fields.data) yield { id: fields.id, name: fields.event, data: JSON.parse(fields.data) };
    }
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Until `receive` says that this was the last one, or the signal ends it. Returns at once where there are no events.
async function follow(path, signal, receive, lost) {
  let last;
  while (!signal.aborted) {
    try {
      for await (const event of events(path, last, signal)) {
        last = event.id || last;
        if (receive(event)) return;
      }
    } catch (error) {
      if (signal.aborted || [401, 403, 404, 405].includes(error.status)) return lost();
    }
    lost();
    await pause(AWAY_MS);
  }
}

// ---- numbers, queues, workers

async function look(id, path, draw) {
  try {
    const body = await read(path);
    paint(byId(id), draw.facts ? draw.facts(body) : body, () => draw(body));
    return true;
  } catch (error) {
    paint(byId(id), error.message, () => el("p", { class: "empty bad" }, error.message));
    return Boolean(error.status);
  }
}

function drawStats(stats) {
  const tile = (number, text, kind = "") => el("div", { class: "tile" }, el("b", { class: kind }, number), el("span", {}, text));
  const at = (status) => whole(stats.by_status[status]);
  return [
    tile(at("queued"), "queued"),
    tile(at("running"), "running"),
    tile(at("scheduled"), "scheduled"),
    tile(at("retrying"), "waiting for a retry", stats.by_status.retrying ? "retrying" : ""),
    tile(whole(stats.last_minute.accepted), "accepted in the last minute"),
    tile(whole(stats.last_hour.succeeded), "succeeded in the last hour"),
    tile(whole(stats.last_hour.failed), "failed in the last hour", stats.last_hour.failed ? "bad" : ""),
    tile(duration(stats.wait_s.p95), "wait, 95th percentile"),
    tile(duration(stats.run_s.p95), "run, 95th percentile"),
  ];
}
drawStats.facts = ({ at, ...stats }) => stats;

function drawQueues({ data }) {
  return data.map((queue) => {
    const isStuck = !queue.paused && !queue.consumers;
    const verb = queue.paused ? "resume" : "pause";
    const change = (event) => act(event.currentTarget, async () => {
      await call("PUT", `/api/queues/${queue.name}/${verb}`);
      await lookAround();
    });
    return el("article", { class: isStuck ? "card alarming" : "card", "aria-label": queue.name },
      el("strong", {}, queue.name),
      el("button", { type: "button", id: `pause-${queue.name}`, onclick: change, "aria-label": `${verb} ${queue.name}` },
        queue.paused ? "Resume" : "Pause"),
      el("p", {}, `${whole(queue.depth)} waiting`,
        queue.oldest_age_s == null ? null : el("span", { class: "soft" }, `, the oldest for ${duration(queue.oldest_age_s)}`)),
      queue.paused ? badge("paused") : el("span", { class: isStuck ? "bad" : "soft" },
        queue.consumers === 1 ? "1 consumer" : `${queue.consumers} consumers`));
  });
}

function drawWorkers({ data }) {
  if (!data.length) return el("p", { class: "empty" }, "No worker has shown itself within the last minute.");
  return data.map((worker) => el("div", { class: "worker" },
    el("code", {}, worker.name), badge(worker.status),
    el("span", { class: "soft" }, `${worker.running.length} of ${worker.concurrency} busy · ${worker.queues.join(", ")}`),
    worker.running.length ? el("span", { class: "soft" }, worker.running.map((id) => [taskLink(id, `worker-${id}`), " "])) : null));
}
drawWorkers.facts = ({ data }) => data.map(({ last_seen_at, ...worker }) => worker);

async function lookAround() {
  const answered = await Promise.all([
    look("stats", "/api/stats", drawStats),
    look("queues", "/api/queues", drawQueues),
    look("workers", "/api/workers", drawWorkers),
  ]);
  if (state.locked) return;
  if (!answered.some(Boolean)) connection("away", "the service cannot be reached");
  else if (state.isLive) connection("live", "live");
  else connection("polling", "looking every 5 s");
}

// ---- tasks

const taskLink = (id, elementId) => el("a", { href: `#/tasks/${id}`, id: elementId, title: id }, el("code", {}, id.slice(0, 8)));

function wanted() {
  const query = new URLSearchParams({ limit: "25" });
  for (const [name, value] of new FormData(byId("filters"))) if (value.trim()) query.set(name, value.trim());
  if (state.cursors.length) query.set("cursor", state.cursors.at(-1));
  return `/api/tasks?${query}`;
}

function drawTasks({ data }) {
  if (!data.length) return el("p", { class: "empty" }, "No task here. Submit one, or change the filter.");
  const head = ["Task", "Status", "Type", "Priority", "Accepted", "Run"].map((name) =>
    el("th", { scope: "col", class: name === "Run" ? "number" : null }, name));
  const row = (task) => el("tr", {},
    el("td", {}, taskLink(task.task_id, `row-${task.task_id}`)),
    el("td", {}, badge(task.status), task.status === "running" ? bar(task.progress) : null),
    el("td", {}, task.task_type),
    el("td", { class: "soft" }, task.priority),
    el("td", { class: "soft" }, moment(task.created_at)),
    el("td", { class: "number" }, duration(task.run_s)));
  return el("table", { class: "list" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, data.map(row)));
}
drawTasks.facts = ({ data }) => data.map((task) => [task.task_id, task.status, task.progress, task.run_s]);

async function listTasks() {
  await look("task-list", wanted(), (body) => {
    state.next = body.next_cursor;
    return drawTasks(body);
  });
  byId("newest").hidden = !state.cursors.length;
  byId("older").hidden = !state.next;
}

let gathering = null;
function changed() {
  if (gathering || state.cursors.length) return; // an older page stands still
  gathering = setTimeout(() => {
    gathering = null;
    listTasks();
  }, GATHER_MS);
}

// ---- one task

function drawDetail(task) {
  const fact = (name, value) => value == null || value === "" ? null : el("div", {}, el("dt", {}, name), el("dd", {}, value));
  const json = (value) => el("pre", { tabindex: "0" }, JSON.stringify(value, null, 2));
  const isFinal = FINAL.includes(task.status);
  const button = (text, kind, method, path) => el("button", {
    type: "button", class: kind, id: `detail-${text.split(" ")[0]}`,
    onclick: (event) => act(event.currentTarget, async () => {
      const answer = await (await call(method, path)).json();
      if (answer.task_id && answer.task_id !== task.task_id) location.hash = `#/tasks/${answer.task_id}`;
      else await showTask(task.task_id);
      changed();
    }),
  }, text);
  const self = `/api/tasks/${task.task_id}`;
  return [
    el("div", { class: "bar" },
      el("h2", { id: "detail-title" }, task.task_type, " ", badge(task.cancel_requested && !isFinal ? "stopping" : task.status)),
      el("button", { type: "button", id: "detail-close", onclick: () => byId("detail").close() }, "Close")),
    el("code", {}, task.task_id),
    task.progress && !isFinal ? el("div", {}, bar(task.progress), el("div", { class: "soft" },
      `${task.progress.current} of ${task.progress.total} ${task.progress.message}`)) : null,
    el("dl", { class: "facts" },
      fact("Queue", task.queue),
      fact("Accepted", moment(task.created_at)),
      task.started_at ? null : fact("Due", moment(task.due_at)),
      task.status === "retrying" ? fact("Next attempt", moment(task.due_at)) : null,
      task.started_at ? fact("Started", moment(task.started_at)) : null,
      task.finished_at ? fact("Ended", moment(task.finished_at)) : null,
      fact("Waited", duration(task.wait_s)),
      fact("Ran", duration(task.run_s)),
      fact("Attempt", `${task.attempt} of at most ${task.max_attempts}`),
      fact("Worker", task.worker),
      fact("Tags", task.tags.join(", ")),
      task.retried_from ? fact("Repeats", taskLink(task.retried_from, "detail-origin")) : null),
    task.error ? el("p", { class: "bad" }, el("strong", {}, task.error.code), ` ${task.error.message}`) : null,
    el("div", { class: "bar" }, el("span", {},
      !isFinal && !task.cancel_requested ? button("Cancel", "danger", "DELETE", self) : null, " ",
      isFinal ? button("Retry as a new task", "", "POST", `${self}/retry`) : null, " ",
      ["scheduled", "retrying"].includes(task.status) ? button("Run now", "", "POST", `${self}/run`) : null)),
    task.result ? [el("h3", {}, "Result"), json(task.result), outputOf(task.result)] : null,
    task.attempts.length ? [el("h3", {}, "Attempts"), drawAttempts(task.attempts)] : null,
    el("h3", {}, "Parameters"), json(task.parameters),
    Object.keys(task.metadata).length ? [el("h3", {}, "Metadata"), json(task.metadata)] : null,
  ];
}

function drawAttempts(attempts) {
  const row = (one) => el("tr", {},
    el("td", {}, String(one.number)),
    el("td", {}, moment(one.started_at)),
    el("td", {}, one.finished_at ? duration((new Date(one.finished_at) - new Date(one.started_at)) / 1000) : "running"),
    el("td", {}, one.worker),
    el("td", { class: one.error ? "bad" : "soft" }, one.error ? `${one.error.code}: ${one.error.message}` : one.finished_at ? "done" : ""));
  const head = ["#", "Started", "Took", "Worker", "Outcome"].map((name) => el("th", { scope: "col" }, name));
  return el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, attempts.map(row)));
}

function outputOf(result) {
  const filename = result.output?.filename;
  if (!filename) return null;
  return el("button", { type: "button", id: "detail-output", onclick: (event) => act(event.currentTarget, async () => {
    const content = await (await call("GET", `/api/files/${encodeURIComponent(filename)}`)).blob();
    const link = el("a", { href: URL.createObjectURL(content), download: filename });
    link.click();
    URL.revokeObjectURL(link.href);
  }) }, `Download ${filename}`);
}

const showDetail = (task) => paint(byId("detail"), task, () => drawDetail(task));

async function showTask(id) {
  const task = await read(`/api/tasks/${encodeURIComponent(id)}`);
  if (state.detail?.id === id) showDetail(task);
  return task;
}

// Its events; where there are none, a look every second.
async function watchTask(id, signal) {
  try {
    let task = await showTask(id);
    if (!byId("detail").open && !signal.aborted) byId("detail").showModal();
    if (FINAL.includes(task.status)) return;
    await follow(`/api/tasks/${encodeURIComponent(id)}/events`, signal, ({ name, data }) => {
      task = name === "progress" ? { ...task, ...data } : data.parameters ? data : task;
      if (!signal.aborted) showDetail(task);
      return signal.aborted || FINAL.includes(task.status);
    }, () => {});
    while (!signal.aborted && !FINAL.includes(task.status)) {
      await pause(1000);
      if (!signal.aborted) task = await showTask(id);
    }
  } catch (error) {
    if (!signal.aborted) alarm(error);
  }
}

function openHash() {
  const id = location.hash.match(/^#\/tasks\/(.+)$/)?.[1];
  state.detail?.controller.abort();
  state.detail = null;
  shown.delete(byId("detail"));
  if (!id) {
    if (byId("detail").open) byId("detail").close();
    return;
  }
  state.detail = { id: decodeURIComponent(id), controller: new AbortController() };
  watchTask(state.detail.id, state.detail.controller.signal);
}

// ---- submit: a form made from the type's JSON Schema

function resolved(schema, root) {
  if (schema.$ref) return { ...resolved(root.$defs[schema.$ref.split("/").at(-1)], root), ...schema, $ref: undefined };
  const choices = (schema.anyOf || []).filter((one) => one.type !== "null");
  return choices.length === 1 ? { ...schema, ...resolved(choices[0], root), anyOf: undefined } : schema;
}

const kindsOf = (schema, root) => (schema.anyOf || [schema]).map((one) => resolved(one, root).type);
const isFile = (name) => ["file", "filename", "attachments"].includes(name);

function fieldFor(name, declared, root, isNeeded, example) {
  const schema = resolved(declared, root);
  const kinds = kindsOf(schema, root);
  const common = { name, id: `parameter-${name}`, "aria-describedby": schema.description ? `hint-${name}` : null };
  const text = example === undefined ? "" : typeof example === "string" ? example : JSON.stringify(example);
  const isLong = schema.maxLength > 1000 || ["body", "html"].includes(name) || !kinds.every((kind) => ["string", "integer", "number"].includes(kind));
  let input;
  if (schema.enum) {
    const first = isNeeded ? [] : [el("option", { value: "" }, schema.default == null ? "" : `${schema.default} (default)`)];
    input = el("select", common, first, schema.enum.map((one) => el("option", { value: one, selected: one === example }, one)));
  } else if (kinds[0] === "boolean") {
    input = el("input", { ...common, type: "checkbox", checked: Boolean(example ?? schema.default) });
  } else if (kinds.length === 1 && ["integer", "number"].includes(kinds[0])) {
    input = el("input", { ...common, type: "number", step: kinds[0] === "integer" ? 1 : "any", min: schema.minimum, max: schema.maximum,
      value: text, placeholder: schema.default });
  } else if (isLong && !isFile(name)) {
    input = el("textarea", { ...common, spellcheck: "false" }, text);
  } else {
    input = el("input", { ...common, value: text, list: isFile(name) ? "files" : null });
  }
  Object.assign(input, { kinds, usual: schema.default ?? null });
  return el("div", {},
    el("label", { for: common.id, class: isNeeded ? "need" : null }, name),
    input,
    schema.description ? el("span", { class: "hint", id: `hint-${name}` }, schema.description) : null,
    isFile(name) ? uploader(input) : null);
}

function uploader(input) {
  const chosen = el("input", { type: "file", "aria-label": `Upload a file for ${input.name}`, onchange: (event) =>
    act(event.currentTarget, async () => {
      const form = new FormData();
      form.set("file", chosen.files[0]);
      const stored = await (await call("POST", "/api/files", { form })).json();
      input.value = input.kinds.includes("array") ? JSON.stringify([stored.filename]) : stored.filename;
    }) });
  return chosen;
}

function valueOf(input) {
  if (input.type === "checkbox") return input.checked === input.usual ? undefined : input.checked;
  if (input.value === "") return undefined;
  if (input.type === "number") return Number(input.value);
  if (input.kinds.every((kind) => kind === "string" || kind === undefined)) return input.value;
  try {
    const parsed = JSON.parse(input.value);
    if (typeof parsed === "object" || !input.kinds.includes("string")) return parsed;
  } catch { /* then it is text */ }
  return input.kinds.includes("string") || !input.kinds.includes("array") ? input.value : input.value.split(/[\n,]/).map((one) => one.trim()).filter(Boolean);
}

const isJson = () => byId("as-json").getAttribute("aria-pressed") === "true";
const chosenType = () => state.types.find((one) => one.name === byId("submit-type").value);

function drawForm(parameters) {
  const type = chosenType();
  if (!type) return;
  const root = type.parameters_schema;
  byId("submit-about").textContent = `${type.description} At most ${type.time_limit_s} s, ${type.max_retries} retries.`;
  byId("parameters").replaceChildren(...(isJson()
    ? [el("label", {}, "Parameters", el("textarea", { class: "whole", spellcheck: "false" }, JSON.stringify(parameters, null, 2)))]
    : Object.entries(root.properties || {}).map(([name, schema]) =>
      fieldFor(name, schema, root, (root.required || []).includes(name), parameters[name]))));
}

function parametersNow() {
  if (isJson()) {
    try {
      return JSON.parse(byId("parameters").querySelector("textarea").value || "{}");
    } catch (error) {
      throw new Error(`The parameters are not JSON: ${error.message}`);
    }
  }
  const inputs = [...byId("parameters").querySelectorAll("[name]")];
  return Object.fromEntries(inputs.map((input) => [input.name, valueOf(input)]).filter(([, value]) => value !== undefined));
}

async function submit() {
  const tags = byId("submit-tags").value.split(",").map((tag) => tag.trim()).filter(Boolean);
  const body = { task_type: byId("submit-type").value, priority: byId("submit-priority").value, parameters: parametersNow() };
  if (byId("submit-delay").value) body.delay = Number(byId("submit-delay").value);
  if (tags.length) body.tags = tags;
  const headers = { "Idempotency-Key": `console-${crypto.randomUUID?.() ?? Date.now()}` };
  const task = await (await call("POST", "/api/tasks", { json: body, headers })).json();
  location.hash = `#/tasks/${task.task_id}`;
  changed();
}

async function loadTypes() {
  state.types = (await read("/api/task-types")).data;
  const names = state.types.map((one) => one.name);
  fill(byId("submit-type"), names, byId("submit-type").value || names[0]);
  fill(byId("filters").elements.task_type, names, "", true);
  drawForm(chosenType()?.example ?? {});
}

function fill(select, names, chosen, withAny = false) {
  const options = names.map((name) => el("option", { value: name, selected: name === chosen }, name));
  select.replaceChildren(...(withAny ? [el("option", { value: "" }, "any")] : []), ...options);
}

async function suggestFiles() {
  const files = await read("/api/files").catch(() => ({ data: [] }));
  byId("files").replaceChildren(...files.data.map((file) => el("option", { value: file.filename })));
}

// ---- begin

async function begin() {
  state.locked = false;
  state.following.abort();
  state.following = new AbortController();
  await Promise.all([loadTypes().catch(alarm), listTasks(), lookAround()]);
  if (state.locked) return;
  byId("alerts").replaceChildren();
  openHash();
  suggestFiles();
  follow("/api/events", state.following.signal, () => {
    state.isLive = true;
    connection("live", "live");
    changed();
  }, () => { state.isLive = false; });
}

setInterval(() => {
  if (document.hidden || state.locked) return;
  lookAround();
  if (!state.isLive && !state.cursors.length) listTasks();
}, LOOK_MS);

fill(byId("filters").elements.status, STATUSES, "", true);
fill(byId("filters").elements.priority, PRIORITIES, "", true);
fill(byId("submit-priority"), PRIORITIES, "normal");
byId("key").value = sessionStorage.getItem(KEY) || "";

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = byId("key").value.trim();
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
  begin();
});
byId("submit").addEventListener("submit", (event) => {
  event.preventDefault();
  act(event.submitter ?? event.target, submit);
});
byId("submit-type").addEventListener("change", () => drawForm(chosenType().example));
byId("as-json").addEventListener("click", (event) => act(event.currentTarget, async () => {
  const parameters = parametersNow();
  byId("as-json").setAttribute("aria-pressed", String(!isJson()));
  drawForm(parameters);
}));
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("filters").addEventListener("change", () => {
  state.cursors = [];
  listTasks();
});
byId("older").addEventListener("click", () => {
  state.cursors.push(state.next);
  listTasks();
});
byId("newest").addEventListener("click", () => {
  state.cursors = [];
  listTasks();
});
byId("detail").addEventListener("close", () => {
  byId(`row-${state.detail?.id}`)?.focus({ preventScroll: true }); // the link that opened it may have been drawn anew
  if (location.hash) history.pushState(null, "", location.pathname);
  openHash();
});
addEventListener("hashchange", openHash);

begin();
