// The numbers at the top.

import { duration, whole } from "./format.js";
import { el } from "./page.js";
import { look } from "./section.js";

export const showNumbers = () => look("stats", "/api/stats", draw, ({ at, ...stats }) => stats);

function draw(stats) {
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

const tile = (number, text, kind = "") => el("div", { class: "tile" }, el("b", { class: kind }, number), el("span", {}, text));
