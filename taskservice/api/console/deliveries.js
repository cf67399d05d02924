// The webhooks of one task: what became of each, and sending one again.

import { call } from "./api.js";
import { badge, moment } from "./format.js";
import { act } from "./notices.js";
import { el, table } from "./page.js";
import { isFinal } from "./words.js";

export const drawDeliveries = (taskId, deliveries, refresh) =>
  table(["#", "Event", "Status", "Attempts", "Last answer", ""], deliveries.map((one) => row(taskId, one, refresh)));

const row = (taskId, delivery, refresh) => el("tr", {},
  el("td", {}, String(delivery.n)),
  el("td", {}, delivery.event, delivery.is_replay ? el("span", { class: "soft" }, " again") : null),
  el("td", {}, badge(delivery.status ?? "forgotten")),
  el("td", {}, String(delivery.attempts.length),
    delivery.next_attempt_at ? el("span", { class: "soft" }, ", next ", moment(delivery.next_attempt_at)) : null),
  el("td", {}, answerOf(delivery.attempts.at(-1))),
  el("td", {}, isFinal(delivery.status) ? el("button", {
    type: "button", id: `replay-${delivery.n}`, "aria-label": `Send webhook ${delivery.n} again`,
    onclick: (event) => act(event.currentTarget, async () => {
      await call("POST", `/api/tasks/${taskId}/deliveries/${delivery.n}/replay`);
      await refresh();
    }),
  }, "Send again") : null));

function answerOf(attempt) {
  if (!attempt) return "";
  return [attempt.status_code, attempt.error?.message].filter(Boolean).join(" · ");
}
