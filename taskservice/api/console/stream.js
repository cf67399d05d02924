// Server-sent events over fetch: EventSource cannot send a key.

import { call } from "./api.js";

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 30_000;
const SILENCE_MS = 40_000; // the service sends a heartbeat every 15 s: after this the connection is dead
const HOPELESS = [401, 403, 404, 405];

export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Comes back after each break, where it was, until `receive` says that this was the last event, the signal ends it,
// the service has nothing more to tell or will never answer. `lost` is told of each break.
export async function follow(path, signal, receive, lost) {
  let last;
  let waitMs = FIRST_PAUSE_MS;
  while (!signal.aborted) {
    try {
      for await (const event of events(path, last, signal)) {
        last = event.id || last;
        waitMs = FIRST_PAUSE_MS;
        if (receive(event)) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (HOPELESS.includes(error.status)) return lost();
    }
    lost();
    await pause(waitMs * (0.5 + Math.random() / 2)); // pages that lost it together do not return together
    waitMs = Math.min(waitMs * 2, LONGEST_PAUSE_MS);
  }
}

async function* events(path, last, signal) {
  const connection = new AbortController();
  const end = () => connection.abort();
  signal.addEventListener("abort", end);
  let silence = setTimeout(end, SILENCE_MS);
  try {
    const answer = await call("GET", path, { signal: connection.signal, headers: last ? { "Last-Event-ID": last } : {} });
    const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; reader;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(silence);
      silence = setTimeout(end, SILENCE_MS);
      const frames = (rest + value).split("\n\n");
      rest = frames.pop();
      yield* frames.map(parse).filter((event) => event.data);
    }
  } finally {
    clearTimeout(silence);
    signal.removeEventListener("abort", end);
    end();
  }
}

function parse(frame) {
  const fields = Object.fromEntries(frame.split("\n").map((line) => line.split(/: ?(.*)/s)).filter(([name]) => name));
  return { id: fields.id, name: fields.event, data: fields.data && JSON.parse(fields.data) };
}
