// Elements of the page. Every text of the service goes in as text, never as markup.

export const byId = (id) => document.getElementById(id);

// Attributes: on… is a listener, true an empty attribute; false and null leave it out.
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...present(children));
  return node;
}

const present = (children) => children.flat(Infinity).filter((child) => child != null && child !== false);

const shown = new WeakMap();

// Draws only when the facts differ from those shown, and leaves the keyboard and what is unfolded as they were.
export function paint(container, facts, draw) {
  const text = JSON.stringify(facts);
  if (shown.get(container) === text) return;
  shown.set(container, text);
  const focused = container.contains(document.activeElement) ? document.activeElement.id : "";
  const unfolded = [...container.querySelectorAll("details[open]")].map((one) => one.id);
  container.replaceChildren(...present([draw()]));
  for (const id of unfolded) byId(id)?.setAttribute("open", "");
  if (focused) byId(focused)?.focus({ preventScroll: true });
}

// The next paint draws, whatever is shown.
export const forget = (container) => shown.delete(container);

export function fill(select, names, chosen, { withAny = false } = {}) {
  const options = names.map((name) => el("option", { value: name, selected: name === chosen }, name));
  select.replaceChildren(...(withAny ? [el("option", { value: "" }, "any")] : []), ...options);
}

export const table = (head, rows, attributes = {}) => el("table", attributes,
  el("thead", {}, el("tr", {}, head.map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, rows));
