// The workers and what they run.

import { badge, taskLink } from "./format.js";
import { el } from "./page.js";
import { look } from "./section.js";

export const showWorkers = () =>
  look("workers", "/api/workers", draw, ({ data }) => data.map(({ last_seen_at, ...worker }) => worker));

function draw({ data }) {
  if (!data.length) return el("p", { class: "empty" }, "No worker has shown itself within the last minute.");
  return data.map((worker) => el("div", { class: "worker" },
    el("code", {}, worker.name), badge(worker.status),
    el("span", { class: "soft" }, `${worker.running.length} of ${worker.concurrency} busy · ${worker.queues.join(", ")}`),
    worker.running.length ? el("span", { class: "soft" }, worker.running.map((id) => [taskLink(id, `worker-${id}`), " "])) : null));
}
