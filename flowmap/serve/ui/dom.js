// Elements, texts and figures. Texts from the daemon only ever become text nodes and attributes of text.

const SVG = "http://www.w3.org/2000/svg";
const LONGEST = 300;
// Control characters, direction marks and lone surrogates.
// eslint-disable-next-line no-control-regex
const UNSHOWN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|\p{Cs}/gu;

/** Text as it may be shown: without controls, and cut. @param {unknown} text @param {number} [longest] */
export function clean(text, longest = LONGEST) {
  const shown = String(text).replace(UNSHOWN, "");
  return shown.length > longest ? `${shown.slice(0, longest - 1)}…` : shown;
}

/**
 * An element. `on` has listeners, `class` and others are attributes; null and false are left out.
 * @param {string} tag @param {Record<string, any>} [given] @param {...any} children @returns {HTMLElement}
 */
export function h(tag, given = {}, ...children) {
  return /** @type {HTMLElement} */ (filled(document.createElement(tag), given, children));
}

/** The same for SVG. @param {string} tag @param {Record<string, any>} [given] @param {...any} children */
export function s(tag, given = {}, ...children) {
  return /** @type {SVGElement} */ (filled(document.createElementNS(SVG, tag), given, children));
}

/** @param {Element} element @param {Record<string, any>} given @param {any[]} children */
function filled(element, given, children) {
  set(element, given);
  for (const [event, listener] of Object.entries(given.on ?? {})) element.addEventListener(event, listener);
  put(element, ...children);
  return element;
}

/** Set attributes that differ. @param {Element} element @param {Record<string, any>} given */
export function set(element, given) {
  for (const [name, value] of Object.entries(given)) {
    if (name === "on") continue;
    if (value === null || value === undefined || value === false) element.removeAttribute(name);
    else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : String(value));
  }
}

/** Replace the children. @param {Element} element @param {...any} children */
export function put(element, ...children) {
  const nodes = children.flat(3).filter((child) => child !== null && child !== undefined && child !== false && child !== "");
  element.replaceChildren(...nodes.map((child) => (child instanceof Node ? child : document.createTextNode(clean(child)))));
}

/** A name from the control plane. @param {string} text */
export function name(text) {
  return h("bdi", { title: clean(text, 2000) }, text || "(no name)");
}

/** Bytes with a unit, as the commands print them. @param {number | null | undefined} count */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  let size = count;
  for (const unit of ["B", "kB", "MB", "GB", "TB", "PB"]) {
    if (Math.abs(size) < 999.95 || unit === "PB") return unit === "B" ? `${Math.round(size)} B` : `${size.toFixed(1)} ${unit}`;
    size /= 1000;
  }
  return "";
}

/** @param {number | null | undefined} perSecond */
export function rate(perSecond) {
  return perSecond === null || perSecond === undefined ? "–" : `${bytes(perSecond)}/s`;
}

/** @param {number} number */
export function count(number) {
  return number.toLocaleString("en");
}

/** Seconds in words. @param {number | null} seconds */
export function duration(seconds) {
  if (seconds === null) return "–";
  if (seconds > 0 && seconds < 0.1) return `${Number((seconds * 1000).toPrecision(2))} ms`;
  for (const [unit, size] of /** @type {[string, number][]} */ ([["d", 86400], ["h", 3600], ["min", 60]])) {
    if (seconds >= 2 * size) return `${Math.floor(seconds / size)} ${unit}`;
  }
  return `${Math.round(seconds * 10) / 10} s`;
}

/** A time of the API in the zone of the reader. @param {string | null} time @param {boolean} [millis] */
export function clock(time, millis = false) {
  if (!time) return "–";
  const date = new Date(time);
  const today = date.toDateString() === new Date().toDateString();
  const shown = date.toLocaleTimeString("en-GB") + (millis ? `.${String(date.getMilliseconds()).padStart(3, "0")}` : "");
  const day = `${date.getFullYear()}-${String(date.getMonth() + 1).padStart(2, "0")}-${String(date.getDate()).padStart(2, "0")}`;
  return h("time", { datetime: time, title: time }, today ? shown : `${day} ${shown}`);
}

/** @param {{ip: string, port: number} | null} end */
export function endpoint(end) {
  if (!end) return "–";
  const ip = end.ip.includes(":") && end.port ? `[${end.ip}]` : end.ip;
  return end.port ? `${ip}:${end.port}` : ip;
}

/** A word with the colour of a state. @param {string} state */
export function badge(state) {
  return h("span", { class: `badge ${state}` }, state);
}

/**
 * A table; columns that begin with # are numbers. Cells are nodes or texts.
 * @param {string} caption @param {string[]} columns @param {any[][]} rows @param {{sort?: string, link?: (column: string) => Node}} [more]
 */
export function table(caption, columns, rows, more = {}) {
  const head = columns.map((column) => {
    const plain = column.replace("#", "");
    const sorted = more.sort?.replace("-", "") === plain;
    const order = sorted ? (more.sort?.startsWith("-") ? "descending" : "ascending") : null;
    return h("th", { scope: "col", class: column.startsWith("#") ? "n" : null, "aria-sort": order }, more.link?.(plain) ?? plain);
  });
  const body = rows.map((row) =>
    h("tr", {}, row.map((cell, place) => h("td", { class: columns[place]?.startsWith("#") ? "n" : null }, cell))),
  );
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "hidden" }, caption), h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)),
  );
}
