// The console begins here: the sections, their rhythm, the connection and the key.

import { currentKey, useKey } from "./api.js";
import { listenToBulk } from "./bulk.js";
import { showFiles, uploader } from "./files.js";
import { alarm, clearNotices, connection } from "./notices.js";
import { showNumbers } from "./numbers.js";
import { listenToAddress, openAddressed } from "./open.js";
import { byId, fill } from "./page.js";
import { showQueues } from "./queues.js";
import { ailment } from "./section.js";
import { follow } from "./stream.js";
import { areTypesKnown, listenToForm, loadTypes } from "./submit.js";
import { isNewestPage, listenToPages, showTasks, tasksChanged } from "./tasks.js";
import { showWorkers } from "./workers.js";
import { PRIORITIES, STATUSES } from "./words.js";

const LOOK_MS = 5000; // numbers, queues and workers; and tasks while there are no events

const state = { following: new AbortController(), isLive: false, isLocked: false };

async function lookAround() {
  const errors = await Promise.all([showNumbers(), showQueues(), showWorkers()]);
  if (state.isLocked) return;
  const what = ailment(errors);
  if (what) connection("away", what);
  else if (state.isLive) connection("live", "live");
  else connection("polling", "looking every 5 s");
}

async function lookAgain() {
  if (document.hidden || state.isLocked) return;
  await Promise.all([
    lookAround(),
    state.isLive || !isNewestPage() ? null : showTasks(),
    areTypesKnown() ? null : loadTypes().catch(() => {}), // it was away when the page began
  ]);
}

// One look after the other: a slow service is not asked twice at once.
async function keepLooking() {
  await lookAgain();
  setTimeout(keepLooking, LOOK_MS);
}

function lock() {
  if (state.isLocked) return;
  state.isLocked = true;
  state.following.abort();
  connection("away", "an API key is needed");
  if (!byId("detail").open) byId("key").focus();
}

async function begin() {
  state.isLocked = false;
  state.following.abort();
  state.following = new AbortController();
  clearNotices();
  await Promise.all([loadTypes().catch(alarm), showTasks(), lookAround(), showFiles()]);
  if (state.isLocked) return;
  openAddressed();
  follow("/api/events", state.following.signal, () => {
    if (!state.isLive) lookAround();
    state.isLive = true;
    tasksChanged();
  }, () => { state.isLive = false; });
}

fill(byId("filters").elements.status, STATUSES, "", { withAny: true });
fill(byId("filters").elements.priority, PRIORITIES, "", { withAny: true });
fill(byId("submit-priority"), PRIORITIES, "normal");
byId("key").value = currentKey();
byId("file-upload").append(uploader({ "aria-label": "Upload a file" }));

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value.trim());
  begin();
});
document.addEventListener("keyneeded", lock);
document.addEventListener("visibilitychange", lookAgain);
listenToAddress();
listenToForm();
listenToPages();
listenToBulk();

await begin();
setTimeout(keepLooking, LOOK_MS);
