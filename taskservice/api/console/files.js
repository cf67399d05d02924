// The uploaded and made files: upload, download, delete.

import { call } from "./api.js";
import { size } from "./format.js";
import { act } from "./notices.js";
import { byId, el } from "./page.js";
import { look } from "./section.js";

const at = (filename) => `/api/files/${encodeURIComponent(filename)}`;

// Also what the fields that name a file suggest.
export async function showFiles() {
  await look("file-list", "/api/files", ({ data }) => {
    byId("files").replaceChildren(...data.map((file) => el("option", { value: file.filename })));
    return data.length ? el("ul", { class: "files" }, data.map(draw)) : el("p", { class: "empty" }, "No file yet.");
  });
}

const draw = (file) => el("li", {},
  el("button", { type: "button", class: "link", id: `download-${file.filename}`, title: `sha256 ${file.sha256}`,
    "aria-label": `Download ${file.filename}`, onclick: (event) => act(event.currentTarget, () => download(file.filename)) }, file.filename),
  el("span", { class: "soft" }, size(file.size_bytes)),
  el("button", { type: "button", class: "danger quiet", id: `delete-${file.filename}`, "aria-label": `Delete ${file.filename}`,
    onclick: (event) => act(event.currentTarget, () => remove(file.filename)) }, "Delete"));

async function upload(content) {
  const form = new FormData();
  form.set("file", content);
  const stored = await (await call("POST", "/api/files", { form })).json();
  await showFiles();
  return stored.filename;
}

// By fetch and not by a link: a link cannot send a key.
export async function download(filename) {
  const content = await (await call("GET", at(filename))).blob();
  const link = el("a", { href: URL.createObjectURL(content), download: filename });
  link.click();
  URL.revokeObjectURL(link.href);
}

async function remove(filename) {
  if (!confirm(`Delete ${filename}?`)) return;
  await call("DELETE", at(filename));
  await showFiles();
}

// A field of the page that uploads whatever is chosen, then hands over the name it got.
export const uploader = (attributes, receive = () => {}) => el("input", { type: "file", ...attributes,
  onchange: ({ currentTarget: field }) => act(field, async () => {
    if (!field.files.length) return;
    receive(await upload(field.files[0]));
    field.value = ""; // the same file may be chosen again
  }) });
