// The task that the address names (#/tasks/…): opened in the dialog, kept up to date, closed.

import { read } from "./api.js";
import { drawDetail } from "./detail.js";
import { alarm } from "./notices.js";
import { byId, forget, paint } from "./page.js";
import { follow, pause } from "./stream.js";
import { isFinal } from "./words.js";

const LOOK_MS = 1000; // where there are no events
const DELIVERY_LOOK_MS = 5000; // webhooks have no events

let opened = null; // {id, signal, end, task, deliveries}

export function listenToAddress() {
  addEventListener("hashchange", openAddressed);
  byId("detail").addEventListener("close", () => {
    byId(`row-${opened?.id}`)?.focus({ preventScroll: true }); // the link that opened it may have been drawn anew
    if (location.hash) history.pushState(null, "", location.pathname);
    openAddressed();
  });
}

export function openAddressed() {
  const id = location.hash.match(/^#\/tasks\/(.+)$/)?.[1];
  opened?.end();
  opened = null;
  forget(byId("detail-body"));
  byId("detail-alerts").replaceChildren();
  if (!id) {
    if (byId("detail").open) byId("detail").close();
    return;
  }
  const controller = new AbortController();
  opened = { id: decodeURIComponent(id), signal: controller.signal, end: () => controller.abort(), deliveries: [] };
  watch(opened);
}

// For as long as something can still change.
async function watch(one) {
  try {
    await refresh(one);
    if (one.signal.aborted) return;
    if (!byId("detail").open) byId("detail").showModal();
    if (!isFinal(one.task.status)) await watchToItsEnd(one);
    while (!one.signal.aborted && one.deliveries.some(({ status }) => status && !isFinal(status))) {
      await pause(DELIVERY_LOOK_MS);
      await refresh(one);
    }
  } catch (error) {
    if (!one.signal.aborted) alarm(error);
  }
}

// By its events; where there are none, by a look every second; and the webhook that its end may have caused.
async function watchToItsEnd(one) {
  await follow(`${address(one)}/events`, one.signal, (event) => receive(one, event), () => {});
  do {
    await pause(LOOK_MS);
    if (!one.signal.aborted) await refresh(one);
  } while (!one.signal.aborted && !isFinal(one.task.status));
}

const address = (one) => `/api/tasks/${encodeURIComponent(one.id)}`;

async function refresh(one) {
  const [task, deliveries] = await Promise.all([read(address(one)), read(`${address(one)}/deliveries`)]);
  Object.assign(one, { task, deliveries: deliveries.data });
  show(one);
}

// Whether it was the last event.
function receive(one, { name, data }) {
  if (name === "progress") one.task = { ...one.task, ...data };
  else if (data.parameters) one.task = data; // else only a summary: the task is no longer kept
  show(one);
  return one.signal.aborted || isFinal(one.task.status);
}

function show(one) {
  if (one.signal.aborted) return;
  paint(byId("detail-body"), [one.task, one.deliveries], () => drawDetail(one.task, one.deliveries, () => refresh(one)));
}
