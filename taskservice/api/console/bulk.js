// One action on every task that the list's filter matches, after saying how many those are.

import { call, newKey } from "./api.js";
import { counted } from "./format.js";
import { act, tell } from "./notices.js";
import { byId } from "./page.js";
import { showTasks, wanted } from "./tasks.js";
import { isFinal, STATUSES } from "./words.js";

export function listenToBulk() {
  byId("filters").addEventListener("change", offer);
  byId("cancel-all").addEventListener("click", (event) => act(event.currentTarget, () => onAll("cancel")));
  byId("retry-all").addEventListener("click", (event) => act(event.currentTarget, () => onAll("retry")));
  offer();
}

// Only what can work: what has ended cannot be cancelled; what is repeated must be named, lest all succeeded ones run again.
function offer() {
  const { status } = wanted();
  byId("cancel-all").hidden = isFinal(status);
  byId("retry-all").hidden = !isFinal(status);
}

async function onAll(action) {
  const filter = { status: STATUSES.filter((status) => !isFinal(status)), ...wanted() };
  const { matched } = await bulk({ action, filter, dry_run: true });
  const tasks = counted(matched, "task");
  if (!matched) tell("No task matches that could be cancelled or repeated.");
  else if (confirm(action === "cancel" ? `Cancel ${tasks} that match the filter?` : `Submit ${tasks} again, as new ones?`)) {
    const { done, failed } = await toTheEnd({ action, filter });
    tell(`${counted(done, "task")} ${action === "cancel" ? "cancelled or asked to stop" : "submitted again"}${failed ? `, ${failed} not` : ""}.`);
    await showTasks();
  }
}

// An answer may come before all had their turn; the same request with its key goes on and repeats nothing twice.
async function toTheEnd(body) {
  const key = newKey();
  const [done, failed] = [new Set(), new Set()];
  for (;;) {
    const answer = await bulk(body, key);
    for (const id of answer.succeeded) done.add(id);
    for (const id of Object.keys(answer.failed)) failed.add(id);
    if (!answer.has_more) return { done: done.size, failed: failed.size };
  }
}

const bulk = async (json, key) =>
  (await call("POST", "/api/tasks/bulk", { json, headers: key ? { "Idempotency-Key": key } : {} })).json();
