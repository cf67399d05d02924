// Makes the document's examples work as they stand: what an example stands for is made by the operation's `x-before`
// just before the call, an endless stream is read for a moment. Must not know any route by name.
"use strict";

const STREAM_MS = 3000;
const STEP_TRIES = 20;
const PAUSE_MS = 500;
const described = fetch("/openapi.json").then((answer) => answer.json());

// Swagger UI's request, ready to be sent.
async function prepared(request) {
  if (request.loadSpec) return request;
  const operation = operationOf(request, (await described).paths);
  if (!operation) return request;
  for (const one of operation.parameters ?? []) {
    if (one["x-used-once"] && request.headers[one.name] === one.example) request.headers[one.name] = `example-${Date.now()}`;
  }
  if (answersWithStream(operation)) request.userFetch = fetchBriefly;
  const before = operation["x-before"];
  if (before && usesExamples(request, before.values)) await makeTrue(request, before);
  return request;
}

function operationOf(request, paths) {
  const path = new URL(request.url, location.href).pathname;
  const exact = Object.keys(paths).find((template) => template === path && paths[template][request.method.toLowerCase()]);
  const template = exact ?? Object.keys(paths).find((one) => asPattern(one).test(path) && paths[one][request.method.toLowerCase()]);
  return template && paths[template][request.method.toLowerCase()];
}

function asPattern(template) {
  return new RegExp(`^${template.replace(/\{\w+\}/g, "[^/]+")}$`);
}

function answersWithStream(operation) {
  return "text/event-stream" in (operation.responses["200"]?.content ?? {});
}

function usesExamples(request, values) {
  const text = request.url + (typeof request.body === "string" ? request.body : "");
  return Object.values(values).some((value) => text.includes(value));
}

async function makeTrue(request, before) {
  const kept = { ...before.values };
  for (const step of before.steps) await perform(step, kept, request.headers);
  for (const [name, example] of Object.entries(before.values)) {
    request.url = request.url.replaceAll(example, kept[name]);
    if (typeof request.body === "string") request.body = request.body.replaceAll(example, kept[name]);
  }
}

// A step that fails leaves the examples as they are; the call itself then says what is wrong.
async function perform(step, kept, headers) {
  for (let tries = 0; tries < STEP_TRIES; tries += 1) {
    const answer = await fetch(filled(step.path, kept), { method: step.method, ...contentOf(step, headers) });
    if (!answer.ok) return;
    const body = await answer.json();
    for (const [name, pointer] of Object.entries(step.keep ?? {})) kept[name] = at(body, pointer);
    if (!step.until || step.until.values.includes(at(body, step.until.pointer))) return;
    await new Promise((resolve) => { setTimeout(resolve, PAUSE_MS); });
  }
}

function contentOf(step, headers) {
  const key = Object.fromEntries(Object.entries(headers).filter(([name]) => /^(authorization|x-api-key)$/i.test(name)));
  if (step.file) {
    const form = new FormData();
    form.append("file", new Blob([step.file.content]), step.file.filename);
    return { headers: key, body: form };
  }
  if (step.body) return { headers: { ...key, "Content-Type": "application/json" }, body: JSON.stringify(step.body) };
  return { headers: key };
}

function filled(path, kept) {
  return path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(kept[name]));
}

function at(value, pointer) {
  return pointer.split("/").slice(1).reduce((inner, part) => inner?.[part], value);
}

// What a stream sends in a few seconds, as an answer that ends.
async function fetchBriefly(url, options) {
  const answer = await fetch(url, options);
  if (!answer.ok || answer.status === 204) return answer;
  const reader = answer.body.getReader();
  const timer = setTimeout(() => reader.cancel(), STREAM_MS);
  const decoder = new TextDecoder();
  let text = "";
  for (let part = await reader.read(); !part.done; part = await reader.read()) text += decoder.decode(part.value, { stream: true });
  clearTimeout(timer);
  return new Response(text, { status: answer.status, headers: answer.headers });
}
