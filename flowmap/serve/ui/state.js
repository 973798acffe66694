// The state of the daemon: what is degraded and how to mend it, lateness, calls, sources, losses.

import { bytes, clock, count, duration, h, put, table } from "./dom.js";

const EVERY = 3000;

/** @param {import("./main.js").Page} page */
export function state(page) {
  const body = h("div", { class: "state" });
  put(page.root, h("h1", { class: "hidden" }, "State"), body);
  const show = (/** @type {any} */ status) => {
    if (!body.querySelector("details[open], :focus")) put(body, sections(status, page.pulse));
  };
  page.stream({ events: "status" }, {});
  page.ask("status", {}, show);
  page.every(EVERY, () => page.ask("status", {}, show));
}

/** @param {any} status @param {any} pulse */
function sections(status, pulse) {
  const raw = h("pre", { tabindex: "0" });
  raw.textContent = JSON.stringify(status, null, 2);
  return [
    status.problems.length
      ? h("section", { class: "problems" }, h("h2", {}, `${status.problems.length} ${status.problems.length === 1 ? "problem" : "problems"}`), h("ul", {}, status.problems.map((/** @type {string} */ one) => h("li", {}, one))))
      : h("section", { class: "fine" }, h("h2", {}, "Nothing is degraded")),
    h("div", { class: "cards" }, cards(status, pulse)),
    h("h2", {}, "Sources"),
    table("Sources", ["Source", "Role", "State", "#Records", "#Overruns", "Lost", "Full reads", "Chosen because"], status.sources.map(source)),
    h("h2", {}, "Bytes"),
    table("Bytes", ["Part", "#Received", "#Sent"], Object.entries(status.bytes).map(([part, both]) => [part, bytes(both.receive), bytes(both.transmit)])),
    h("p", { class: status.conserved ? "faint" : "bad" }, status.conserved ? "Observed is the sum of the other parts, exactly." : "Observed is not the sum of the other parts: a defect."),
    status.attribution.contradictions.length ? contradictions(status.attribution.contradictions) : null,
    h("details", {}, h("summary", {}, "Raw state"), raw),
  ];
}

/** @type {Record<string, string>} */
const WAITS = { answer: "an answer", budget: "a call", outage: "the control plane to recover", proof: "traffic of the client", narrowing: "answers about both endpoints", judging: "the engine's next turns" };

/** @param {any} status @param {any} pulse */
function cards(status, pulse) {
  const { controlPlane: control, flows, history, attribution } = status;
  const waits = Object.entries(attribution.pendingFor).filter(([, number]) => number).map(([what, number]) => `${count(number)} for ${WAITS[what]}`);
  return [
    card("Lateness", pulse && pulse.counterAgeSeconds !== null ? `counters ${duration(pulse.counterAgeSeconds)} old` : "no counters yet", `${count(flows.pending)} flows without a decision${waits.length ? `: ${waits.join(", ")}` : ""}`),
    card("Flows", `${count(flows.open)} open`, h("meter", { value: flows.tracked, max: flows.limit, "aria-label": "flow table" }), ` ${count(flows.tracked)} of ${count(flows.limit)} rows`, pulse?.shed ? ` ${count(pulse.shed)} evicted or refused` : null),
    card("Calls", `${count(control.questionsWaiting)} waiting`, `${count(control.answers)} answered, ${count(control.questionsCached)} kept; last answer `, clock(control.lastAnswerAt), control.breakerOpen && h("strong", {}, " calls are suspended"), control.lastError && h("div", {}, `last failure: ${control.lastError}`)),
    card("Losses", pulse ? `${count(pulse.lost)} records lost` : "–", `${count(pulse?.overruns ?? 0)} overruns of the kernel's buffer`),
    card("History", history ? `${count(history.flows)} flows` : "off", history ? [`since `, clock(history.oldestAt), `, ${bytes(history.sizeBytes)} of ${bytes(history.limitBytes)}`] : "set history.path to look at the past"),
    card("Control plane", control.catalog ? `${count(control.catalog.deployments)} deployments` : "no catalog", control.endpoint, control.catalog?.ageSeconds ? `, listed ${duration(control.catalog.ageSeconds)} ago` : ""),
    card("Configuration", status.configuration?.lastReloadSuccessful === false ? "reload rejected" : "applied", status.configuration?.file ?? "from the environment", ", ", clock(status.configuration?.appliedAt ?? status.startedAt)),
  ];
}

/** @param {string} title @param {any} main @param {...any} more */
function card(title, main, ...more) {
  return h("section", { class: "card" }, h("h3", {}, title), h("p", { class: "main" }, main), h("p", { class: "faint" }, more));
}

/** @param {any} one */
function source(one) {
  const lost = Object.entries(one.lost).map(([reason, number]) => `${count(number)} ${reason}`).join(", ");
  const reads = Object.entries(one.resyncs).map(([reason, number]) => `${count(number)} ${reason}`).join(", ");
  return [one.name, one.role, one.up ? "up" : h("span", { class: "bad" }, `down: ${one.error ?? "not open"}`), count(one.records), count(one.overruns), lost || "none", reads, one.why];
}

/** @param {any[]} list */
function contradictions(list) {
  const names = (/** @type {any[]} */ owners) => owners.map((one) => one.name).join(", ") || "no deployment";
  return [
    h("h2", {}, "Contradictions"),
    table("Contradictions", ["At", "Question", "Named", "Answered", "#Flows"], list.slice(0, 20).map((one) => [clock(one.answeredAt), one.question, names(one.attributed), names(one.answered), count(one.flows)])),
  ];
}
