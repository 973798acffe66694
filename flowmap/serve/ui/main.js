// The frame of the page: views by the address, one stream, the line that says how live it is, and keys.

import { choice, go } from "./address.js";
import { ask, follow } from "./api.js";
import { connections } from "./connections.js";
import { count, duration, h, put } from "./dom.js";
import { explain } from "./explain.js";
import { overview } from "./overview.js";
import { state } from "./state.js";

const SILENT = 5000; // milliseconds; there is an update every second

/** @type {Record<string, (page: Page) => void>} */
const VIEWS = { map: overview, deployment: overview, peer: overview, connections, explain, state };
const part = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** What a view may use. Everything it started ends when another view is shown. */
export class Page {
  constructor() {
    this.root = part("view");
    /** @type {any} */ this.pulse = null;
    this.paused = false;
    this.missed = 0;
    /** @type {{history: boolean, namespaces: string[]}} */ this.known = { history: false, namespaces: [] };
    /** @type {AbortController} */ this.ending = new AbortController();
    /** @type {{parameters: any, events: Record<string, (data: any) => void>} | null} */ this.streaming = null;
    /** @type {AbortController | null} */ this.reading = null;
    this.receivedAt = 0;
  }

  history() {
    return Boolean(this.pulse?.history);
  }

  show() {
    const { view = "map" } = choice();
    this.ending.abort();
    this.stop();
    this.streaming = null;
    this.ending = new AbortController();
    for (const origin of ["stream", "ask"]) notice(origin, "");
    for (const link of document.querySelectorAll("[data-view]")) {
      if (link.getAttribute("data-view") === view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = view === "map" ? "flowmap" : `${view} – flowmap`;
    (VIEWS[view] ?? overview)(this);
    if (!this.streaming) this.stream({ events: "status" }, {});
  }

  /**
   * Ask once. `unless` may take a failure; otherwise the page shows it.
   * @param {string} path @param {Record<string, any>} parameters @param {(found: any) => void} answer @param {(failure: any) => boolean} [unless]
   */
  ask(path, parameters, answer, unless) {
    const { signal } = this.ending;
    ask(path, parameters, signal).then(
      (found) => signal.aborted || (notice("ask", lacking(found)), answer(found)),
      (failure) => signal.aborted || unless?.(failure) || notice("ask", failure.message),
    );
  }

  /** Do something again and again while the page is seen and not paused. @param {number} milliseconds @param {() => void} action */
  every(milliseconds, action) {
    const timer = setInterval(() => !this.paused && !document.hidden && action(), milliseconds);
    this.ending.signal.addEventListener("abort", () => clearInterval(timer));
  }

  /** Follow the stream while the page is seen and not paused. @param {Record<string, any>} parameters @param {Record<string, (data: any) => void>} events */
  stream(parameters, events) {
    this.streaming = { parameters, events };
    this.start();
  }

  start() {
    if (!this.streaming || this.reading || this.paused || document.hidden) return;
    const { parameters, events } = this.streaming;
    const reading = (this.reading = new AbortController());
    this.receivedAt = Date.now();
    const event = (/** @type {string} */ name, /** @type {any} */ data) => {
      if (reading.signal.aborted) return;
      this.receivedAt = Date.now();
      notice("stream", "");
      if (name === "status") this.status(data);
      else if (name === "missed") {
        this.missed = data.missed;
        if (this.pulse) this.status(this.pulse);
      }
      else events[name]?.(data);
    };
    const failed = (/** @type {any} */ failure, /** @type {number | null} */ again) => {
      notice("stream", failure.message);
      part("pulse").className = "bad";
      put(part("pulse"), again === null ? "stopped" : "reconnecting …");
    };
    void follow(parameters, { event, failed }, reading.signal);
  }

  /** Say so if the stream is silent: the daemon hangs, or the browser waits for a password. */
  watch() {
    const silent = Date.now() - this.receivedAt;
    if (!this.reading || silent < SILENT) return;
    part("pulse").className = "bad";
    put(part("pulse"), `no update for ${duration(Math.round(silent / 1000))}`);
  }

  stop() {
    this.reading?.abort();
    this.reading = null;
  }

  /** @param {any} pulse */
  status(pulse) {
    this.pulse = pulse;
    const line = part("pulse");
    line.className = pulse.ready && !pulse.lost && !pulse.shed ? "" : "warn";
    const age = pulse.counterAgeSeconds === null ? "" : `counters ${duration(pulse.counterAgeSeconds)} old`;
    const parts = [choice().from ? "the past" : "live", age, pulse.pendingFlows && `${count(pulse.pendingFlows)} pending`, `${count(pulse.lost)} lost`, pulse.overruns && `${count(pulse.overruns)} overruns`, pulse.shed && `${count(pulse.shed)} shed`, this.missed && `${count(this.missed)} updates missed here`];
    put(line, parts.filter(Boolean).join(" · "));
    const problems = part("problems");
    problems.hidden = !pulse.problems.length;
    put(problems, String(pulse.problems.length));
    problems.title = pulse.problems.join("\n").slice(0, 2000);
    put(part("version"), `${pulse.version}, ${pulse.source}`);
  }

  pause() {
    this.paused = !this.paused;
    part("pause").setAttribute("aria-pressed", String(this.paused));
    put(part("pause"), this.paused ? "Continue" : "Pause");
    if (!this.paused) return this.start();
    this.stop();
    put(part("pulse"), "paused");
  }
}

/** @type {Map<string, string>} */
const troubles = new Map();

/** Say what went wrong with the stream or with a question; an empty text takes only that origin's back. @param {string} origin @param {string} said */
function notice(origin, said) {
  troubles.set(origin, said);
  const text = [...new Set(troubles.values())].filter(Boolean).join(" ");
  const shown = part("notice");
  if (shown.hidden === !text && shown.textContent === text) return;
  shown.hidden = !text;
  put(shown, text && h("span", {}, text));
}

/** What an answer says that it lacks. @param {any} found @returns {string} */
function lacking(found) {
  return found.incomplete?.length ? `The answer is incomplete: ${found.incomplete.join("; ")}.` : "";
}

const page = new Page();

/** @param {KeyboardEvent} event */
function keys(event) {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    if (typing) /** @type {HTMLElement} */ (document.activeElement).blur();
    else if ((choice().view ?? "map") !== "map") go("/");
    return;
  }
  const filter = /** @type {HTMLElement | null} */ (document.querySelector("main .filters input"));
  /** @type {Record<string, () => void>} */
  const actions = { "/": () => filter?.focus(), m: () => go("/"), c: () => go("/?view=connections"), s: () => go("/?view=state"), p: () => page.pause(), "?": help };
  const action = typing ? undefined : actions[event.key];
  if (action) {
    event.preventDefault();
    action();
  }
}

function help() {
  part("keys").hidden = !part("keys").hidden;
  part("help").setAttribute("aria-expanded", String(!part("keys").hidden));
}

/** Links to views change the view without loading the page again. @param {MouseEvent} event */
function click(event) {
  const link = /** @type {HTMLAnchorElement | null} */ (/** @type {Element} */ (event.target).closest("a[href]"));
  const href = link?.getAttribute("href") ?? "";
  if (!/^\/(\?|$)/.test(href) || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(href);
  window.scrollTo(0, 0);
}

let shown = "";
/** Show the view of the address. A filter that is being typed keeps its place. */
function navigate() {
  const typing = document.activeElement?.getAttribute("data-param");
  const at = /** @type {HTMLInputElement | null} */ (document.activeElement)?.selectionStart ?? null;
  const view = choice().view ?? "map";
  page.show();
  const input = typing && shown === view ? /** @type {HTMLInputElement | null} */ (document.querySelector(`[data-param="${typing}"]`)) : null;
  input?.focus();
  input?.setSelectionRange?.(at, at);
  shown = view;
}

window.addEventListener("popstate", navigate);
window.addEventListener("navigate-view", navigate);
document.addEventListener("keydown", keys);
document.addEventListener("click", click);
document.addEventListener("visibilitychange", () => (document.hidden ? page.stop() : page.start()));
part("pause").addEventListener("click", () => page.pause());
part("help").addEventListener("click", help);
setInterval(() => page.watch(), 1000);
navigate();
