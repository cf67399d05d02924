// Fields made from a task type's JSON Schema, and what was written into them.

import { uploader } from "./files.js";
import { el } from "./page.js";

const LONG_TEXTS = ["body", "html"];
const FILE_NAMES = ["file", "filename", "attachments"];
const SIMPLE = ["string", "integer", "number"];
const usual = new WeakMap(); // of each field: its kinds, and its value when nothing is written

// `root`: the schema that holds the definitions; `example`: what stands in the field at first, undefined: nothing.
export function fieldFor(name, declared, root, { isNeeded, example }) {
  const schema = resolved(declared, root);
  const kinds = (schema.anyOf || [schema]).map((one) => resolved(one, root).type);
  const common = { name, id: `parameter-${name}`, "aria-describedby": schema.description ? `hint-${name}` : null,
    "aria-required": isNeeded ? "true" : null };
  const input = inputFor(schema, kinds, common, { isNeeded, example });
  usual.set(input, { kinds, value: schema.default ?? null });
  return el("div", {},
    el("label", { for: common.id, class: isNeeded ? "need" : null }, name),
    input,
    schema.description ? el("span", { class: "hint", id: `hint-${name}` }, schema.description) : null,
    isFile(name) ? uploader({ "aria-label": `Upload a file for ${name}` }, (filename) => {
      input.value = kinds.includes("array") ? JSON.stringify([filename]) : filename;
    }) : null);
}

const isFile = (name) => FILE_NAMES.includes(name);

function resolved(schema, root) {
  if (schema.$ref) return { ...resolved(root.$defs[schema.$ref.split("/").at(-1)], root), ...schema, $ref: undefined };
  const choices = (schema.anyOf || []).filter((one) => one.type !== "null");
  return choices.length === 1 ? { ...schema, ...resolved(choices[0], root), anyOf: undefined } : schema;
}

function inputFor(schema, kinds, common, { isNeeded, example }) {
  if (schema.enum) return choiceOf(schema, common, { isNeeded, example });
  if (kinds[0] === "boolean") return el("input", { ...common, type: "checkbox", checked: Boolean(example ?? schema.default) });
  const text = example === undefined ? "" : typeof example === "string" ? example : JSON.stringify(example);
  if (kinds.length === 1 && ["integer", "number"].includes(kinds[0])) {
    return el("input", { ...common, type: "number", step: kinds[0] === "integer" ? 1 : "any",
      min: schema.minimum, max: schema.maximum, value: text, placeholder: schema.default });
  }
  if (isFile(common.name)) return el("input", { ...common, value: text, list: "files" });
  const isLong = schema.maxLength > 1000 || LONG_TEXTS.includes(common.name) || !kinds.every((kind) => SIMPLE.includes(kind));
  return isLong ? el("textarea", { ...common, spellcheck: "false" }, text) : el("input", { ...common, value: text });
}

function choiceOf(schema, common, { isNeeded, example }) {
  const none = el("option", { value: "" }, schema.default == null ? "" : `${schema.default} (default)`);
  const options = schema.enum.map((one) => el("option", { value: one, selected: one === example }, one));
  return el("select", common, isNeeded ? [] : none, options);
}

// undefined: nothing was written, the default holds.
export function valueOf(input) {
  const { kinds, value: whenEmpty } = usual.get(input);
  if (input.type === "checkbox") return input.checked === whenEmpty ? undefined : input.checked;
  if (input.value === "") return undefined;
  if (input.type === "number") return Number(input.value);
  if (kinds.every((kind) => kind === "string" || kind === undefined)) return input.value;
  return meant(input.value, kinds);
}

// JSON where it is JSON of a kind that fits; else text; else a list with commas or lines between.
function meant(text, kinds) {
  try {
    const parsed = JSON.parse(text);
    if (typeof parsed === "object" || !kinds.includes("string")) return parsed;
  } catch { /* then it is text */ }
  if (kinds.includes("string") || !kinds.includes("array")) return text;
  return text.split(/[\n,]/).map((one) => one.trim()).filter(Boolean);
}
