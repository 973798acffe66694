// The bar of filters above the map and the connections. Each choice goes to the address bar.

import { choice, changed, go } from "./address.js";
import { clean, h } from "./dom.js";

export const STATES = ["attributed", "shared", "unknown", "ambiguous", "pending", "failed", "internal"];
const ORDERS = [
  ["", "Rate"],
  ["receiveRate", "Rate received"],
  ["transmitRate", "Rate sent"],
  ["bytes", "Total"],
  ["receiveBytes", "Total received"],
  ["transmitBytes", "Total sent"],
  ["openConnections", "Connections"],
];
const WINDOWS = [
  ["", "Live"],
  ["15m", "Last 15 minutes"],
  ["1h", "Last hour"],
  ["24h", "Last 24 hours"],
  ["7d", "Last 7 days"],
  ["custom", "From … to …"],
];
const AGO = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/; // how long ago
/** @type {Record<string, number>} */
const UNITS = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86400 };
const WAIT = 250; // milliseconds after the last key

/** @param {string[][]} options @param {string} label @param {string} chosen @param {(value: string) => void} change @param {boolean} [disabled] */
export function select(options, label, chosen, change, disabled = false) {
  const known = options.some(([value]) => value === chosen);
  const shown = known ? options : [...options, [chosen, clean(chosen)]];
  const made = h(
    "select",
    { on: { change: (/** @type {any} */ event) => change(event.target.value) }, disabled },
    shown.map(([value, text]) => h("option", { value, selected: value === chosen }, text)),
  );
  return h("label", {}, h("span", {}, label), made);
}

/** @param {string} label @param {string} param @param {string} placeholder @param {Record<string, any>} [more] */
export function typed(label, param, placeholder, more = {}) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let waiting;
  const input = /** @type {HTMLInputElement} */ (
    h("input", {
      ...more,
      placeholder,
      "data-param": param,
      autocomplete: "off",
      spellcheck: "false",
      maxlength: 500,
      on: {
        input: () => {
          clearTimeout(waiting);
          waiting = setTimeout(() => go(changed({ [param]: input.value.trim(), page: undefined }), true), WAIT);
        },
      },
    })
  );
  input.value = choice()[param] ?? "";
  return h("label", {}, h("span", {}, label), input);
}

/** Filters of the map. @param {{history: boolean, namespaces: string[]}} known */
export function mapFilters(known) {
  const chosen = choice();
  const change = (/** @type {string} */ param) => (/** @type {string} */ value) => go(changed({ [param]: value }));
  const namespaces = [["", "All"], ...known.namespaces.map((one) => [one, clean(one, 60)])];
  return h(
    "form",
    { class: "filters", role: "search", on: { submit: (/** @type {Event} */ event) => event.preventDefault() } },
    typed("Filter", "text", "kafka, orders, 10.0.0.9 …", { type: "search" }),
    (known.namespaces.length > 1 || chosen.namespace) && select(namespaces, "Namespace", chosen.namespace ?? "", change("namespace")),
    typed("Label", "label", "team=orders", { size: 12 }),
    select([["", "All"], ...STATES.map((state) => [state, state])], "State", chosen.state ?? "", change("state")),
    select(ORDERS, "Width", chosen.order ?? "", change("order")),
    select([["", "30"], ["60", "60"], ["120", "120"], ["200", "200"]], "Largest", chosen.limit ?? "", change("limit")),
    timeFilter(known.history),
  );
}

/** @param {boolean} history */
export function timeFilter(history) {
  const chosen = choice();
  const from = chosen.from ?? "";
  const custom = Boolean(from && (chosen.to || !AGO.test(from)));
  const windows = custom || WINDOWS.some(([value]) => value === from) ? WINDOWS : [...WINDOWS, [from, `Last ${clean(from, 20)}`]];
  const pick = (/** @type {string} */ value) => {
    if (value !== "custom") return go(changed({ from: value, to: undefined, compare: value ? chosen.compare : undefined }));
    const now = Date.now();
    go(changed({ from: new Date(now - 3600e3).toISOString(), to: new Date(now).toISOString() }));
  };
  return [
    h("span", { title: history ? null : "Windows of the past need history.path in the configuration." }, select(windows, "Time", custom ? "custom" : from, pick, !history && !chosen.from)),
    custom && [moment("From", "from", chosen.from ?? ""), moment("To", "to", chosen.to ?? "")],
    chosen.from &&
      h(
        "label",
        { class: "check" },
        h("input", { type: "checkbox", checked: Boolean(chosen.compare), on: { change: (/** @type {any} */ event) => go(changed({ compare: event.target.checked ? "1" : "" })) } }),
        h("span", {}, "Compare with the time before"),
      ),
  ];
}

/** A time as the API takes it: RFC 3339, seconds since the epoch, or how long ago. @param {string} time */
function instant(time) {
  const ago = AGO.exec(time);
  if (ago) return new Date(Date.now() - Number(ago[1]) * (UNITS[ago[2] ?? ""] ?? 0) * 1000);
  return new Date(/^\d+(\.\d+)?$/.test(time) ? Number(time) * 1000 : time || Date.now());
}

/** @param {string} label @param {string} param @param {string} time */
function moment(label, param, time) {
  const date = instant(time);
  const local = Number.isNaN(date.getTime()) ? "" : new Date(date.getTime() - date.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
  return h(
    "label",
    {},
    h("span", {}, label),
    h("input", { type: "datetime-local", value: local, on: { change: (/** @type {any} */ event) => event.target.value && go(changed({ [param]: new Date(event.target.value).toISOString() })) } }),
  );
}
