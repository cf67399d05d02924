// The queues: how full they are; pause, resume, purge.

import { call } from "./api.js";
import { badge, counted, duration, whole } from "./format.js";
import { act, tell } from "./notices.js";
import { el } from "./page.js";
import { look } from "./section.js";

export const showQueues = () => look("queues", "/api/queues", ({ data }) => data.map(draw));

function draw(queue) {
  const isStuck = !queue.paused && !queue.consumers;
  const verb = queue.paused ? "resume" : "pause";
  return el("article", { class: isStuck ? "card alarming" : "card", "aria-label": queue.name },
    el("div", { class: "bar" },
      el("strong", {}, queue.name),
      el("span", { class: "actions" },
        queue.oldest_age_s == null ? null : button(queue, "purge", () => purge(queue.name)),
        button(queue, verb, () => call("PUT", `/api/queues/${queue.name}/${verb}`)))),
    el("div", { class: "bar" },
      el("span", {}, `${whole(queue.depth)} waiting`, el("span", { class: "soft" },
        queue.unacknowledged ? `, ${whole(queue.unacknowledged)} with workers` : null,
        queue.oldest_age_s == null ? null : `, the oldest for ${duration(queue.oldest_age_s)}`)),
      queue.paused ? badge("paused") : el("span", { class: isStuck ? "bad" : "soft" }, counted(queue.consumers, "consumer"))));
}

const button = (queue, verb, work) => el("button", {
  type: "button",
  class: verb === "purge" ? "danger" : null,
  id: `${verb === "purge" ? "purge" : "pause"}-${queue.name}`,
  "aria-label": `${verb} ${queue.name}`,
  onclick: (event) => act(event.currentTarget, async () => {
    await work();
    await showQueues();
  }),
}, verb[0].toUpperCase() + verb.slice(1));

async function purge(name) {
  if (!confirm(`Cancel every queued task of ${name}?`)) return;
  const { cancelled } = await (await call("POST", `/api/queues/${name}/purge`)).json();
  tell(`${counted(cancelled, "task")} of ${name} cancelled.`);
}
